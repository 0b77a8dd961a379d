"""Bias, ALiBi, sink, dropout and prefix of packed sequences, against the formula, one by one."""

import fusedattn
import golden
import pytest
import torch
from fusedattn import causal, prefix
from sides import kept, run

Q_ENDS = [0, 5, 5, 42, 43, 43, 60]
K_ENDS = [0, 7, 19, 60, 60, 63, 90]
SEQUENCES = len(Q_ENDS) - 1
LONGEST = (37, 41)
HEADS, KEY_HEADS = 4, 2
LENGTHS = [(b - a, d - c) for a, b, c, d in zip(Q_ENDS, Q_ENDS[1:], K_ENDS, K_ENDS[1:])]
PREFIXES = [3, 5, 11, 0, 2, 400]


def draw_packed(dtype=torch.float32):
    heads, dims = (HEADS, KEY_HEADS, KEY_HEADS, HEADS), (32, 32, 24, 24)
    rows = (Q_ENDS[-1], K_ENDS[-1], K_ENDS[-1], Q_ENDS[-1])
    return [golden.draw(*shape, dtype=dtype) for shape in zip(rows, heads, dims)]


def alone(t, ends, b):
    """Sequence b as [1,N,S,D]."""
    return t[ends[b] : ends[b + 1]].transpose(0, 1).unsqueeze(0)


def keeps(dropout_p, seed):
    """What dropout multiplies the probabilities of each sequence with, [1,N,Sq,Skv]."""
    counts = [HEADS * rows * columns for rows, columns in LENGTHS]
    flat = kept((sum(counts),), dropout_p, seed).split(counts)
    return [part.view(1, HEADS, *lengths) for part, lengths in zip(flat, LENGTHS)]


def local_bias(bias, lengths):
    rows = lengths[0] if bias.shape[-2] > 1 else 1
    return bias[..., :rows, : lengths[1]]


FORMS = [(HEADS, *LONGEST), (1, *LONGEST), (HEADS, 1, LONGEST[1]), LONGEST, (1, LONGEST[1]), (HEADS, 44, 50)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mask", [None, causal(), causal() | prefix(PREFIXES), prefix(4)], ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_against_the_formula(form, mask, dtype):
    tensors = draw_packed(dtype)
    bias, slopes, sink = golden.draw(*form), torch.rand(SEQUENCES, HEADS), golden.draw(HEADS)
    ends = dict(cu_seqlens_q=Q_ENDS, cu_seqlens_k=K_ENDS)
    given = dict(bias=bias, alibi=slopes, sink=sink, mask=mask, dropout_p=0.2, dropout_seed=9)
    out, row_max, row_sum, dq, dk, dv, d_bias, d_sink = run(*tensors, layout="TND", **ends, **given)
    want_bias, want_sink = torch.zeros(form, dtype=torch.float64), torch.zeros(HEADS, dtype=torch.float64)
    for b, keep in enumerate(keeps(0.2, 9)):
        q, k, v, d_out = (alone(t, e, b) for t, e in zip(tensors, (Q_ENDS, K_ENDS, K_ENDS, Q_ENDS)))
        seen = None if mask is None else torch.from_numpy(mask.materialize(*LENGTHS[b]))
        seen = seen if seen is None or seen.dim() == 2 else seen[b]
        terms = dict(bias=local_bias(bias, LENGTHS[b]), slopes=slopes[b], sink=sink, keep=keep)
        wanted = golden.attention(q, k, v, seen, **terms)
        golden.assert_close(alone(out, Q_ENDS, b), wanted[0], f"out {b}", slack=2)
        rows = slice(Q_ENDS[b], Q_ENDS[b + 1])
        golden.assert_statistics(row_max[None, :, rows], row_sum[None, :, rows], *wanted[1:])
        gradients = golden.gradients(q, k, v, d_out, seen, **terms)
        got = alone(dq, Q_ENDS, b), alone(dk, K_ENDS, b), alone(dv, K_ENDS, b)
        for name, gradient, want in zip(("dq", "dk", "dv"), got, gradients):
            golden.assert_close(gradient, want, f"{name} {b}", slack=4)
        local_bias(want_bias, LENGTHS[b]).add_(gradients[3])
        want_sink += gradients[4]
    golden.assert_close(d_bias.to(dtype), want_bias, "d_bias", slack=4)
    golden.assert_close(d_sink.to(dtype), want_sink, "d_sink", slack=4)


def test_a_sequence_of_several_gives_the_same_bits_alone():
    """But for dropout, whose elements count from the first sequence on."""
    tensors, bias, slopes = draw_packed(), golden.draw(HEADS, *LONGEST), torch.rand(SEQUENCES, HEADS)
    given = dict(layout="TND", bias=bias, sink=torch.ones(HEADS))
    whole = run(
        *tensors,
        cu_seqlens_q=Q_ENDS,
        cu_seqlens_k=K_ENDS,
        alibi=slopes,
        mask=causal() | prefix(PREFIXES),
        **given,
    )
    rows, columns = slice(5, 42), slice(19, 60)
    parts = [t[where] for t, where in zip(tensors, (rows, columns, columns, rows))]
    ends = dict(cu_seqlens_q=[0, 37], cu_seqlens_k=[0, 41])
    single = run(*parts, **ends, alibi=slopes[2], mask=causal() | prefix(11), **given)
    for got, want, where in zip(single, whole, (rows, None, None, rows, columns, columns)):
        assert torch.equal(got, want[:, rows] if where is None else want[where])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (dict(bias=torch.ones(36, 41)), "bias has shape .*37 or more"),
        (dict(bias=torch.ones(37, 40)), "bias has shape .*41 or more"),
        (dict(bias=torch.ones(1, 4, 37, 41)), r"bias has shape .*\[N, longest q, longest k\]"),
        (dict(alibi=torch.ones(5, 4)), r"alibi has shape \(5, 4\); accepted is \(4,\) or \(6, 4\)"),
        (dict(mask=causal() | prefix([1, 2])), r"prefix has shape \(2,\); accepted is \(6,\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("door", [lambda t: t, lambda t: t.numpy()], ids=["torch", "numpy"])
def test_refusals(door, given, sentence):
    q, k, v, _ = (door(t) for t in draw_packed())
    given = {name: door(value) if torch.is_tensor(value) else value for name, value in given.items()}
    with pytest.raises(ValueError, match=sentence):
        fusedattn.attention(q, k, v, layout="TND", cu_seqlens_q=Q_ENDS, cu_seqlens_k=K_ENDS, **given)
