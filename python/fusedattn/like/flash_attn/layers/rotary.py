"""flash_attn.layers.rotary: rotary position embeddings, in float32 and rounded once."""

from __future__ import annotations

import torch

from ..arguments import Refused, named, refuse


def apply_rotary_emb(
    x, cos, sin, interleaved=False, inplace=False, seqlen_offsets=0, cu_seqlens=None, max_seqlen=None
):
    """x with its first rotary_dim features rotated by the angles of their positions. Differentiable in x.

    x: (batch_size, seqlen, nheads, headdim), or with cu_seqlens (total_seqlen, nheads, headdim).
    cos, sin: (seqlen_rotary, rotary_dim / 2), rotary_dim at most headdim.
    interleaved: rotate features 0 and 1, 2 and 3 (GPT-J), or else 0 and rotary_dim / 2 (GPT-NeoX).
    inplace: write into x and return it. seqlen_offsets: the position of the first token, an integer or one per
    sequence. max_seqlen is not needed. Raises RuntimeError for positions beyond seqlen_rotary.
    """
    with named("apply_rotary_emb"):
        if x.dim() != (4 if cu_seqlens is None else 3):
            form = "(batch_size, seqlen, nheads, headdim), or with cu_seqlens (total_seqlen, nheads, headdim)"
            refuse("x", x, form)
        rotated = rotate_at(x, cos, sin, _positions(x, seqlen_offsets, cu_seqlens), interleaved)
    return x.copy_(rotated) if inplace else rotated


apply_rotary_emb_func = apply_rotary_emb


def rotate_at(x, cos, sin, positions, interleaved):
    """x (..., nheads, headdim) rotated by the angles at positions (...). Refused where they do not fit."""
    if cos.dim() != 2 or cos.shape != sin.shape or 2 * cos.shape[1] > x.shape[-1]:
        raise Refused(
            f"cos is {tuple(cos.shape)} and sin {tuple(sin.shape)}; accepted are two tensors"
            f" (seqlen_rotary, rotary_dim / 2) with rotary_dim at most headdim, {x.shape[-1]}"
        )
    if positions.numel() and not (0 <= int(positions.min()) and int(positions.max()) < len(cos)):
        raise Refused(
            f"the positions of the rotary embedding reach from {int(positions.min())} to {int(positions.max())}; accepted are those"
            f" of cos and sin, 0 to {len(cos) - 1}"
        )
    cos, sin = (table[positions].unsqueeze(-2).float() for table in (cos, sin))
    dim = 2 * cos.shape[-1]
    turned, rest = x[..., :dim].float(), x[..., dim:]
    pair = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, dim=-1)
    both = (pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos)
    joined = torch.stack(both, dim=-1).flatten(-2) if interleaved else torch.cat(both, dim=-1)
    return torch.cat((joined.to(x.dtype), rest), dim=-1)


def _positions(x, offsets, cu_seqlens):
    """The position of every token: (batch_size, seqlen), or with cu_seqlens (total_seqlen,)."""
    if cu_seqlens is None:
        steps = torch.arange(x.shape[1], device=x.device)
        if isinstance(offsets, torch.Tensor):
            return offsets.long().unsqueeze(-1) + steps
        return (steps + offsets).expand(x.shape[0], -1)
    starts = cu_seqlens[:-1].long()
    if isinstance(offsets, torch.Tensor):
        starts = starts - offsets.long()
    lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).long()
    shift = 0 if isinstance(offsets, torch.Tensor) else offsets
    steps = torch.arange(x.shape[0], device=x.device)
    first = torch.repeat_interleave(starts, lengths, output_size=int(lengths.sum()))
    return torch.nn.functional.pad(steps[: len(first)] - first + shift, (0, len(steps) - len(first)))
