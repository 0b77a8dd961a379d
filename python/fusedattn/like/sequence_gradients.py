"""The gradients of packed sequences whose keys lie anywhere, from output and log-sum-exp: sequences.py backwards.

`asked` is that of sequences.py, and computes gradients as well: asked.gradients(d_out, (q, k, v, out, lse), layout,
ends) gives (dq, dk, dv), each shaped as its tensor.
"""

from __future__ import annotations

import torch

from .sequences import Keys, ends_with_gaps, rows_of


def differentiate_packed(asked, d_out, q, out, lse, spans, keys: Keys):
    """(dq, dk, dv): dq as packed q (total_q, nheads, headdim), dk and dv as keys.k and keys.v.

    out, d_out: (total_q, nheads, headdim_v); lse: (nheads, total_q), infinite where a row sees nothing.
    Sums of sequences that share keys are made in float32, in the order of the sequences, and rounded once.
    """
    ordered = keys.in_order()
    if ordered is None:
        return _one_by_one(asked, d_out, q, out, lse, spans, keys)
    if not ordered:
        return torch.zeros_like(q), torch.zeros_like(keys.k), torch.zeros_like(keys.v)
    ends = [torch.tensor(numbers) for numbers in ends_with_gaps(spans, ordered)]
    rows = rows_of(spans, [b for *_, b in ordered], len(q))
    k, v = (t.flatten(0, 1) for t in (keys.k, keys.v))
    if rows is None:
        dq, dk, dv = asked.gradients(d_out, (q, k, v, out, lse), "TND", ends)
    else:
        d_out, own_q, out = (t.index_select(0, rows) for t in (d_out, q, out))
        lse = lse.index_select(1, rows)
        own_dq, dk, dv = asked.gradients(d_out, (own_q, k, v, out, lse), "TND", ends)
        dq = q.new_zeros(q.shape).index_copy(0, rows, own_dq)
    return dq, dk.view(keys.k.shape), dv.view(keys.v.shape)


def _one_by_one(asked, d_out, q, out, lse, spans, keys: Keys):
    dq = q.new_zeros(q.shape)
    sums = [torch.zeros(t.shape, dtype=torch.float32) for t in (keys.k, keys.v)]
    for b, span in enumerate(spans):
        rows = slice(*span)
        saved = q[None, rows], *keys.of(b), out[None, rows], lse[None, :, rows]
        found = asked.of_sequence(b).gradients(d_out[None, rows], saved, "BSND", (None, None))
        dq[rows] = found[0][0]
        places = keys.places(b)
        for total, part in zip(sums, found[1:]):
            total.flatten(0, 1).index_add_(0, places, part[0].float())
    return dq, *(total.to(q.dtype) for total in sums)
