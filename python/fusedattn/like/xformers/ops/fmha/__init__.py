"""xformers.ops.fmha of xFormers 0.0.35 on CPUs: memory-efficient attention under its own names.

    from fusedattn.like.xformers.ops import fmha
    out = fmha.memory_efficient_attention(query, key, value, attn_bias=fmha.LowerTriangularMask())

Common to all functions:

query, key, value: [B, M, H, K], [B, M, K] (one head) or [B, M, G, H, K] (groups of heads that share keys, which are
    expanded to H), float32, bfloat16 or float16 on the CPU, any strides. value may have another K.
attn_bias: None; a tensor of query's dtype that is added to the scores, [B, H, Mq, Mkv] ([B, Mq, Mkv] for [B, M, K],
    [B, G, H, Mq, Mkv]), 1 in place of a number to repeat; an object of attn_bias, or of xFormers' own.
p: the share of the weights to drop, 0 to 1, by torch's default generator.
scale: None is K ** -0.5. op: None, or this door's own operators. output_dtype: None is query's.

ValueError for what is invalid, NotImplementedError for what is not computed, each with what is accepted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from . import attn_bias
from .arguments import Inputs, check
from .attention import attend, attend_only, differentiate
from .attn_bias import AttentionBias, BlockDiagonalMask, LowerTriangularMask
from .dispatch import Registration, register
from .merging import merge

__all__ = [
    "AttentionBias",
    "BlockDiagonalMask",
    "LowerTriangularMask",
    "Registration",
    "attn_bias",
    "memory_efficient_attention",
    "memory_efficient_attention_backward",
    "memory_efficient_attention_forward",
    "memory_efficient_attention_forward_requires_grad",
    "memory_efficient_attention_partial",
    "merge_attentions",
    "register",
]


def memory_efficient_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_bias: torch.Tensor | AttentionBias | None = None,
    p: float = 0.0,
    scale: float | None = None,
    *,
    op=None,
    output_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """dropout(softmax(scale * query key^T + attn_bias)) value, differentiable, in query's shape with value's K.

    A query that sees no key has output 0 and gives no gradient.
    """
    inputs = Inputs(query, key, value, attn_bias, p, scale, output_dtype, op)
    check("memory_efficient_attention", inputs)
    return attend(inputs)[0]


def memory_efficient_attention_forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_bias: torch.Tensor | AttentionBias | None = None,
    p: float = 0.0,
    scale: float | None = None,
    *,
    op=None,
    output_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """memory_efficient_attention without gradients."""
    inputs = Inputs(query, key, value, attn_bias, p, scale, output_dtype, op)
    check("memory_efficient_attention_forward", inputs)
    return attend_only(inputs)[0]


def memory_efficient_attention_forward_requires_grad(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_bias: torch.Tensor | AttentionBias | None = None,
    p: float = 0.0,
    scale: float | None = None,
    *,
    op=None,
    output_dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, lse) for memory_efficient_attention_backward; p must be 0.

    lse: float32 [B, H, M], [B, G, H, M], or [B, 1, M] of [B, M, K]; -inf for queries that see nothing.
    """
    inputs = Inputs(query, key, value, attn_bias, p, scale, output_dtype, op)
    check("memory_efficient_attention_forward_requires_grad", inputs)
    _refuse_dropout("memory_efficient_attention_forward_requires_grad", p)
    return attend_only(inputs, statistics=True)


def memory_efficient_attention_backward(
    grad: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_bias: torch.Tensor | AttentionBias | None = None,
    p: float = 0.0,
    scale: float | None = None,
    *,
    op=None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dq, dk, dv) of sum(grad * output); p must be 0.

    output and lse may be those of more keys than these, merged: the gradients are then parts of a sum.
    """
    inputs = Inputs(query, key, value, attn_bias, p, scale, None, op)
    check("memory_efficient_attention_backward", inputs)
    _refuse_dropout("memory_efficient_attention_backward", p)
    with torch.no_grad():
        return differentiate(inputs, grad, output, lse)[:3]


def memory_efficient_attention_partial(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_bias: torch.Tensor | AttentionBias | None = None,
    p: float = 0.0,
    scale: float | None = None,
    *,
    op=None,
    output_dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, lse) over some of the keys, for merge_attentions; without gradients, p must be 0.

    output_dtype: None is float32 here. 16-bit tensors are converted for it; query's own dtype spares that.
    """
    inputs = Inputs(query, key, value, attn_bias, p, scale, output_dtype or torch.float32, op)
    check("memory_efficient_attention_partial", inputs)
    _refuse_dropout("memory_efficient_attention_partial", p)
    return attend_only(inputs, statistics=True)


def merge_attentions(
    attn_split: torch.Tensor | Sequence[torch.Tensor],
    lse_split: torch.Tensor | Sequence[torch.Tensor],
    write_lse: bool = True,
    output_dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(out, lse) over all keys: out = sum of out_i * exp(lse_i - lse), lse = log of the sum of exp(lse_i).

    attn_split: parts [B, M, H, K] or [B, M, G, H, K], a list or stacked in front; lse_split: as many, [B, H, M] or
    [B, G, H, M]. lse is None without write_lse. A part with lse -inf adds nothing. There is no derivative.
    """
    return merge(attn_split, lse_split, write_lse, output_dtype)


def _refuse_dropout(function: str, p: float) -> None:
    if p != 0.0:
        raise NotImplementedError(f"{function}: p is {p}; accepted is 0.0, for dropout call memory_efficient_attention")
