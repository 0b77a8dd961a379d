"""flash_attn_with_kvcache: new keys and values into the cache, rotated, then attention to what it holds."""

from __future__ import annotations

from typing import NamedTuple

import torch

from fusedattn.like.sequences import Keys, attend_batch, check_pages

from .arguments import Asked, check, check_tensors, log_sum_exp, one_each, refuse, refuse_element
from .layers.rotary import rotate_at

FORM = "batch_size, seqlen, nheads, headdim"


class Rotary(NamedTuple):
    """Tables (seqlen_ro, rotary_dim / 2), and the positions (batch_size,) they start at if not cache_seqlens."""

    cos: torch.Tensor | None
    sin: torch.Tensor | None
    interleaved: bool
    starts: torch.Tensor | None = None


class Cache(NamedTuple):
    """The cache as the call names it."""

    k: torch.Tensor
    v: torch.Tensor
    seqlens: int | torch.Tensor | None
    batch_idx: torch.Tensor | None
    leftpad: torch.Tensor | None
    table: torch.Tensor | None

    def capacity(self) -> int:
        """Rows that a sequence may have."""
        return self.k.shape[1] * (1 if self.table is None else self.table.shape[1])

    def lengths(self, batch: int, new: int) -> list[int]:
        """The rows that each sequence has before `new` ones come."""
        if self.seqlens is None and new:
            refuse("cache_seqlens", None, "an integer or (batch_size,) where k and v are given")
        lengths = one_each("cache_seqlens", self.capacity() if self.seqlens is None else self.seqlens, batch)
        for length in lengths:
            if not 0 <= length <= self.capacity() - new:
                most = f"0 to {self.capacity()}, the rows of the cache, less the {new} new ones"
                refuse_element("cache_seqlens", length, most)
        return lengths

    def places(self, batch: int) -> list[int]:
        """Which of the cache's sequences each sequence of the batch is."""
        if self.batch_idx is None:
            if self.table is None and len(self.k) < batch:
                refuse("k_cache", self.k, f"(batch_size_cache, ...) with at least q's {batch} sequences")
            return list(range(batch))
        if self.table is not None:
            refuse("cache_batch_idx", self.batch_idx, "None beside a block_table")
        places = one_each("cache_batch_idx", self.batch_idx, batch)
        for place in places:
            if not 0 <= place < len(self.k):
                most = len(self.k) - 1
                refuse_element("cache_batch_idx", place, f"sequences of the cache, 0 to {most}")
        return places

    def write(self, k, v, places: list[int], positions) -> None:
        """Rows of k and v (batch_size, seqlen_new, ...) to positions (batch_size, seqlen_new), in place."""
        size = self.k.shape[1]
        if self.table is None:
            where = torch.tensor(places).unsqueeze(1), positions
        else:
            blocks = self.table.long().gather(1, positions // size)
            check_pages("block_table", blocks, len(self.k))
            where = blocks, positions % size
        for cache, rows in ((self.k, k), (self.v, v)):
            cache[where] = rows


def run(q, k, v, cache: Cache, rotary: Rotary, asked: Asked):
    """(out, softmax_lse); k and v, if given, are in the cache afterwards. No gradients."""
    check(
        cache_seqlens=cache.seqlens, cache_batch_idx=cache.batch_idx, cache_leftpad=cache.leftpad,
        block_table=cache.table, rotary_cos=rotary.cos, rotary_sin=rotary.sin, rotary_seqlens=rotary.starts,
    )  # fmt: skip
    check_tensors(FORM, q=q, k_cache=cache.k, v_cache=cache.v)
    if cache.k.shape[:-1] != cache.v.shape[:-1]:
        refuse("v_cache", cache.v, f"k_cache's shape but for the last dimension, {tuple(cache.k.shape)}")
    batch = len(q)
    if cache.table is not None and len(cache.table) != batch:
        refuse("block_table", cache.table, f"(batch_size, ...) with q's {batch} sequences")
    asked.hold(batch, q.shape[2])
    new = _check_new(k, v, q, cache, rotary)
    lengths, places = cache.lengths(batch, new), cache.places(batch)
    pads = [0] * batch if cache.leftpad is None else one_each("cache_leftpad", cache.leftpad, batch)
    for pad in pads:
        if not 0 <= pad <= cache.capacity():
            refuse_element("cache_leftpad", pad, f"0 to {cache.capacity()}, the rows of the cache")
    with torch.no_grad():
        if k is not None:
            starts = torch.tensor(lengths).unsqueeze(1)
            if rotary.cos is not None:
                q, k = _rotated(q, k, rotary, starts, _is_local(asked, cache.capacity()))
            cache.write(k, v, places, starts + torch.arange(new))
        spans = [(pad, max(pad, length + new)) for pad, length in zip(pads, lengths)]
        out, *statistics = attend_batch(asked, q, Keys(cache.k, cache.v, spans, places, cache.table))
        return out, log_sum_exp(*statistics)


def _check_new(k, v, q, cache: Cache, rotary: Rotary) -> int:
    """How many rows come to each sequence."""
    if (k is None) != (v is None):
        refuse("v" if v is None else "k", None, "both k and v, or neither")
    if (rotary.cos is None) != (rotary.sin is None):
        refuse("rotary_sin" if rotary.sin is None else "rotary_cos", None, "both rotary_cos and rotary_sin")
    if k is None:
        if rotary.cos is not None:
            refuse("rotary_cos", rotary.cos, "None where k and v are None")
        return 0
    check_tensors(FORM, q=q, k=k, v=v)
    for name, rows, held in (("k", k, cache.k), ("v", v, cache.v)):
        wanted = (len(q), k.shape[1], *held.shape[2:])
        if any(step == 0 and size > 1 for size, step in zip(held.shape, held.stride())):
            refuse(f"{name}_cache", held, "memory of its own for every element where k and v are written")
        if rows.shape != wanted:
            refuse(name, rows, f"{wanted}, as q, k and the cache have it")
    return k.shape[1]


def _rotated(q, k, rotary: Rotary, starts, local: bool):
    """q and k, k at its positions, q at the same if local, else all of it at the first."""
    first = starts if rotary.starts is None else rotary.starts.long().unsqueeze(1)
    steps = torch.arange(q.shape[1]) * local
    angles = rotary.cos, rotary.sin
    return (
        rotate_at(q, *angles, first + steps, rotary.interleaved),
        rotate_at(k, *angles, first + torch.arange(k.shape[1]), rotary.interleaved),
    )


def _is_local(asked: Asked, capacity: int) -> bool:
    """Whether queries stand at positions of their own, as the original has it: with an edge inside the cache."""
    return any(edge is not None and edge < capacity for edge in asked.edges)

