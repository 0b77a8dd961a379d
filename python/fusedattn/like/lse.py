"""Log-sum-exps, which other libraries return in place of a maximum and a sum, and gradients that start from them."""

from __future__ import annotations

import torch

from fusedattn import ops  # noqa: F401  (defines torch.ops.fusedattn)
from fusedattn.extras import Extras
from fusedattn.problem import Terms

_LIMITS = torch.finfo(torch.float32)


def log_sum_exp(row_max, row_sum, unseen: float):
    """max + log(sum); `unseen` for rows that see nothing, and for those of no sequence."""
    lse = row_max + row_sum.log()
    return torch.where((row_sum >= _LIMITS.max) | (row_sum == 0), unseen, lse)


def statistics(lse):
    """(max, sum) that have this log-sum-exp, as the library has them; where it is infinite, of rows that see nothing."""
    unseen = lse.isinf()
    row_max = lse.masked_fill(unseen, _LIMITS.min)
    return row_max, torch.ones_like(row_max).masked_fill(unseen, _LIMITS.max)


def gradients(d_out, saved, needs, terms: Terms, extras: Extras = Extras(), cu_seqlens=(None, None)):
    """(dq, dk, dv, d_bias, d_sink), empty where needs has False.

    saved: (q, k, v, out, lse). lse and out may be those of more keys than these, as in ring attention: the
    gradients are then parts of a sum.
    """
    q, k, v, out, lse = saved
    return torch.ops.fusedattn.backward(
        d_out, q, k, v, out, *statistics(lse), None, *cu_seqlens, *terms, list(needs), *extras
    )
