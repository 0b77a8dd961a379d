"""speed_fusion_attention: its seven results against the formula, and dropout from MindSpore's generator."""

import mindspore
import numpy as np
import pytest
from fusedattn.like.mindspore import speed_fusion_attention
from golden import LARGEST, LOWEST, Case, assert_close, philox_keeps, seen_by
from layouts import LAYOUTS, array, draw, folded, packed, rounded, tensor
from mindspore import Tensor

COMPRESSED = Tensor(np.triu(np.ones((2048, 2048), np.uint8), 1))
B, N, N2, SQ, SKV, D, DV = 2, 4, 2, 24, 40, 32, 16
SCALE = D**-0.5


def drawn(dtype="float32", q_len=SQ, **more):
    shapes = (B, N, q_len, D), (B, N2, SKV, D), (B, N2, SKV, DV)
    return Case(*(draw(*shape, dtype=dtype) for shape in shapes), SCALE, **more)


def call(case, layout="BNSD", dtype="float32", **given):
    tensors = (tensor(folded(part, layout), dtype) for part in (case.q, case.k, case.v))
    return speed_fusion_attention(*tensors, N, layout, scale=SCALE, **given)


def check(case, layout="BNSD", dtype="float32", **given):
    out, softmax_max, softmax_sum, softmax_out, *_ = call(case, layout, dtype, **given)
    want, want_max, want_sum = case.forward()
    assert str(out.dtype).lower() == str(softmax_out.dtype).lower() == dtype and softmax_out.shape == (0,)
    assert_close(array(out), dtype, folded(want, layout))
    for got, wanted in ((softmax_max, want_max), (softmax_sum, want_sum)):
        assert got.dtype == mindspore.float32 and got.shape == (*case.q.shape[:3], 8)
        assert (got == got[..., :1]).all()
        np.testing.assert_allclose(got[..., 0].asnumpy(), wanted.astype(np.float32), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_types(layout, dtype):
    check(drawn(dtype), layout, dtype)


@pytest.mark.parametrize("mode", [2, 3])
def test_causal_modes(mode):
    check(drawn(seen=seen_by(mode, SQ, SKV)), atten_mask=COMPRESSED, sparse_mode=mode)


def test_prefix_of_mode_6():
    seen = seen_by(3, SQ, SKV) | (np.arange(SKV) < np.array([18, 30]).reshape(B, 1, 1, 1))
    mask = Tensor(np.zeros((3072, 2048), np.uint8))
    check(drawn(seen=seen), atten_mask=mask, sparse_mode=6, prefix=[18, 30])


def test_without_mask_nothing_is_hidden():
    check(drawn(), sparse_mode=3)


def test_rows_that_see_nothing():
    hidden = np.zeros((SQ, SKV), bool)
    hidden[7] = True
    case = drawn(seen=~hidden)
    check(case, atten_mask=Tensor(hidden))
    _, softmax_max, softmax_sum, *_ = call(case, atten_mask=Tensor(hidden))
    assert (softmax_max[:, :, 7] == LOWEST).all() and (softmax_sum[:, :, 7] == LARGEST).all()


def test_shift_before_and_after_the_scale():
    shift = draw(B, N, SQ, SKV)
    check(drawn(before_scale=shift), pse=tensor(shift))
    check(drawn(after_scale=shift), pse=tensor(shift), pse_type=0)
    row = draw(B, N, 1, SKV)
    check(drawn(after_scale=row), pse=tensor(row), pse_type=0)


@pytest.mark.parametrize("starts", [None, (3, 1)])
@pytest.mark.parametrize("pse_type", [2, 3])
def test_generated_alibi(pse_type, starts):
    slopes = rounded(np.random.rand(N), "float32")
    q_start, kv_start = starts or (0, 0)
    row, column = np.indices((SKV, SKV))
    distance = np.abs(column + kv_start - row - q_start)
    shift = -slopes.reshape(1, N, 1, 1) * (distance if pse_type == 2 else np.sqrt(distance))
    given = {} if starts is None else dict(q_start_idx=[q_start], kv_start_idx=(kv_start,))
    check(drawn(q_len=SKV, after_scale=shift), pse=tensor(slopes), pse_type=pse_type, **given)


def numbers(results):
    return tuple(int(number.asnumpy()[0]) for number in results[4:])


def test_seed_offset_and_numels():
    mindspore.manual_seed(77)
    case = drawn()
    for calls in range(3):
        results = call(case)
        assert all(number.shape == (1,) and number.dtype == mindspore.int64 for number in results[4:])
        assert numbers(results) == (77, 12 * calls, B * N * SQ * SKV)


@pytest.mark.parametrize("keep_prob", [0.9, 0.5, 1 / 3])
def test_dropout_is_the_documented_stream(keep_prob):
    mindspore.manual_seed(1234567890123)
    for offset in (0, 12):
        keeps = philox_keeps(B * N * SQ * SKV, keep_prob, 1234567890123, offset).reshape(B, N, SQ, SKV)
        assert abs(keeps.mean() - keep_prob) < 0.03
        check(drawn(factor=keeps / np.float64(np.float32(keep_prob))), "BSH", keep_prob=keep_prob)


def test_a_seed_gives_the_same_results_again():
    case = drawn()
    mindspore.manual_seed(5)
    first, second = (call(case, keep_prob=0.5)[0] for _ in range(2))
    mindspore.manual_seed(5)
    again = call(case, keep_prob=0.5)[0]
    assert (first == again).all() and not (first == second).all()


def test_gradients_with_dropout():
    mindspore.manual_seed(9)
    keeps = philox_keeps(B * N * SQ * SKV, 0.8, 9, 0).reshape(B, N, SQ, SKV)
    case = drawn(seen=seen_by(3, SQ, SKV), factor=keeps / np.float64(np.float32(0.8)))
    d_out = draw(B, N, SQ, DV)

    def loss(q, k, v):
        given = dict(scale=SCALE, keep_prob=0.8, atten_mask=COMPRESSED, sparse_mode=3)
        return (speed_fusion_attention(q, k, v, N, "BNSD", **given)[0] * tensor(d_out)).sum()

    found = mindspore.grad(loss, (0, 1, 2))(*(tensor(part) for part in (case.q, case.k, case.v)))
    for got, want in zip(found, case.backward(d_out)):
        assert_close(array(got), "float32", want, slack=2.0)


def test_statistics_have_no_gradient():
    case = drawn()
    parts = [tensor(part) for part in (case.q, case.k, case.v)]
    found = mindspore.grad(lambda q: speed_fusion_attention(q, *parts[1:], N, "BNSD")[1].sum())(parts[0])
    assert not found.any()


def test_packed_sequences():
    """Statistics lie in memory one block [N, length, 8] after another."""
    lengths = ((8, 16), (5, 3), (0, 4), (16, 24))
    cases = [Case(draw(1, N, q, D), draw(1, N2, kv, D), draw(1, N2, kv, DV), SCALE) for q, kv in lengths]
    tensors = (tensor(packed([getattr(case, name) for case in cases])) for name in "qkv")
    ends = dict(actual_seq_qlen=[8, 13, 13, 29], actual_seq_kvlen=(16, 19, 23, 47))
    out, softmax_max, softmax_sum, *rest = speed_fusion_attention(*tensors, N, "TND", scale=SCALE, **ends)
    assert_close(array(out), "float32", packed([case.forward()[0] for case in cases]))
    assert softmax_max.shape == (29, N, 8)
    for which, got in ((1, softmax_max), (2, softmax_sum)):
        blocks = np.concatenate([case.forward()[which].reshape(-1) for case in cases])
        np.testing.assert_allclose(
            got.asnumpy().reshape(-1, 8), blocks[:, None].repeat(8, 1), rtol=1e-4, atol=1e-4
        )
    assert int(rest[-1].asnumpy()[0]) == N * (8 * 16 + 5 * 3 + 16 * 24)
