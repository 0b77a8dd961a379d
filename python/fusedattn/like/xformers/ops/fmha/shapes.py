"""[B, M, K] and [B, M, G, H, K] as the core's [B, M, H, K], and back."""

from __future__ import annotations

from typing import NamedTuple

import torch

from .arguments import Inputs


class Folded(NamedTuple):
    """Tensors [B, M, heads, features] in the dtype to compute in; bias broadcasts to [B, heads, Mq, Mkv].

    groups: None, or of five dimensions (G, H). flat: whether there were three.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    bias: torch.Tensor | None
    groups: tuple[int, int] | None
    flat: bool

    def unfold(self, out, lse):
        """out as query was given, lse [B, heads, M] with its groups."""
        if self.flat:
            return out.squeeze(2), lse
        if self.groups is None:
            return out, lse
        return out.unflatten(2, self.groups), None if lse is None else lse.unflatten(1, self.groups)

    def like_out(self, name: str, tensor):
        """A tensor shaped as the output, folded. ValueError for another shape."""
        shape = (*self.q.shape[:-1], self.v.shape[-1])
        wanted = (*shape[:2], *self.groups, shape[-1]) if self.groups else shape
        wanted = (*shape[:2], shape[-1]) if self.flat else wanted
        if not isinstance(tensor, torch.Tensor) or tuple(tensor.shape) != wanted:
            given = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else f"a {type(tensor).__name__}"
            raise ValueError(f"{name} has shape {given}; accepted is {wanted}, the output's")
        return tensor.reshape(shape)

    def lse(self, lse, seen):
        """A log-sum-exp as [B, heads, M]: columns behind M are left out, one row for each sequence is packed."""
        batch, rows, heads, _ = self.q.shape
        inner = self.groups or (heads,)
        tensor = isinstance(lse, torch.Tensor) and lse.dtype == torch.float32 and lse.is_cpu
        if tensor and lse.dim() == len(inner) + 2 and tuple(lse.shape[1:-1]) == inner:
            lse = lse.flatten(1, -2)
            if lse.shape[0] == batch and lse.shape[-1] >= rows:
                return lse[..., :rows]
            lengths = _lengths(seen)
            if len(lengths) == lse.shape[0] and lse.shape[-1] >= max(lengths, default=0):
                return torch.cat([lse[b, :, :n] for b, n in enumerate(lengths)], dim=-1)[None]
        given = f"{lse.dtype} {tuple(lse.shape)}" if isinstance(lse, torch.Tensor) else f"a {type(lse).__name__}"
        raise ValueError(f"lse is {given}; accepted is torch.float32 {(batch, *inner, rows)} on the CPU")


def _lengths(seen) -> list[int]:
    if seen.rows is not None:
        return [last - first for first, last in seen.rows]
    return [] if seen.q_ends is None else seen.q_ends.diff().tolist()


def fold(inputs: Inputs, bias: torch.Tensor | None, shared: bool = True) -> Folded:
    """shared: keys that are expanded over heads stay one head, unless somebody wants the gradient of each."""
    q, k, v = inputs[:3]
    groups, flat = None, q.dim() == 3
    if flat:
        q, k, v = q.unsqueeze(2), k.unsqueeze(2), v.unsqueeze(2)
    elif shared and torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
        shared = False
    if q.dim() == 5:
        groups = tuple(q.shape[2:4])
        q = q.flatten(2, 3)
        one = shared and all(t.stride(3) == 0 or t.shape[3] == 1 for t in (k, v))
        k, v = (t[:, :, :, 0] if one else t.flatten(2, 3) for t in (k, v))
    elif shared and k.stride(2) == 0 and v.stride(2) == 0:
        k, v = k[:, :, :1], v[:, :, :1]
    if bias is not None:
        bias = _folded_bias(bias, flat, groups, k.shape[1])
    if inputs.output_dtype is torch.float32 and q.dtype is not torch.float32:
        q, k, v = q.float(), k.float(), v.float()
    return Folded(q, k, v, bias, groups, flat)


def _folded_bias(bias, flat: bool, groups, columns: int):
    """What is added to scores [B, heads, Mq, Mkv]; the core wants its last dimension in full."""
    if bias.shape[-1] != columns:
        bias = bias.expand(*bias.shape[:-1], columns).contiguous()
    if flat:
        return bias.unsqueeze(1)
    if groups is None:
        return bias
    if bias.shape[1] == bias.shape[2] == 1:
        return bias.squeeze(1)
    return bias.expand(-1, *groups, -1, -1).flatten(1, 2)
