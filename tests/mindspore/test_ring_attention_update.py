"""ring_attention_update against its formula and the known answers of its contract, and what it refuses."""

import mindspore
import numpy as np
import pytest
from fusedattn.like.mindspore import ring_attention_update, speed_fusion_attention
from fusedattn.like.mindspore.rules_ring import ROWS, Update
from golden import LARGEST, LOWEST, assert_close
from layouts import array, draw, folded, rounded, tensor
from mindspore import Tensor

# max, sum and output of both sides, then of the result (docs: double precision)
KNOWN = [
    ((1, 2, (1, -2, 0.5, 4)), (3, 0.5, (0.25, 8, -1, 0)), (3, 0.770670566, (0.513410767, 4.48785644, -0.473178466, 1.40485742))),
    ((-5, 100, (1, 2, 3, 4)), (-5, 100, (3, 2, 1, 0)), (-5, 200, (2, 2, 2, 2))),
    ((LOWEST, 7, (9, 9, 9, 9)), (0.25, 3, (1, 2, 3, 4)), (0.25, 3, (1, 2, 3, 4))),
    ((0, 1, (1, 1, 1, 1)), (200, 1, (2, 2, 2, 2)), (200, 1, (2, 2, 2, 2))),
    ((-np.inf, 0, (0, 0, 0, 0)), (0.5, 2, (1, 2, 3, 4)), (0.5, 2, (1, 2, 3, 4))),
    ((LOWEST, LARGEST, (0, 0, 0, 0)), (LOWEST, LARGEST, (0, 0, 0, 0)), (LOWEST, LARGEST, (0, 0, 0, 0))),
]  # fmt: skip


def merged(prev, cur):
    """(out, max, sum) of two such, outputs [..., D], statistics [...], float64."""
    top = np.maximum(prev[1], cur[1])
    weights = [part[2] * np.exp(part[1] - top) for part in (prev, cur)]
    total = weights[0] + weights[1]
    out = sum(part[0] * (weight / total)[..., None] for part, weight in zip((prev, cur), weights))
    return out, top, total


def lanes(statistic):
    return tensor(np.repeat(statistic[..., None], 8, -1))


def drawn(*rows, dim, dtype):
    """(out, max, sum) over these rows."""
    return (
        draw(*rows, dim, dtype=dtype),
        rounded(np.random.uniform(-9, 9, rows), "float32"),
        rounded(np.random.uniform(1, 50, rows), "float32"),
    )


@pytest.mark.parametrize(("prev", "cur", "want"), KNOWN)
def test_known_answers(prev, cur, want):
    def given(row_max, row_sum, out):
        statistics = (np.full((1, 1, 1, 8), number, np.float32) for number in (row_max, row_sum))
        return Tensor(np.array(out, np.float32).reshape(1, 1, 4)), *map(Tensor, statistics)

    out, row_max, row_sum = ring_attention_update(*given(*prev), *given(*cur))
    np.testing.assert_allclose(out.asnumpy().reshape(-1), want[2], rtol=1e-6)
    np.testing.assert_allclose(row_max.asnumpy().reshape(-1), [want[0]] * 8, rtol=1e-6)
    np.testing.assert_allclose(row_sum.asnumpy().reshape(-1), [want[1]] * 8, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("sizes", [(4, 6, 8, 2), (13, 2, 3, 24)], ids=str)
def test_sbh(sizes, dtype):
    rows, batch, heads, dim = sizes
    parts = [drawn(batch, heads, rows, dim=dim, dtype=dtype) for _ in range(2)]
    given = [
        t for part in parts for t in (tensor(folded(part[0], "SBH"), dtype), lanes(part[1]), lanes(part[2]))
    ]
    out, row_max, row_sum = ring_attention_update(*given)
    want = merged(*parts)
    assert str(out.dtype).lower() == dtype
    assert_close(array(out), dtype, folded(want[0], "SBH"))
    for got, wanted in ((row_max, want[1]), (row_sum, want[2])):
        assert got.shape == (batch, heads, rows, 8) and (got == got[..., :1]).all()
        np.testing.assert_allclose(got[..., 0].asnumpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("starts", [(0, 7), (0, 2, 2, 5, 7)], ids=str)
def test_tnd(starts, dtype):
    tokens, heads, dim = 7, 3, 64
    parts = [drawn(tokens, heads, dim=dim, dtype=dtype) for _ in range(2)]

    def blocks(statistic):
        """[T, N] as attention leaves it in memory: [N, length] of each sequence."""
        pieces = [statistic[begin:end].T.reshape(-1) for begin, end in zip(starts, starts[1:])]
        return np.concatenate(pieces).reshape(tokens, heads)

    given = [
        t for part in parts for t in (tensor(part[0], dtype), lanes(blocks(part[1])), lanes(blocks(part[2])))
    ]
    out, row_max, row_sum = ring_attention_update(*given, Tensor(starts, mindspore.int64), "TND")
    want = merged(*parts)
    assert_close(array(out), dtype, want[0])
    for got, wanted in ((row_max, want[1]), (row_sum, want[2])):
        np.testing.assert_allclose(got[..., 0].asnumpy(), blocks(wanted), rtol=1e-6)


def test_joins_what_attention_gives():
    """Attention over all keys is attention over the first and over the rest, joined."""
    q, k, v = draw(2, 4, 9, 16), draw(2, 4, 30, 16), draw(2, 4, 30, 16)

    def attended(first, last):
        parts = (tensor(folded(part, "SBH")) for part in (q, k[:, :, first:last], v[:, :, first:last]))
        return speed_fusion_attention(*parts, 4, "SBH")[:3]

    for got, want in zip(ring_attention_update(*attended(0, 11), *attended(11, 30)), attended(0, 30)):
        np.testing.assert_allclose(got.asnumpy(), want.asnumpy(), rtol=2e-5, atol=2e-6)


def test_views_and_nan():
    parts = [drawn(2, 3, 5, dim=4, dtype="float32") for _ in range(2)]
    parts[0][1][1, 2, 3] = np.nan
    given = []
    for out, row_max, row_sum in parts:
        given.append(tensor(folded(out, "SBH").swapaxes(0, 1)).swapaxes(0, 1))
        given += [tensor(lanes(s).asnumpy().swapaxes(0, 2)).swapaxes(0, 2) for s in (row_max, row_sum)]
    assert not any(t.is_contiguous() for t in given)
    out, row_max, row_sum = ring_attention_update(*given)
    wanted = merged(*parts)
    np.testing.assert_allclose(out.asnumpy(), folded(wanted[0], "SBH"), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(row_max[..., 0].asnumpy(), wanted[1], rtol=1e-6)
    np.testing.assert_allclose(row_sum[..., 0].asnumpy(), wanted[2], rtol=1e-6)


def ones(*shape, dtype="float16"):
    return tensor(np.ones(shape), dtype)


def six(out, statistic):
    return dict(
        prev_attn_out=out, prev_softmax_max=statistic, prev_softmax_sum=statistic,
        cur_attn_out=out, cur_softmax_max=statistic, cur_softmax_sum=statistic,
    )  # fmt: skip


def packed(heads=2, dim=64, dtype="float16", starts=(0, 2, 4)):
    given = six(ones(4, heads, dim, dtype=dtype), ones(4, heads, 8, dtype="float32"))
    return given | dict(
        layout="TND", actual_seq_qlen=None if starts is None else Tensor(starts, mindspore.int64)
    )


OUT, STATISTIC = ones(2, 1, 64), ones(1, 2, 2, 8, dtype="float32")
REFUSED = [
    (TypeError, dict(prev_attn_out=np.ones((2, 1, 64))), "prev_attn_out is a ndarray"),
    (TypeError, dict(cur_softmax_sum=None), "cur_softmax_sum is a NoneType"),
    (TypeError, dict(actual_seq_qlen=(0, 2)), "actual_seq_qlen is a tuple; accepted: None or an int64 Tensor"),
    (TypeError, packed() | dict(actual_seq_qlen=Tensor([0, 4], mindspore.int32)), "actual_seq_qlen has dtype int32"),
    (TypeError, dict(layout=3), "layout is 3"),
    (ValueError, dict(layout="BSH"), "layout is 'BSH'; accepted: SBH, TND"),
    (TypeError, dict(prev_attn_out=OUT.astype(mindspore.int32)), "prev_attn_out has dtype int32"),
    (TypeError, dict(cur_attn_out=OUT.astype(mindspore.float32)), "cur_attn_out has dtype float32, prev_attn_out float16"),
    (TypeError, dict(cur_softmax_max=STATISTIC.astype(mindspore.float16)), "cur_softmax_max has dtype float16"),
    (ValueError, dict(prev_attn_out=ones(2, 64)), r"prev_attn_out has shape \[2, 64\] with layout SBH"),
    (ValueError, dict(prev_softmax_max=ones(1, 2, 2, dtype="float32")), "prev_softmax_max has shape"),
    (ValueError, dict(cur_attn_out=ones(3, 1, 64)), r"cur_attn_out has shape \[3, 1, 64\], prev_attn_out has shape"),
    (ValueError, dict(cur_softmax_sum=ones(1, 2, 3, 8, dtype="float32")), "cur_softmax_sum has shape"),
    (ValueError, six(OUT, ones(1, 2, 2, 7, dtype="float32")), r"prev_softmax_max has shape \[1, 2, 2, 7\]"),
    (ValueError, six(OUT, ones(1, 2, 3, 8, dtype="float32")), "prev_attn_out has shape"),
    (ValueError, six(OUT, ones(1, 3, 2, 8, dtype="float32")), "prev_attn_out has shape"),
    (RuntimeError, six(ones(2, 1, 0), STATISTIC), "prev_attn_out has shape"),
    (RuntimeError, packed(dim=32), "prev_attn_out has head size 32; accepted: multiples of 64"),
    (RuntimeError, packed(starts=None), "actual_seq_qlen is None with layout TND"),
    (RuntimeError, packed(starts=(2, 4)), r"actual_seq_qlen is \[2, 4\] for 4 tokens"),
    (RuntimeError, packed(starts=(0, 3, 2, 4)), r"actual_seq_qlen is \[0, 3, 2, 4\]"),
    (RuntimeError, packed(starts=(0, 3)), r"actual_seq_qlen is \[0, 3\]"),
    (RuntimeError, packed(starts=((0, 4),)), "actual_seq_qlen has shape"),
    (RuntimeError, packed(heads=72, dim=128), "prev_attn_out has shape .* which takes 216576 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("exception", "given", "sentence"), REFUSED, ids=[row[2] for row in REFUSED])
def test_refused(exception, given, sentence):
    with pytest.raises(exception, match=sentence) as caught:
        ring_attention_update(**six(OUT, STATISTIC) | given)
    assert type(caught.value) is exception


def test_every_row_of_the_table_has_a_test():
    def row_of(given):
        given = six(OUT, STATISTIC) | given
        lengths, layout = given.pop("actual_seq_qlen", None), given.pop("layout", "SBH")
        if not all(isinstance(tensor, Tensor) for tensor in given.values()):
            return None
        return next(row for row in ROWS if row[2](Update(given, lengths, layout)))

    assert {row_of(given) for _, given, _ in REFUSED} == {None, *ROWS}


@pytest.mark.parametrize(("heads", "dtype"), [(64, "float16"), (32, "float32")])
def test_the_largest_of_the_device(heads, dtype):
    assert ring_attention_update(**packed(heads=heads, dim=128, dtype=dtype))[0].shape == (4, heads, 128)
