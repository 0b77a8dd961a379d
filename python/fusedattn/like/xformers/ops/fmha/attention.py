"""Attention of xFormers' inputs by the core, and its gradients from output and log-sum-exp."""

from __future__ import annotations

from typing import NamedTuple

import torch

from fusedattn import extras, ops
from fusedattn.like import lse as from_lse
from fusedattn.like.sequence_gradients import differentiate_packed
from fusedattn.like.sequences import Keys, attend_packed
from fusedattn.mask import Mask, prefix
from fusedattn.problem import Terms

from . import biases
from .arguments import Inputs
from .shapes import Folded, fold

_NOTHING = prefix(0)
Stream = tuple[int, int]  # seed and offset of the dropout


class Asked(NamedTuple):
    """What a call asks for besides its tensors."""

    mask: Mask
    scale: float | None
    dropout_p: float = 0.0
    stream: Stream | None = None
    bias: torch.Tensor | None = None

    def attend(self, q, k, v, layout: str, cu_seqlens_q=None, cu_seqlens_k=None, return_stats: bool = False):
        """As fusedattn.attention does it, without reading again what the rules have let pass: 3 µs less."""
        asked = None
        if self.dropout_p or self.bias is not None or self.mask.prefix is not None:
            asked = extras.read(self.bias, None, None, self.mask.prefix, self.dropout_p, self.stream, 0.0)
        terms = self.terms(layout, q.shape[-1])
        found = ops.attend(q, k, v, None, cu_seqlens_q, cu_seqlens_k, terms, return_stats, asked)
        return found if return_stats else found[0]

    def terms(self, layout: str, features: int) -> Terms:
        scale = features**-0.5 if self.scale is None else float(self.scale)
        return Terms(layout, scale, *self.mask.top_left, *self.mask.bottom_right, False)

    def of_sequence(self, b: int) -> Asked:
        """The same for sequence b alone, which drops by a seed of its own."""
        if self.stream is None:
            return self
        seed, offset = self.stream
        return self._replace(stream=((seed + b) % 2**63, offset))

    def of_sequences(self, order: list[int]) -> Asked:
        """The same for packed sequences."""
        return self

    def gradients(self, d_out, saved, layout: str, ends, needs_bias: bool = False):
        """(dq, dk, dv), with needs_bias also d_bias. saved: (q, k, v, out, lse)."""
        stream = torch.tensor(self.stream, dtype=torch.int64) if self.dropout_p else None
        asked = extras.Extras(bias=self.bias, prefix=_prefix(self.mask, saved[0], layout, ends), stream=stream,
                              keep_prob=1.0 - self.dropout_p)  # fmt: skip
        needs, terms = [True, True, True, needs_bias, False], self.terms(layout, saved[0].shape[-1])
        found = from_lse.gradients(d_out, saved, needs, terms, asked, ends)
        return found[:4] if needs_bias else found[:3]


def _prefix(mask: Mask, q, layout: str, ends):
    """The prefix of a mask, one for each sequence."""
    if mask.prefix is None:
        return None
    return torch.full((len(q) if layout == "BSND" else len(ends[0]) - 1,), mask.prefix)


def draw_stream(p: float) -> Stream | None:
    """Seed and offset from torch's default generator, where something is dropped."""
    return (int(torch.randint(0, 2**63 - 1, (1,))), 0) if p else None


def attend(inputs: Inputs, statistics: bool = False, stream: Stream | None = None):
    """(out, lse), differentiable in out; lse is None without statistics. The inputs have passed their rules.

    out has query's shape with value's features. lse, float32: [B, H, M] ([B, G, H, M]; [B, 1, M] of [B, M, K]);
    packed sequences have B = 1. -inf for rows that see nothing.
    """
    seen = biases.read(inputs.attn_bias, inputs.query.shape[1], inputs.key.shape[1])
    folded = fold(inputs, seen.bias)
    asked = _asked(inputs, seen, folded.bias, stream)
    q, k, v = folded.q, folded.k, folded.v
    if seen.rows is not None:
        out, lse = _attend_sequences(asked, q[0], seen, k, v)
    elif seen.q_ends is not None:
        ends = dict(cu_seqlens_q=seen.q_ends, cu_seqlens_k=seen.k_ends)
        out, lse = _attend(asked, q[0], k[0], v[0], statistics, layout="TND", **ends)
    else:
        out, lse = _attend(asked, q, k, v, statistics, layout="BSND")
    if out.dim() == 3:  # packed
        out, lse = out[None], None if lse is None else lse[None]
    if out.dtype != inputs.out_dtype():
        out = out.to(inputs.out_dtype())
    return folded.unfold(out, lse)


def _attend(asked: Asked, q, k, v, statistics: bool, **more):
    if not statistics:
        return asked.attend(q, k, v, **more), None
    out, *found = asked.attend(q, k, v, **more, return_stats=True)
    return out, _log_sum_exp(*found)


def attend_only(inputs: Inputs, statistics: bool = False, stream: Stream | None = None):
    """attend() whose results have no gradients."""
    if torch.is_grad_enabled():  # to switch it off takes longer than to look
        q, k, v, bias = inputs[:4]
        added = None if bias is None else biases.tensor_of(bias)
        if q.requires_grad or k.requires_grad or v.requires_grad or (added is not None and added.requires_grad):
            with torch.no_grad():
                return attend(inputs, statistics, stream)
    return attend(inputs, statistics, stream)


def differentiate(inputs: Inputs, grad, out, lse, stream: Stream | None = None, needs_bias: bool = False):
    """(dq, dk, dv, db) from a call's output and log-sum-exp, which may be those of more keys than these.

    lse as attend() gives it, or padded as some of xFormers' operators have it; db is None unless needs_bias, for
    which attn_bias is a tensor in the scores' own shape.
    """
    seen = biases.read(inputs.attn_bias, inputs.query.shape[1], inputs.key.shape[1])
    folded = fold(inputs, seen.bias, shared=False)
    asked = _asked(inputs, seen, folded.bias, stream)
    q, k, v = folded.q, folded.k, folded.v
    d_out, out = (folded.like_out(name, t).to(q.dtype) for name, t in (("grad", grad), ("output", out)))
    lse = folded.lse(lse, seen)
    d_bias = None
    if seen.rows is not None:
        keys = _keys(k, v, seen)
        dq, dk, dv = differentiate_packed(asked, d_out[0], q[0], out[0], lse[0], seen.rows, keys)
    elif seen.q_ends is not None:
        saved = q[0], k[0], v[0], out[0], lse[0]
        dq, dk, dv = asked.gradients(d_out[0], saved, "TND", (seen.q_ends, seen.k_ends))
    else:
        dq, dk, dv, *more = asked.gradients(d_out, (q, k, v, out, lse), "BSND", (None, None), needs_bias)
        d_bias = more[0].view(seen.bias.shape) if needs_bias else None
    found = (g.reshape(t.shape).to(t.dtype) for g, t in zip((dq, dk, dv), inputs))
    return *found, d_bias


def _asked(inputs: Inputs, seen: biases.Seen, bias, stream) -> Asked:
    if inputs.p == 1:  # every weight is dropped
        return Asked(_NOTHING, inputs.scale, bias=bias)
    return Asked(seen.mask, inputs.scale, float(inputs.p), stream if inputs.p else None, bias)


def _log_sum_exp(row_max, row_sum):
    return from_lse.log_sum_exp(row_max, row_sum, float("-inf"))


def _keys(k, v, seen: biases.Seen) -> Keys:
    if seen.table is None:
        return Keys(k, v, seen.spans, [0] * len(seen.spans))
    k, v = (t[0].unflatten(0, (-1, seen.page_size)) for t in (k, v))
    return Keys(k, v, seen.spans, [], seen.table, "attn_bias.block_tables")


def _attend_sequences(asked: Asked, q, seen: biases.Seen, k, v):
    """(out, lse) of packed q [total, N, D] to keys that lie apart."""
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v))
    if differentiable and _keys(k, v, seen).in_order() is None:
        if asked.dropout_p and asked.stream is None:
            asked = asked._replace(stream=draw_stream(asked.dropout_p))
        return _OneByOne.apply(q, k, v, asked, seen)
    out, *found = attend_packed(asked, q, seen.rows, _keys(k, v, seen))
    return out, _log_sum_exp(*found)


class _OneByOne(torch.autograd.Function):
    """Sequences that share keys, or have them in pages: slices of keys would each leave a gradient as large as all."""

    @staticmethod
    def forward(ctx, q, k, v, asked: Asked, seen: biases.Seen):
        out, *found = attend_packed(asked, q, seen.rows, _keys(k, v, seen))
        lse = _log_sum_exp(*found)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.asked, ctx.seen = asked, seen
        ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_out, _):
        q, k, v, out, lse = ctx.saved_tensors
        found = differentiate_packed(ctx.asked, d_out, q, out, lse, ctx.seen.rows, _keys(k, v, ctx.seen))
        return *(g.view(t.shape) for g, t in zip(found, (q, k, v))), None, None
