"""A learned bias, ALiBi, sinks, a prefix and dropout in one call, beside the same written out in torch.

Run: .venv/bin/python examples/python/score_terms.py
"""

import fusedattn
import torch

BATCH, HEADS, ROWS, DIM = 2, 4, 100, 32
PREFIXES, DROPPED, SEED = [10, 35], 0.1, 7

torch.manual_seed(0)
slopes = 2.0 ** -torch.arange(1.0, HEADS + 1)
mask = fusedattn.causal() | fusedattn.prefix(PREFIXES)
print(f"{mask.draw(6, 12)}\nwhat the first rows of the first sequence see: {mask}")


def ours(q, k, v, bias, sink):
    arguments = dict(mask=mask, bias=bias, alibi=slopes, sink=sink)
    return fusedattn.attention(q, k, v, dropout_p=DROPPED, dropout_seed=SEED, **arguments)


def torchs(q, k, v, bias, sink):
    """Holds five tensors of [BATCH, HEADS, ROWS, ROWS]; the call above holds none but the bias."""
    distance = (torch.arange(ROWS) - torch.arange(ROWS)[:, None]).abs()
    scores = DIM**-0.5 * q @ k.transpose(-1, -2) + bias - slopes[:, None, None] * distance
    seen = torch.from_numpy(mask.materialize(ROWS, ROWS))[:, None]
    scores = scores.masked_fill(~seen, float("-inf"))
    sinks = sink[:, None, None].expand(BATCH, HEADS, ROWS, 1)
    weights = torch.cat((scores, sinks), dim=-1).softmax(-1)[..., :ROWS]
    kept = torch.from_numpy(fusedattn.dropout_mask(weights.shape, DROPPED, SEED))
    return (weights * kept / (1 - DROPPED)) @ v


shapes = *[(BATCH, HEADS, ROWS, DIM)] * 3, (1, HEADS, ROWS, ROWS), (HEADS,)
leaves = [torch.randn(shape).requires_grad_() for shape in shapes]
d_out = torch.randn(shapes[0])
worst = 0.0
for name, a, b in zip(
    ("out", "dq", "dk", "dv", "d_bias", "d_sink"),
    *(
        (out, *torch.autograd.grad(out, leaves, d_out))
        for out in (attend(*leaves) for attend in (ours, torchs))
    ),
):
    error = float((a - b).detach().norm() / b.detach().norm())
    worst = max(worst, error)
    print(f"{name:6} differs by {error:.1e} of its norm")
assert worst < 1e-5
