"""pse types 0 to 3 in all their shapes, compressed ALiBi, start indices: forward and backward, in float64."""

import pytest
import torch
from ascend_calls import COMPRESSED, ORDERS, check, run
from ascend_golden import draw
from test_like_torch_npu_modes import DTYPES, KV_ENDS, packed, padded

SLOPES = torch.tensor([0.5, 0.25, 0.125, 0.0625])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("pse_type", [0, 1])
@pytest.mark.parametrize("form", [(2, 4, 37), (1, 4, 37), (2, 4, 1)], ids=str)
def test_shapes(form, pse_type, dtype):
    check(padded(pse=draw(*form, 53, dtype=dtype), pse_type=pse_type, dtype=dtype))


@pytest.mark.parametrize("layout", ORDERS)
@pytest.mark.parametrize("pse_type", [0, 1, 2, 3])
def test_layouts(layout, pse_type):
    pse = SLOPES if pse_type > 1 else draw(2, 4, 45, 45)
    check(padded(Sq=45, Skv=45, pse=pse, pse_type=pse_type, sparse_mode=3, mask=COMPRESSED), layout)


@pytest.mark.parametrize("mode", [0, 1, 2, 4, 5])
def test_with_masks(mode):
    mask = torch.rand(2, 1, 37, 53) > 0.5 if mode in (0, 1, 5) else COMPRESSED
    check(padded(pse=draw(2, 4, 37, 53), sparse_mode=mode, mask=mask, pre=9, next=5))


def test_a_repeated_row_of_one_sequence():
    check(padded(B=1, pse=draw(1, 4, 1, 53), pse_type=0))


def test_strides_of_a_pse_are_read():
    check(padded(pse=draw(53, 2, 4, 37).permute(1, 2, 3, 0)))
    check(padded(pse=draw(2, 4, 40, 60)[:, :, :37, 2:55]))
    check(padded(pse=draw(1, 4, 1, 1).expand(2, 4, 37, 53)))
    check(packed(pse=draw(4 * KV_ENDS[-1], 2, 1, 1)[:, 1:]), "TND")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("pse_type", [0, 1])
def test_packed_matrices_and_rows(pse_type, dtype):
    scores = sum(a * b for a, b in ((5, 7), (0, 12), (32, 41), (1, 3), (17, 27)))
    for pse in (
        draw(4 * scores, dtype=dtype),
        draw(4 * scores, 1, dtype=dtype),
        draw(4 * KV_ENDS[-1], dtype=dtype),
    ):
        case = packed(pse=pse, pse_type=pse_type, dtype=dtype, tail=2, sparse_mode=2, mask=COMPRESSED)
        check(case, "TND")


def alibi(slopes, rows):
    """-slope * |i - j| of a causal ALiBi, [1, N, rows, rows]."""
    i, j = torch.arange(rows).unsqueeze(1), torch.arange(rows)
    return -(slopes.view(1, -1, 1, 1) * (i - j).abs())


@pytest.mark.parametrize("pse_type", [0, 1])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("mode", [0, 2, 3])
def test_compressed_alibi_is_the_full_one(mode, batch, pse_type):
    slopes = SLOPES[:2] / 64
    full = torch.cat([alibi(slopes * (b + 1), 1200) for b in range(batch)])
    mask = COMPRESSED[:1200, :1200] if mode == 0 else COMPRESSED
    words = dict(
        B=2, N1=2, N2=1, Sq=1200, Skv=1200, D=16, Dv=16, sparse_mode=mode, mask=mask, pse_type=pse_type
    )
    case = padded(**words | (dict(next=0) if mode == 0 else {}), pse=full[:, :, -1024:])
    got, leaves = run(case)
    case.pse = full
    want, want_leaves = run(case)
    assert all(torch.equal(a, b) for a, b in zip(got[:3], want[:3]))
    dy = draw(*got[0].shape)
    found = torch.autograd.grad(got[0], [*leaves.values()], dy)
    assert all(map(torch.equal, found, torch.autograd.grad(want[0], [*want_leaves.values()], dy)))


def test_compressed_alibi_against_the_formula():
    case = padded(B=1, N1=2, N2=1, Sq=1100, Skv=1100, D=16, Dv=16, sparse_mode=2, mask=COMPRESSED, pse_type=0)
    case.pse = alibi(SLOPES[:2] / 64, 1100)[:, :, -1024:]
    check(case)


@pytest.mark.parametrize("ends", [(40, 40, 111), (1100, 1130)], ids=str)
@pytest.mark.parametrize("batch", [1, None])
@pytest.mark.parametrize("mode", [2, 3])
def test_compressed_alibi_of_packed_sequences(mode, batch, ends):
    """Its 1024 rows end where the longest sequence ends, which may be shorter or longer."""
    longest = max(b - a for a, b in zip((0, *ends), ends))
    count = batch or len(ends)
    row, column = torch.arange(1024).unsqueeze(1), torch.arange(longest)
    distance = (row + longest - 1024 - column).abs()
    pse = -torch.stack([SLOPES[:2].view(-1, 1, 1) / 64 * (b + 1) * distance for b in range(count)])
    case = packed(
        ends=(ends, ends), N1=2, N2=1, D=16, Dv=16, sparse_mode=mode, mask=COMPRESSED, pse=pse, pse_type=0
    )
    check(case, "TND")


def test_compressed_alibi_of_packed_sequences_with_a_causal_full_mask():
    ends = (30, 57)
    row, column = torch.arange(1024).unsqueeze(1), torch.arange(30)
    pse = (-SLOPES.view(1, -1, 1, 1) * (row + 30 - 1024 - column).abs()).expand(2, 4, 1024, 30)
    mask = COMPRESSED[:30, :30]
    check(packed(ends=(ends, ends), sparse_mode=0, mask=mask, next=0, pse=pse, pse_type=0), "TND")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("pse_type", [2, 3])
@pytest.mark.parametrize("per_sequence", [False, True])
def test_generated_alibi(per_sequence, pse_type, dtype):
    slopes = torch.stack((SLOPES, SLOPES / 3)) if per_sequence else SLOPES
    some = (None, (7, 5))
    for starts in (*some, (2, 0), (0, 3), (-4, 9)) if dtype == torch.float32 else some:
        check(padded(Sq=45, Skv=45, pse=slopes, pse_type=pse_type, starts=starts, dtype=dtype))


def test_one_start_list_alone_counts_for_nothing():
    case = padded(Sq=45, Skv=45, pse=SLOPES, pse_type=2)
    plain = run(case)[0]
    for words in (dict(q_start_idx=[5]), dict(kv_start_idx=[5]), dict(q_start_idx=[5], kv_start_idx=[])):
        assert torch.equal(run(case, **words)[0][0], plain[0])
    assert not torch.equal(run(case, q_start_idx=[5, 9], kv_start_idx=[0])[0][0], plain[0])


@pytest.mark.parametrize("pse_type", [2, 3])
@pytest.mark.parametrize("mode", [None, 2, 3, 8])
def test_generated_alibi_of_packed_sequences(mode, pse_type):
    """Mode 8: the starts are those of the first sequence, whose lengths they make equal."""
    q_ends, kv_ends = ((5, 37, 37, 54), (8, 40, 40, 57)) if mode == 8 else ((5, 37, 37, 54),) * 2
    words = dict(sparse_mode=mode, mask=COMPRESSED) if mode else {}
    words |= dict(next=2) if mode == 8 else {}
    case = packed(ends=(q_ends, kv_ends), pse=SLOPES, pse_type=pse_type, starts=(4, 1), **words, tail=1)
    check(case, "TND")


def test_generated_alibi_is_the_outer_one():
    i = torch.arange(45)
    case = padded(Sq=45, Skv=45, pse=SLOPES, pse_type=2)
    got = run(case)[0]
    case.pse, case.pse_type = -(SLOPES.view(1, -1, 1, 1) * (i - i.unsqueeze(1)).abs()), 0
    torch.testing.assert_close(run(case)[0][0], got[0], rtol=1e-6, atol=1e-6)


def test_the_gradient_of_pse_is_zeros():
    pse = draw(2, 4, 37, 53).requires_grad_()
    case = padded(pse=pse)
    out = run(case)[0][0]
    out.sum().backward()
    assert pse.grad.shape == pse.shape and not pse.grad.any()


def test_modes_that_take_pse_in_a_cut():
    """Mode 8 takes an outer pse, mode 7 none."""
    case = packed(ends=((5, 37), (7, 40)), sparse_mode=8, mask=COMPRESSED, pre=7, next=1, pse=draw(4 * 40))
    check(case, "TND")
    case.sparse_mode, case.pre, case.next = 7, 40, -1
    with pytest.raises(RuntimeError, match="561002: pse is given with sparse_mode 7"):
        run(case, "TND")


def test_pse_that_hides_a_column():
    pse = torch.zeros(2, 4, 37, 53)
    pse[..., 3:9] = -torch.inf
    hidden = torch.zeros(37, 53, dtype=torch.bool)
    hidden[:, 3:9] = True
    case = padded(pse=pse, pse_type=0)
    got = run(case)[0]
    case.pse, case.pse_type, case.mask, case.sparse_mode = None, 1, hidden, 1
    for a, b in zip(got[:3], run(case)[0][:3]):
        torch.testing.assert_close(a, b)
