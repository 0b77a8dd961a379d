"""Sparse modes 0 to 8 in every layout, forward and backward, against the predicate of each mode in float64."""

import pytest
import torch
from ascend_calls import COMPRESSED, ORDERS, PREFIXED, check
from ascend_golden import Case, draw

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
Q_ENDS, KV_ENDS = (5, 5, 37, 38, 55), (7, 19, 60, 63, 90)  # lengths 5/7, 0/12, 32/41, 1/3, 17/27


def padded(B=2, N1=4, N2=2, Sq=37, Skv=53, D=40, Dv=24, dtype=torch.float32, **more):
    return Case(
        draw(B, N1, Sq, D, dtype=dtype),
        draw(B, N2, Skv, D, dtype=dtype),
        draw(B, N2, Skv, Dv, dtype=dtype),
        **more,
    )


def packed(ends=(Q_ENDS, KV_ENDS), N1=4, N2=2, D=32, Dv=24, tail=0, dtype=torch.float32, **more):
    rows, columns = ends[0][-1] + tail, ends[1][-1] + tail
    tensors = (
        draw(rows, N1, D, dtype=dtype),
        draw(columns, N2, D, dtype=dtype),
        draw(columns, N2, Dv, dtype=dtype),
    )
    return Case(*tensors, ends=ends, **more)


def mode_of(mode, layout, **more):
    """A case of this mode; shapes are those that show its edges."""
    make = packed if layout == "TND" else padded
    if mode in (0, 1):
        shape = (32, 41) if layout == "TND" else (37, 53)
        mask = torch.rand(shape) > 0.6
        return make(sparse_mode=mode, mask=mask, pre=20, next=6, **more)
    if mode == 4:
        return make(sparse_mode=mode, mask=COMPRESSED, pre=9, next=2, **more)
    if mode == 5:
        i, j = torch.arange(37).unsqueeze(1), torch.arange(53)
        mask = torch.stack([(j > i + 16) & (j >= n) for n in (20, 40)]).unsqueeze(1)
        return make(sparse_mode=mode, mask=mask, prefix=[20, 40], **more)
    if mode == 6:
        prefix = [2, 12, 41, 3, 15] if layout == "TND" else [16, 40]
        return make(sparse_mode=mode, mask=PREFIXED, prefix=prefix, **more)
    if mode == 7:
        return make(sparse_mode=mode, mask=COMPRESSED, pre=30, next=-4, **more)
    if mode == 8:
        return make(sparse_mode=mode, mask=COMPRESSED, pre=10, next=1, **more)
    return make(sparse_mode=mode, mask=COMPRESSED, **more)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ORDERS)
@pytest.mark.parametrize("mode", range(7))
def test_modes(mode, layout, dtype):
    check(mode_of(mode, layout, dtype=dtype), layout)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", [0, 1, 2, 3, 4, 6, 7, 8])
def test_modes_of_packed_sequences(mode, dtype):
    check(mode_of(mode, "TND", dtype=dtype, tail=3), "TND")


@pytest.mark.parametrize("mode", [0, 1, 2, 3, 4, 6])
def test_rows_that_see_nothing(mode):
    """More rows than columns: the first rows of modes 3, 4 and 6 see nothing."""
    words = dict(pre=4, next=3) if mode in (0, 4) else {}
    if mode in (0, 1):
        mask = torch.rand(53, 37) > 0.5
        mask[[0, 7, 52]] = True
    else:
        mask = PREFIXED if mode == 6 else COMPRESSED
    check(padded(Sq=53, Skv=37, sparse_mode=mode, mask=mask, prefix=[0, 3] if mode == 6 else None, **words))


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("form", [(), (1, 1), (2, 1), (2, 4)], ids=str)
@pytest.mark.parametrize("kind", [torch.bool, torch.uint8], ids=str)
def test_shapes_of_full_masks(mode, form, kind):
    check(padded(sparse_mode=mode, mask=(torch.rand(*form, 37, 53) > 0.6).to(kind)))


@pytest.mark.parametrize("form", [(2, 1), (2, 4)], ids=str)
def test_mode_5_is_what_the_mask_shows(form):
    mask = torch.rand(*form, 37, 53) > 0.6
    for prefix in (None, [20, 40], [1], [999, 999], [-1, 20]):
        check(padded(sparse_mode=5, mask=mask, prefix=prefix))
    check(padded(sparse_mode=5, mask=torch.rand(37, 53) > 0.5))
    check(padded(B=1, sparse_mode=5, mask=torch.rand(37, 53) > 0.5, prefix=[17]))


@pytest.mark.parametrize("form", [(2048, 2048), (1, 1, 2048, 2048), (3, 2, 2048, 2048)], ids=str)
@pytest.mark.parametrize("mode", [2, 3, 4])
def test_what_a_compressed_mask_holds_is_not_read(mode, form):
    mask = torch.zeros(form, dtype=torch.uint8)
    check(padded(sparse_mode=mode, mask=mask, pre=9, next=2))


def test_what_the_mask_of_prefixes_holds_is_not_read():
    for mask in (torch.zeros(3072, 2048, dtype=torch.uint8), PREFIXED[None, None]):
        check(padded(sparse_mode=6, mask=mask, prefix=[16, 53]))


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("form", [(32, 41), (1, 1, 32, 41), (55, 90)], ids=str)
def test_masks_of_packed_sequences(mode, form):
    check(packed(sparse_mode=mode, mask=torch.rand(form) > 0.5, pre=30, next=8, tail=2), "TND")


@pytest.mark.parametrize("form", [(3, 1), (1, 4), (3, 4)], ids=str)
def test_masks_per_sequence_and_head_of_equal_lengths(form):
    ends = (9, 18, 27), (11, 22, 33)
    check(packed(ends=ends, sparse_mode=1, mask=torch.rand(*form, 9, 11) > 0.5), "TND")


def test_masks_are_read_with_their_strides():
    mask = (torch.rand(53, 37) > 0.5).t()
    wide = (torch.rand(2, 4, 40, 60) > 0.5)[:, :, :37, :53]
    for given in (mask, wide):
        check(padded(sparse_mode=1, mask=given))


def test_sequences_that_end_in_padding():
    check(packed(ends=((3, 8, 8, 8), (4, 9, 9, 9)), sparse_mode=3, mask=COMPRESSED), "TND")
    case = packed(ends=((3, 8), (4, 9)), sparse_mode=3, mask=COMPRESSED)
    wanted = check(case, "TND")
    words = dict(actual_seq_qlen=[3, 8, 0, 0], actual_seq_kvlen=[4, 9, 0, 0])
    got = check(case, "TND", by_hand=False, **words)
    assert all(torch.equal(a, b) for a, b in zip(got[:3], wanted[:3])) and got[6] == wanted[6]


def test_sequences_without_columns():
    check(packed(ends=((4, 9, 12), (6, 6, 15)), sparse_mode=2, mask=COMPRESSED), "TND")
    check(packed(ends=((4, 9), (0, 0))), "TND")


def test_the_band_of_a_cut_lies_in_the_last_sequence_with_rows():
    """The example of the contract, and the same with an empty sequence behind."""
    for ends in (((3, 5), (3, 9)), ((3, 5, 5), (3, 9, 12))):
        check(packed(ends=ends, sparse_mode=7, mask=COMPRESSED, pre=6, next=-2), "TND")


def test_the_band_of_a_cut_lies_in_the_first_sequence_with_rows():
    for ends in (((3, 8, 12), (4, 9, 13)), ((0, 3, 8), (2, 6, 11))):
        check(packed(ends=ends, sparse_mode=8, mask=COMPRESSED, pre=4, next=1), "TND")


def test_the_diagonal_alone():
    check(padded(Sq=40, Skv=40, sparse_mode=4, mask=COMPRESSED, pre=3, next=-3))
    check(packed(ends=((9, 20), (9, 20)), sparse_mode=4, mask=COMPRESSED, pre=0, next=0), "TND")
