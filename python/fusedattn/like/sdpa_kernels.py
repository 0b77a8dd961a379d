"""Kernels for torch's own operators of SDPA on the CPU, which compiled graphs and C++ callers end in.

    aten::_scaled_dot_product_flash_attention_for_cpu            (query, key, value) -> (output, logsumexp)
    aten::_scaled_dot_product_flash_attention_for_cpu_backward

query [B,N,L,E], key and value [B,H,S,E], where H divides N. They run below autograd, on dense CPU tensors. Graphs
that torch has compiled check strides: output has those of torch.empty_like(query); logsumexp, float32 [B,N,L], those
of a transposed [B,L,N]; gradients those of a transposed [B,L,N,E].
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .. import problem, tensors
from ..extras import Extras
from . import sdpa
from .sdpa_arguments import Call, refusal

FORWARD = "aten::_scaled_dot_product_flash_attention_for_cpu"
BACKWARD = "aten::_scaled_dot_product_flash_attention_for_cpu_backward"
_TAKES = "float dropout_p{}, bool is_causal{}, *, Tensor? attn_mask=None, float? scale=None"
SCHEMAS = {  # of torch 2.13
    FORWARD: f"{FORWARD}(Tensor query, Tensor key, Tensor value, {_TAKES.format('=0.', '=False')})"
    " -> (Tensor output, Tensor logsumexp)",
    BACKWARD: f"{BACKWARD}(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, Tensor logsumexp,"
    f" {_TAKES.format('', '')}) -> (Tensor grad_query, Tensor grad_key, Tensor grad_value)",
}
_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)


def kernels(tell) -> dict:
    """By operator, a kernel that computes here what is covered, and leaves the rest to the kernel there now.

    tell(operator, call, reason): is called for each call that is left.
    """
    theirs = {name: torch.library.get_kernel(name, "CPU") for name in (FORWARD, BACKWARD)}

    def forward(query, key, value, dropout_p=0.0, is_causal=False, *, attn_mask=None, scale=None):
        shaped = (
            query.dtype, query.shape, query.stride(), key.dtype, key.shape, key.stride(), value.dtype, value.shape,
            value.stride(), dropout_p, is_causal, scale,
            None if attn_mask is None else (attn_mask.dtype, attn_mask.shape, attn_mask.stride()),
        )  # fmt: skip
        ready = _ready.get(shaped)
        if ready is None:
            call = Call(query, key, value, attn_mask, dropout_p, is_causal, scale, True)
            refused = _refusal(call)
            if refused is not None:
                tell(FORWARD, call, refused)
                words = dict(attn_mask=attn_mask, scale=scale)
                return theirs[FORWARD].call_boxed(_CPU, query, key, value, dropout_p, is_causal, **words)
            ready = _made_ready(call)
            if ready is None:
                return _forward(call)
            _ready.keep(shaped, ready)
        return _run(ready, query, key, value, attn_mask)

    def backward(d_out, query, key, value, out, lse, dropout_p, is_causal, *, attn_mask=None, scale=None):
        call = Call(query, key, value, attn_mask, dropout_p, is_causal, scale, True)
        refused = _refusal(call)
        if refused is None:
            return _backward(call, d_out, out, lse)
        tell(BACKWARD, call, refused)
        given = d_out, query, key, value, out, lse, dropout_p, is_causal
        return theirs[BACKWARD].call_boxed(_CPU, *given, attn_mask=attn_mask, scale=scale)

    return {FORWARD: forward, BACKWARD: backward}


def _refusal(call: Call):
    """Why a call is left to torch's kernel, or None. One of the operators' own shapes and arguments is asked for."""
    if call.dropout_p != 0 or not call.query.dim() == call.key.dim() == call.value.dim() == 4:
        return "the operator takes 4 dimensions, and no dropout"
    if call.query.shape[-1] != call.value.shape[-1] or 0 in call.query.shape or 0 in call.key.shape:
        return "the operator takes one number of features for all, and no empty tensors"
    if call.query.shape[0] != call.key.shape[0] or call.key.shape[:2] != call.value.shape[:2]:
        return "the operator takes one batch for all, and as many heads of value as of key"
    return refusal(call._replace(is_causal=False))  # which they take beside a mask


class _Ready(NamedTuple):
    """What is known of calls whose tensors are shaped alike."""

    call: problem.Call
    turned: bool  # rows before heads in memory
    lse_shape: tuple
    lse_stride: tuple


_ready = problem.Calls()


def _made_ready(call: Call) -> _Ready | None:
    """None where tensors have to be copied, or the output cannot be written as it is asked for."""
    layout = _layout(call.query)
    mask, terms, extras = _asked(call, layout)
    query, key, value = [_in(layout, tensor) for tensor in call[:3]]
    made = None if mask is not None else tensors.prepared(query, key, value, None, None, terms, extras)
    batch, heads, rows, _ = call.query.shape
    if made is None or _in(layout, query.new_empty(made.out_shape)).stride() != torch.empty_like(call.query).stride():
        return None
    return _Ready(made, layout == "BSND", (batch, heads, rows), (heads * rows, 1, heads))


def _run(ready: _Ready, query, key, value, attn_mask) -> tuple:
    """(output, logsumexp)."""
    extras = None if attn_mask is None else Extras(attn_mask)
    out, row_max, row_sum = tensors.run(ready.call, query, key, value, None, None, None, extras, True)
    lse = torch.empty_strided(ready.lse_shape, ready.lse_stride)
    torch.add(row_max, row_sum.log_(), out=lse)
    return out.transpose(1, 2) if ready.turned else out, lse


def _forward(call: Call) -> tuple:
    """(output, logsumexp), of tensors and for an output that may have to be copied."""
    layout = _layout(call.query)
    query, key, value = [_in(layout, tensor) for tensor in call[:3]]
    mask, terms, extras = _asked(call, layout)
    out, row_max, row_sum = tensors.forward(query, key, value, mask, None, None, terms, extras)
    out, wanted = _in(layout, out), torch.empty_like(call.query)
    out = out if out.stride() == wanted.stride() else wanted.copy_(out)
    batch, heads, rows = row_max.shape
    lse = row_max.new_empty((batch, rows, heads)).transpose(1, 2)
    return out, torch.add(row_max, row_sum.log_(), out=lse)


def _layout(query) -> str:
    """In which layout to read query and write the output."""
    if query.is_contiguous():
        return "BNSD"
    return "BSND" if query.transpose(1, 2).is_contiguous() or query.stride(1) < query.stride(2) else "BNSD"


def _backward(call: Call, d_out, out, lse) -> tuple:
    """(dq, dk, dv). A sum of 1 beside the log-sum-exp gives the same probabilities as max and sum."""
    layout = "BSND"
    mask, terms, extras = _asked(call, layout)
    d_out, query, key, value, out = (_in(layout, tensor) for tensor in (d_out, *call[:3], out))
    row_max = lse.contiguous()
    stats = row_max, torch.ones_like(row_max)
    needs = (True, True, True, False, False) if extras is not None else (True, True, True)
    gradients = tensors.backward(
        d_out, query, key, value, out, *stats, mask, None, None, terms, needs, extras
    )
    return tuple(_in(layout, gradient) for gradient in gradients[:3])


def _asked(call: Call, layout: str) -> tuple:
    """(mask bytes, terms, extras) of a call. torch turns bool masks into numbers before they come here."""
    mask = call.attn_mask
    if mask is not None:
        mask = mask.expand(*mask.shape[:-1], call.key.shape[2])
    scale = call.query.shape[-1] ** -0.5 if call.scale is None else call.scale
    terms = sdpa.terms(layout, scale, "UPPER_LEFT" if call.is_causal else "EVERYTHING")
    if mask is not None and mask.dtype == torch.bool:
        return mask, terms, None
    return None, terms, None if mask is None else Extras(bias=mask)


def _in(layout: str, tensor):
    """[B,N,S,D] as a view in the layout, and back."""
    return tensor.transpose(1, 2) if layout == "BSND" else tensor
