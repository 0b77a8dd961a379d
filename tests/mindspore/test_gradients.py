"""Gradients under mindspore.grad and value_and_grad against the formula's, and those against finite differences."""

import mindspore
import numpy as np
import pytest
from fusedattn.like.mindspore import flash_attention_score
from golden import Case, assert_close, seen_by
from layouts import LAYOUTS, array, draw, folded, packed, tensor
from mindspore import Tensor, nn, ops

COMPRESSED = Tensor(np.triu(np.ones((2048, 2048), np.uint8), 1))
B, N, N2, SQ, SKV, D = 2, 4, 2, 24, 40, 16
SCALE = D**-0.5


def drawn(dtype="float32", **more):
    q, k, v = draw(B, N, SQ, D, dtype=dtype), *(draw(B, N2, SKV, D, dtype=dtype) for _ in range(2))
    return Case(q, k, v, SCALE, **more)


def check(case, layout="BNSD", dtype="float32", **given):
    """dq, dk and dv of a weighted sum of the output."""
    d_out = draw(B, N, SQ, D, dtype=dtype)
    weights = tensor(folded(d_out, layout), dtype)
    tensors = tuple(tensor(folded(part, layout), dtype) for part in (case.q, case.k, case.v))

    def loss(q, k, v):
        out = flash_attention_score(q, k, v, N, input_layout=layout, scalar_value=SCALE, **given)
        return (out * weights).astype(mindspore.float32).sum()

    found = mindspore.grad(loss, (0, 1, 2))(*tensors)
    for name, got, want in zip(("dq", "dk", "dv"), found, case.backward(d_out)):
        assert str(got.dtype).lower() == dtype
        assert_close(array(got), dtype, folded(want, layout), name, slack=2.0)


def test_the_formula_against_finite_differences():
    keeps = (np.random.rand(1, 4, 5, 6) < 0.7) / 0.7
    shape = dict(scale=0.3, seen=seen_by(3, 5, 6), before_scale=draw(1, 4, 5, 6), factor=keeps)
    parts, d_out, step = [draw(1, n, s, 4) for n, s in ((4, 5), (2, 6), (2, 6))], draw(1, 4, 5, 4), 1e-5
    found = Case(*parts, **shape).backward(d_out)
    for which, part in enumerate(parts):
        for place in np.ndindex(part.shape):
            ends = []
            for sign in (1, -1):
                moved = [one.copy() for one in parts]
                moved[which][place] += sign * step
                ends.append((Case(*moved, **shape).forward()[0] * d_out).sum())
            assert abs((ends[0] - ends[1]) / (2 * step) - found[which][place]) < 1e-8


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_types(layout, dtype):
    check(drawn(dtype), layout, dtype)


@pytest.mark.parametrize("mode", [2, 3])
def test_causal_modes(mode):
    check(drawn(seen=seen_by(mode, SQ, SKV)), attn_mask=COMPRESSED, sparse_mode=mode)


def test_band_and_full_masks():
    seen = seen_by(4, SQ, SKV, 4, 2)
    check(drawn(seen=seen), attn_mask=COMPRESSED, sparse_mode=4, pre_tokens=4, next_tokens=2)
    hidden = np.random.rand(B, 1, SQ, SKV) < 0.3
    hidden[:, :, 5] = True
    for mode in (0, 1):
        check(drawn(seen=~hidden), attn_mask=Tensor(hidden), sparse_mode=mode)
    check(drawn(seen=~hidden), attn_mask=Tensor(hidden), sparse_mode=5, prefix=(16, 40))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_shift_and_dropout(dtype):
    keeps, shift = np.random.rand(B, N, SQ, SKV) < 0.7, draw(1, N, SQ, SKV, dtype=dtype)
    bits = np.packbits(keeps.reshape(-1), bitorder="little").reshape(B, N, SQ, SKV // 8)
    case = drawn(dtype, before_scale=shift, factor=keeps / 0.7)
    check(case, "BSH", dtype, real_shift=tensor(shift, dtype), drop_mask=Tensor(bits), keep_prob=0.7)


def test_packed_sequences():
    lengths = ((8, 16), (0, 3), (5, 5), (16, 24))
    cases = [
        Case(draw(1, N, q, D), draw(1, N2, kv, D), draw(1, N2, kv, D), SCALE, seen_by(3, q, kv))
        for q, kv in lengths
    ]
    d_outs = [draw(*case.q.shape) for case in cases]
    weights = tensor(packed(d_outs))

    def loss(q, k, v):
        out = flash_attention_score(
            q, k, v, N, input_layout="TND", scalar_value=SCALE, attn_mask=COMPRESSED, sparse_mode=3,
            actual_seq_qlen=(8, 8, 13, 29), actual_seq_kvlen=(16, 19, 24, 48),
        )  # fmt: skip
        return (out * weights).sum()

    tensors = (tensor(packed([getattr(case, name) for case in cases])) for name in "qkv")
    found = mindspore.grad(loss, (0, 1, 2))(*tensors)
    wanted = zip(*(case.backward(d_out) for case, d_out in zip(cases, d_outs)))
    for got, want in zip(found, wanted):
        assert_close(array(got), "float32", packed(list(want)), slack=2.0)


def tensors():
    case = drawn()
    return case, [tensor(part) for part in (case.q, case.k, case.v)]


def attend(q, k, v, **given):
    return flash_attention_score(q, k, v, N, input_layout="BNSD", scalar_value=SCALE, **given)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_gradient_alone(position):
    case, parts = tensors()
    found = mindspore.grad(lambda *t: attend(*t).sum(), position)(*parts)
    assert_close(array(found), "float32", case.backward(np.ones((B, N, SQ, D)))[position], slack=2.0)


def test_value_and_grad():
    case, parts = tensors()
    value, (dq, _, _) = mindspore.value_and_grad(lambda *t: attend(*t).sum(), (0, 1, 2))(*parts)
    assert_close(array(value), "float32", np.array(case.forward()[0].sum()), slack=10.0)
    assert_close(array(dq), "float32", case.backward(np.ones((B, N, SQ, D)))[0], slack=2.0)


def test_gradient_of_the_shift_is_zeros():
    _, parts = tensors()
    shift = tensor(draw(1, N, SQ, SKV))
    found = mindspore.grad(lambda shift: attend(*parts, real_shift=shift).sum())(shift)
    assert found.shape == shift.shape and not found.any()
    both = mindspore.grad(lambda q, shift: attend(q, *parts[1:], real_shift=shift).sum(), (0, 1))(
        parts[0], shift
    )
    assert both[0].any() and not both[1].any()


def test_operators_before_and_after():
    case, parts = tensors()
    found = mindspore.grad(lambda q: (attend((q * 2).swapaxes(0, 1).swapaxes(0, 1), *parts[1:]) * 3).sum())(
        parts[0]
    )
    twice = Case(2 * case.q, case.k, case.v, SCALE)
    assert_close(array(found), "float32", 6 * twice.backward(np.ones((B, N, SQ, D)))[0], slack=2.0)


def test_weights_of_a_cell():
    class Layer(nn.Cell):
        def __init__(self):
            super().__init__()
            self.project = nn.Dense(D, D, has_bias=False)

        def construct(self, q, k, v):
            return attend(self.project(q), k, v)

    case, parts = tensors()
    layer = Layer()
    (found,) = mindspore.grad(lambda *t: layer(*t).sum(), None, layer.trainable_params())(*parts)
    weight = array(layer.project.weight)
    dq = Case(case.q @ weight.T, case.k, case.v, SCALE).backward(np.ones((B, N, SQ, D)))[0]
    want = np.einsum("bnso,bnsi->oi", dq, case.q)
    assert_close(array(found), "float32", want, slack=20.0)


def test_between_compiled_parts():
    case, parts = tensors()

    @mindspore.jit(capture_mode="bytecode")
    def loss(q, k, v):
        return (attend(q * 2, k, v) * 3).sum()

    found = mindspore.grad(loss)(*parts)
    want = Case(2 * case.q, case.k, case.v, SCALE).backward(np.full((B, N, SQ, D), 3.0))[0]
    assert_close(array(found), "float32", 2 * want, slack=2.0)


def test_an_output_that_is_not_used_has_no_gradient():
    _, parts = tensors()
    found = mindspore.grad(lambda q: ops.stop_gradient(attend(q, *parts[1:])).sum() + q.sum())(parts[0])
    assert (found == 1).all()


def test_second_derivatives_are_refused():
    _, parts = tensors()
    first = mindspore.grad(lambda q: (attend(q, *parts[1:]) * q).sum())
    with pytest.raises(NotImplementedError, match="the gradient of a gradient of attention is not computed"):
        mindspore.grad(lambda q: first(q).sum())(parts[0])
