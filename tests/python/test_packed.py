"""Sequences packed one after another (layout TND), against the formula sequence by sequence."""

import fusedattn
import golden
import pytest
import torch
from fusedattn import Mask, causal, window

Q_ENDS = [0, 5, 5, 42, 43, 43, 60]
K_ENDS = [0, 7, 19, 60, 60, 63, 90]
MASKS = [Mask(), causal(), window(4, 2, align="top-left")]


def draw_packed(dtype=torch.float32, tail=0, dim_v=24):
    q, d_out = golden.draw(60 + tail, 4, 32, dtype=dtype), golden.draw(60 + tail, 4, dim_v, dtype=dtype)
    return q, golden.draw(90 + tail, 2, 32, dtype=dtype), golden.draw(90 + tail, 2, dim_v, dtype=dtype), d_out


def run(q, k, v, d_out, q_ends=Q_ENDS, k_ends=K_ENDS, **arguments):
    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
    results = fusedattn.attention(
        *leaves, layout="TND", cu_seqlens_q=q_ends, cu_seqlens_k=k_ends, return_stats=True, **arguments
    )
    return *(r.detach() for r in results), *torch.autograd.grad(results[0], leaves, d_out)


def alone(t, ends, b):
    """Sequence b as [1,N,S,D]."""
    return t[ends[b] : ends[b + 1]].transpose(0, 1).unsqueeze(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_against_the_formula(mask, dtype):
    q, k, v, d_out = draw_packed(dtype)
    out, row_max, row_sum, dq, dk, dv = run(q, k, v, d_out, mask=mask)
    assert out.is_contiguous() and row_max.shape == (4, 60)
    for b in range(len(Q_ENDS) - 1):
        one = [alone(q, Q_ENDS, b), alone(k, K_ENDS, b), alone(v, K_ENDS, b)]
        seen = torch.from_numpy(mask.materialize(one[0].shape[2], one[1].shape[2]))
        wanted = golden.attention(*one, seen)
        golden.assert_close(alone(out, Q_ENDS, b), wanted[0], f"out {b}")
        rows = slice(Q_ENDS[b], Q_ENDS[b + 1])
        golden.assert_statistics(row_max[None, :, rows], row_sum[None, :, rows], *wanted[1:])
        gradients = golden.gradients(*one, alone(d_out, Q_ENDS, b), seen)
        got = alone(dq, Q_ENDS, b), alone(dk, K_ENDS, b), alone(dv, K_ENDS, b)
        for name, gradient, want in zip(("dq", "dk", "dv"), got, gradients):
            golden.assert_close(gradient, want, f"{name} {b}", slack=2)


def test_a_sequence_gives_the_same_bits_alone():
    q, k, v, d_out = draw_packed()
    packed = run(q, k, v, d_out, mask=causal())
    b, rows, columns = 2, slice(5, 42), slice(19, 60)
    single = run(q[rows], k[columns], v[columns], d_out[rows], [0, 37], [0, 41], mask=causal())
    for whole, part, where in zip(packed, single, (rows, None, None, rows, columns, columns)):
        assert torch.equal(whole[:, rows] if where is None else whole[where], part), b


def test_forms_of_the_ends():
    tensors = draw_packed()
    wanted = run(*tensors)
    for form in (torch.tensor, tuple, lambda ends: torch.tensor(ends, dtype=torch.int32)):
        for got, want in zip(run(*tensors, form(Q_ENDS), form(K_ENDS)), wanted):
            assert torch.equal(got, want)


def test_rows_past_the_last_sequence_are_zero():
    tensors = draw_packed(tail=7)
    out, *_, dq, dk, dv = run(*tensors, mask=causal())
    assert (out[60:] == 0).all() and (dq[60:] == 0).all() and (dk[90:] == 0).all() and (dv[90:] == 0).all()


@pytest.mark.parametrize("heads", [None, 1, 4], ids=str)
def test_a_bool_mask_is_local_to_each_sequence(heads):
    tensors = draw_packed()
    shape = (37, 41) if heads is None else (heads, 37, 41)
    shown = torch.rand(shape) > 0.4
    out = run(*tensors, mask=shown)[0]
    for b in range(len(Q_ENDS) - 1):
        one = [alone(t, ends, b) for t, ends in zip(tensors, (Q_ENDS, K_ENDS, K_ENDS))]
        local = shown[..., : one[0].shape[2], : one[1].shape[2]]
        golden.assert_close(alone(out, Q_ENDS, b), golden.attention(*one, local)[0], f"out {b}")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (dict(q_ends=[1, 60]), "cu_seqlens_q begins with 1"),
        (dict(q_ends=[0, 40, 30]), "cu_seqlens_q is .*never decrease"),
        (dict(k_ends=[0, 50, 91]), "cu_seqlens_k ends with 91"),
        (dict(q_ends=[0, 60], k_ends=[0, 60, 90]), "cu_seqlens_q has 2 entries, cu_seqlens_k 3"),
        (dict(q_ends=torch.tensor([0.0, 60.0])), "cu_seqlens_q is torch.float32"),
        (dict(mask=torch.ones(36, 41, dtype=torch.bool)), "mask has shape .*37"),
        (dict(mask=torch.ones(37, 40, dtype=torch.bool)), "mask has shape .*41"),
        (dict(mask=torch.ones(3, 37, 41, dtype=torch.bool)), "mask has shape"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(*draw_packed(), **given)
