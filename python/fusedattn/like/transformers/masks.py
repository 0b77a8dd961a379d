"""The mask function: what a model's layers may see, as bands, padding and sequence lengths where those say it."""

from __future__ import annotations

import functools

import torch
from transformers.masking_utils import (
    bidirectional_mask_function,
    causal_mask_function,
    prepare_padding_mask,
    sdpa_mask,
)
from transformers.utils.import_utils import is_tracing

from ...mask import UNBOUNDED, Band
from .patterns import Pattern, read
from .seen import SeenMask, Sight

_BIDIRECTIONAL, _CAUSAL = Band(), Band(right=0)


def attention_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | torch.Tensor = 0,
    kv_offset: int = 0,
    mask_function=causal_mask_function,
    attention_mask: torch.Tensor | None = None,
    allow_is_causal_skip: bool = True,
    allow_is_bidirectional_skip: bool = False,
    **kwargs,
) -> torch.Tensor | None:
    """The mask for `attention_forward`, as transformers asks for it: None, or bool [B, 1, Sq, Skv], True is visible.

    q_offset, kv_offset: the places of the first query and the first key in the whole sequence. mask_function: the
    pattern, of places. attention_mask: the model's padding, bool [B, tokens]. The skips allow None, for what the
    layer's own is_causal says.

    The result is a SeenMask, without memory for its pairs, where the pattern is known (causal, sliding window,
    chunks, packed sequences, padding), a view with stride 0 over the queries where padding alone hides anything,
    and else, for single queries, and while torch.compile or another tracer looks on, the bytes that transformers
    makes for torch's own attention.
    """
    make = functools.partial(
        sdpa_mask, batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask,
        allow_is_causal_skip=False, allow_is_bidirectional_skip=False, **kwargs,
    )  # fmt: skip
    tracing = is_tracing(q_offset if isinstance(q_offset, torch.Tensor) else attention_mask)
    if tracing and mask_function is not bidirectional_mask_function:
        return make()
    pattern = Pattern() if tracing else read(mask_function)
    if pattern is None:
        return make()
    padding = _columns(attention_mask, kv_offset, kv_length)
    if tracing:
        return make() if padding is None else _shown_to_all(padding, batch_size, q_length)
    sight = _sight(pattern, padding, q_length, int(q_offset), kv_offset, batch_size, kv_length)
    if sight is None:
        return make()
    if sight.padding is None and sight.ends is None:
        band = _trimmed(sight.band, q_length, kv_length)
        skip = allow_is_bidirectional_skip or (allow_is_causal_skip and q_length == 1)
        if band == _BIDIRECTIONAL and skip or band == _CAUSAL and allow_is_causal_skip and q_length > 1:
            return None
    if sight.padding is not None and sight.ends is None:
        if _trimmed(sight.band, q_length, kv_length) == _BIDIRECTIONAL:
            return _shown_to_all(sight.padding, batch_size, q_length)
    if q_length == 1:  # one row of bytes per sequence, which a compiled step may take
        return make()
    return SeenMask((batch_size, 1, q_length, kv_length), sight, make)


def _columns(attention_mask, kv_offset: int, kv_length: int):
    """The padding of the keys, bool [B, Skv]; None where there is none."""
    if attention_mask is None:
        return None
    return prepare_padding_mask(attention_mask, kv_length, kv_offset)[:, kv_offset : kv_offset + kv_length]


def _shown_to_all(padding, batch_size: int, q_length: int):
    """Padding [B, Skv] as a mask [B, 1, Sq, Skv], a view."""
    return padding[:, None, None, :].expand(batch_size, 1, q_length, padding.shape[-1])


def _trimmed(band: Band, rows: int, columns: int) -> Band:
    """The band, unbounded where its edges hide nothing of so many rows and columns."""
    left = UNBOUNDED if band.left >= rows - 1 else band.left
    return Band(left, UNBOUNDED if band.right >= columns - 1 else band.right)


def _sight(pattern: Pattern, padding, rows: int, q_offset: int, kv_offset: int, batch: int, columns: int):
    """The pattern and the padding [B, Skv] as numbers; None where only bytes can say them."""
    square = rows == columns and q_offset == kv_offset == 0
    if pattern.sequences is not None or pattern.positions is not None:
        complete = pattern.sequences is not None and pattern.positions is not None
        if not complete or not square or padding is not None:
            return None
        return _packed(pattern, batch)
    if pattern.chunk is not None and not _is_one_chunk(pattern.chunk, max(kv_offset + columns, q_offset + rows), padding):
        return _chunked(pattern, padding, batch, rows) if square and rows > 1 else None
    shift = q_offset - kv_offset
    band = Band(
        UNBOUNDED if pattern.band.left == UNBOUNDED else pattern.band.left - shift,
        UNBOUNDED if pattern.band.right == UNBOUNDED else pattern.band.right + shift,
    )
    reach = min(columns, max(0, rows + band.right))  # columns that the band shows
    if padding is not None and bool(padding[:, :reach].all()):
        padding = None
    return Sight(band, padding)


def _is_one_chunk(chunk, end: int, padding) -> bool:
    """Whether all tokens before `end` are in one chunk, but for those that padding hides in front."""
    size, start = chunk
    if padding is None and bool((start != 0).any()):
        return False
    return end - int(start.min()) <= size


def _packed(pattern: Pattern, batch: int):
    """Packed sequences, each cut where a chunk of its positions ends. None unless positions count up in each."""
    sequences, positions = (t.expand(batch, -1) for t in (pattern.sequences, pattern.positions))
    new = torch.ones_like(sequences, dtype=torch.bool)
    new[:, 1:] = sequences.diff(dim=-1) != 0
    in_order = (sequences.diff(dim=-1) >= 0) & (new[:, 1:] | (positions.diff(dim=-1) == 1))
    if not bool(in_order.all()):
        return None
    if pattern.chunk is not None:
        size, start = pattern.chunk
        new[:, 1:] |= torch.div(positions - start[:, None], size, rounding_mode="floor").diff(dim=-1) != 0
    first = new.flatten().nonzero().flatten()
    ends = torch.cat((first, first.new_tensor([new.numel()])))
    return Sight(pattern.band, ends=(ends, ends))


def _chunked(pattern: Pattern, padding, batch: int, rows: int):
    """Chunks as packed sequences, without the keys that padding hides. None unless those are at a row's ends.

    Rows before a chunk's first key see nothing: a sequence without keys. Keys that nothing sees: one without rows.
    """
    if pattern.band != _CAUSAL:
        return None
    size, start = pattern.chunk
    ends = [(0, 0)]
    for b in range(batch):
        low, high = _run(padding, b, rows)
        begin = int(start[b if len(start) > 1 else 0])
        if low is None or not low <= begin or (low != begin and low != 0):
            return None
        base = b * rows
        begin %= size
        cuts = sorted({0, low, rows, *range(begin, rows, size)})
        for first, last in zip(cuts, cuts[1:]):
            shown = max(first, min(last, high)) if first >= low else first
            ends += [(base + last, base + shown), (base + last, base + last)]
    q_ends, k_ends = torch.tensor(ends).T.contiguous()
    return Sight(pattern.band, ends=(q_ends, k_ends))


def _run(padding, b: int, columns: int):
    """(first, after the last) of the columns that show in sequence b; (None, None) if others are hidden between."""
    if padding is None:
        return 0, columns
    shown = padding[b if len(padding) > 1 else 0].nonzero().flatten()
    if not len(shown):
        return columns, columns
    low, high = int(shown[0]), int(shown[-1]) + 1
    return (low, high) if high - low == len(shown) else (None, None)
