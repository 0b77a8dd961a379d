"""Sequences of different lengths packed one after another, unpadded: the same bits as one call for each.

Run: .venv/bin/python examples/python/packed_sequences.py
"""

from itertools import accumulate

import fusedattn
import torch

HEADS, DIM = 4, 64
LENGTHS = [37, 512, 1, 200]
ENDS = list(accumulate(LENGTHS, initial=0))  # [0, 37, 549, 550, 750]


def attend(q, k, v, ends):
    """Causal within each sequence; no row sees another sequence."""
    mask = fusedattn.causal()
    return fusedattn.attention(q, k, v, mask=mask, layout="TND", cu_seqlens_q=ends, cu_seqlens_k=ends)


torch.manual_seed(0)
q, k, v, d_out = (torch.randn(sum(LENGTHS), HEADS, DIM) for _ in range(4))
packed = [t.clone().requires_grad_() for t in (q, k, v)]
out = attend(*packed, ENDS)
out.backward(d_out)

same = True
for begin, end in zip(ENDS, ENDS[1:]):
    alone = [t[begin:end].clone().requires_grad_() for t in (q, k, v)]
    out_alone = attend(*alone, [0, end - begin])
    out_alone.backward(d_out[begin:end])
    same &= torch.equal(out[begin:end], out_alone)
    same &= all(torch.equal(whole.grad[begin:end], one.grad) for whole, one in zip(packed, alone))

print(f"{len(LENGTHS)} sequences of {LENGTHS} rows packed into {sum(LENGTHS)}")
print(f"output and gradients have the bits of one call per sequence: {same}")
assert same
