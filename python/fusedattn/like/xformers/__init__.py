"""xFormers 0.0.35 on CPUs: its attention under its own names, and in its own dispatch.

    from fusedattn.like.xformers import memory_efficient_attention, attn_bias   # in place of xformers.ops.fmha
    from fusedattn.like.xformers import register                                # beside an installed xFormers

docs/xformers.md says what differs.
"""

from . import ops
from .ops import fmha
from .ops.fmha import (
    AttentionBias,
    BlockDiagonalMask,
    LowerTriangularMask,
    Registration,
    attn_bias,
    memory_efficient_attention,
    memory_efficient_attention_backward,
    memory_efficient_attention_forward,
    memory_efficient_attention_forward_requires_grad,
    memory_efficient_attention_partial,
    merge_attentions,
    register,
)

__all__ = [
    "AttentionBias",
    "BlockDiagonalMask",
    "LowerTriangularMask",
    "Registration",
    "attn_bias",
    "fmha",
    "memory_efficient_attention",
    "memory_efficient_attention_backward",
    "memory_efficient_attention_forward",
    "memory_efficient_attention_forward_requires_grad",
    "memory_efficient_attention_partial",
    "merge_attentions",
    "ops",
    "register",
]
__version__ = "0.0.35"  # of the interface
