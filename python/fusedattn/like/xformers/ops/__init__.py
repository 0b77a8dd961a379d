"""xformers.ops on CPUs, as far as it concerns attention."""

from __future__ import annotations

import torch

from . import fmha
from .fmha import (
    AttentionBias,
    LowerTriangularMask,
    memory_efficient_attention,
    memory_efficient_attention_backward,
    memory_efficient_attention_forward,
    memory_efficient_attention_forward_requires_grad,
    memory_efficient_attention_partial,
)

__all__ = [
    "AttentionBias",
    "LowerTriangularMask",
    "fmha",
    "memory_efficient_attention",
    "memory_efficient_attention_backward",
    "memory_efficient_attention_forward",
    "memory_efficient_attention_forward_requires_grad",
    "memory_efficient_attention_partial",
    "unbind",
]


def unbind(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, ...]:
    """x.unbind(dim), as packed queries, keys and values are taken apart."""
    return x.unbind(dim)
