"""From tensors of any number of leading dimensions to [batch, heads, rows, features], as views where strides allow."""

from __future__ import annotations

import torch

from ..problem import announce_copy
from .sdpa_arguments import Call, causal_variant


def fold(call: Call):
    """(shape, query, key, value, attn_mask), 4-D tensors; shape of the output before folding, None if it stays.

    A mask has at least 2 dimensions and all columns then, and 1 wherever it may repeat.
    """
    query, key, value, mask = call[:4]
    if causal_variant(mask) is not None:
        mask, variant = None, mask
    else:
        variant = None
    shapes = query.shape, key.shape, value.shape
    has_columns = mask is None or (2 <= mask.dim() <= 4 and mask.shape[-1] == key.shape[-2])
    if has_columns and _is_usual(*shapes, call.enable_gqa):
        return None, query, key, value, mask if variant is None else variant
    if mask is not None:
        mask = _with_columns(mask, key.shape[-2])
    query, key, value, heads = _with_heads(query, key, value, call.enable_gqa)
    batch = torch.broadcast_shapes(*(tensor.shape[:-3] for tensor in (query, key, value)))
    tensors = {
        name: tensor.expand(*batch, *tensor.shape[-3:])
        for name, tensor in (("query", query), ("key", key), ("value", value))
    }
    if mask is not None:
        tensors["attn_mask"] = mask[(None,) * (len(batch) + 3 - mask.dim())]
    full = (*batch, heads)
    cut = _best_cut(tensors, full)
    folded = [_folded(name, tensor, cut, full) for name, tensor in tensors.items()]
    if mask is None:
        folded.append(variant)
    shape = (*full, query.shape[-2], value.shape[-1])
    return shape[-max(tensor.dim() for tensor in call[:3]) :], *folded


def _is_usual(query, key, value, enable_gqa: bool) -> bool:
    """Whether shapes are [batch, heads, rows, features] of one batch, and key and value have heads in common."""
    return (
        len(query) == 4 and len(key) == 4 and len(value) == 4
        and query[0] == key[0] and key[:2] == value[:2]
        and (query[1] == key[1] or key[1] == 1 or enable_gqa)
    )  # fmt: skip


def _with_columns(mask, columns: int):
    """A mask of 2 dimensions or more, the last one in full."""
    if mask.dim() < 2:
        mask = mask[(None,) * (2 - mask.dim())]
    return mask.expand(*mask.shape[:-1], columns)


def _with_heads(query, key, value, enable_gqa: bool):
    """The tensors with 3 dimensions or more, one number of heads for key and value, and query's number."""
    query, key, value = (t if t.dim() > 2 else t[None] for t in (query, key, value))
    heads = query.shape[-3] if enable_gqa else max(t.shape[-3] for t in (query, key, value))
    if query.shape[-3] != heads or key.shape[-3] != value.shape[-3]:
        query, key, value = (
            t if t.shape[-3] == heads else _repeated(name, t, heads // t.shape[-3])
            for name, t in (("query", query), ("key", key), ("value", value))
        )
    return query, key, value, heads


def _repeated(name: str, tensor, times: int):
    """Each head this many times: a view of a single one."""
    if tensor.shape[-3] == 1:
        return tensor.expand(*tensor.shape[:-3], times, *tensor.shape[-2:])
    announce_copy(name, tensor.shape, tensor.stride(-1), tensor.element_size())
    return tensor.repeat_interleave(times, dim=-3)


def _best_cut(tensors, full) -> int:
    """How many of the leading dimensions to join to a batch, the others to heads: so that least is copied."""
    best, least = len(full) - 1, None
    for cut in range(len(full) - 1, -1, -1):
        laid = [_whole(name, tensor, cut, full) for name, tensor in tensors.items()]
        copied = sum(tensor.numel() for tensor in laid if not _is_view(tensor, cut))
        if least is None or copied < least:
            best, least = cut, copied
    return best


def _whole(name: str, tensor, cut: int, full):
    """A mask repeated where only some of the dimensions to be joined are 1; other tensors as they are."""
    if name != "attn_mask":
        return tensor
    sizes = list(tensor.shape)
    for first, last in ((0, cut), (cut, len(full))):
        if any(size != 1 for size in sizes[first:last]):
            sizes[first:last] = full[first:last]
    return tensor.expand(sizes)


def _is_view(tensor, cut: int) -> bool:
    """Whether the dimensions before the cut are one dimension to some stride, and those after it."""
    sizes, steps = tensor.shape[:-2], tensor.stride()
    for run in (range(cut), range(cut, len(sizes))):
        kept = [axis for axis in run if sizes[axis] != 1]
        if any(steps[outer] != steps[inner] * sizes[inner] for outer, inner in zip(kept, kept[1:])):
            return False
    return True


def _folded(name: str, tensor, cut: int, full):
    """The tensor as [batch, heads, rows, features], leading dimensions joined before and after the cut."""
    tensor = _whole(name, tensor, cut, full)
    if not _is_view(tensor, cut):
        announce_copy(name, tensor.shape, tensor.stride(-1), tensor.element_size())
    tensor = tensor.flatten(cut, len(full) - 1)
    return tensor.flatten(0, cut - 1) if cut else tensor[None]
