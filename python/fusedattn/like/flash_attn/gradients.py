"""The gradients of attention from its output and log-sum-exp, as flash-attn's backward functions take them."""

from __future__ import annotations

import torch

from fusedattn.extras import Extras
from fusedattn.like import lse as from_lse
from fusedattn.mask import Mask
from fusedattn.problem import Terms

from .arguments import Asked, check, check_like, refuse


def run(asked: Asked, dout, saved, into, rng_state, cu_seqlens=(None, None)):
    """Writes gradients into (dq, dk, dv), where they are not None; returns softmax_d.

    saved: (q, k, v, out, softmax_lse). Rows whose softmax_lse is infinite saw nothing. The softmax_lse and out
    may be those of more keys than these, as in ring attention: the gradients are then parts of a sum.
    softmax_d: sum over the features of dout * out, float32, shaped as softmax_lse.
    """
    q, _, _, out, _ = saved
    check(rng_state=rng_state)
    packed = cu_seqlens[0] is not None
    asked.hold(cu_seqlens[0].numel() - 1 if packed else len(q), q.shape[-2])
    _check_shapes(dout, saved, into)
    if asked.dropout_p and rng_state is None:
        refuse("rng_state", None, "the tensor that the forward returned, for it dropped probabilities")
    layout = "TND" if packed else "BSND"
    mask = asked.mask or Mask()
    terms = Terms.of(layout, q.shape[-1] ** -0.5 if asked.scale is None else float(asked.scale), mask)
    extras = Extras(
        slopes=asked.slopes, keep_prob=1.0 - asked.dropout_p, softcap=asked.softcap,
        stream=rng_state.long() if asked.dropout_p else None,
    )  # fmt: skip
    needs = [gradient is not None for gradient in into]
    found = from_lse.gradients(dout, saved, [*needs, False, False], terms, extras, cu_seqlens)
    for gradient, value in zip(into, found):
        if gradient is not None:
            gradient.copy_(value)
    heads_first = "bsnd,bsnd->bns" if layout == "BSND" else "tnd,tnd->nt"
    return torch.einsum(heads_first, dout.float(), out.float())


def _check_shapes(dout, saved, into) -> None:
    q, k, v, out, lse = saved
    rows = q.shape[:-1]
    like_lse = torch.empty(rows, dtype=torch.float32, device="meta").transpose(-1, -2)
    like_out = q.new_empty(*rows, v.shape[-1], device="meta")
    check_like(dout=(dout, like_out), out=(out, like_out), softmax_lse=(lse, like_lse))
    for name, gradient, like in zip(("dq", "dk", "dv"), into, (q, k, v)):
        if gradient is not None:
            check_like(**{name: (gradient, like)})
