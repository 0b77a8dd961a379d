"""Sparse modes 0 to 8 as bands, prefixes and bytes: which columns a row sees.

Delta = columns - rows of a sequence. Without a mask nothing is masked, whatever the mode.

    0  what the mask shows, -pre <= column - row <= next
    1  what the mask shows
    2  column <= row
    3  column <= row + Delta
    4  -pre <= column - row - Delta <= next
    5  what the mask shows (the prefix is a hint alone)
    6  column <= row + Delta, or column < prefix
    7  as 3; in the last sequence with rows <= row + Delta + next
    8  as 2; in the first sequence with rows <= row + Delta + next

The modes of COMPRESSED take a mask of that shape and evaluate their rule whatever it holds.
"""

import ctypes

from ... import _native
from .facts import INT_MAX, Facts
from .operand import Operand

UNBOUNDED = _native.UNBOUNDED
COMPRESSED = {mode: (2048, 2048) for mode in (2, 3, 4, 7, 8)} | {6: (3072, 2048)}


def full_mask_shapes(f: Facts) -> list[tuple[int, ...]]:
    """The shapes that a mode without a compressed mask takes."""
    if f.packed:
        return _packed_mask_shapes(f)
    B, N1, scores = f.B, f.N1, (f.Sq, f.Skv)
    per_sequence = [(B, 1, *scores), (B, N1, *scores)]
    if f.mode == 5 and B != 1 and _legal_prefix(f):
        return per_sequence
    return [scores, (1, 1, *scores), *per_sequence]


def _packed_mask_shapes(f: Facts) -> list[tuple[int, ...]]:
    """Local to each sequence, or over all rows; per sequence and head where all lengths are equal."""
    longest = f.longest
    shapes = [longest, (1, 1, *longest), f.totals]
    if len(set(f.lengths)) == 1:
        shapes += [(b, n, *longest) for b in (1, f.B) for n in (1, f.N1)]
    return list(dict.fromkeys(shapes))


def _legal_prefix(f: Facts) -> bool:
    prefix = f.request.prefix
    return (
        prefix is not None
        and len(prefix) == f.B
        and all(max(f.Skv - f.Sq, 0) <= length <= f.Skv for length in prefix)
    )


def fill_mask(mask: _native.Mask, f: Facts) -> list:
    """Writes all of a mask but the address of its bytes; returns the arrays that must outlive it."""
    if not f.masked:
        return []
    if f.mode not in COMPRESSED:
        _lay_bytes(mask, f.request.atten_mask, f)
    if f.mode == 0:
        mask.top_left = _band(f.pre, f.next)
    elif f.mode == 2:
        mask.top_left.right = 0
    elif f.mode in (3, 6, 7):
        mask.bottom_right.right = 0
    elif f.mode == 4:
        mask.bottom_right = _band(f.pre, f.next)
    if f.mode == 6:
        return [_prefixes(mask, f)]
    return [_cut_bands(mask, f)] if f.mode in (7, 8) else []


def _band(pre: int, following: int) -> _native.Band:
    left, right = (UNBOUNDED if token == INT_MAX else token for token in (pre, following))
    return _native.Band(left, right)


def _lay_bytes(mask: _native.Mask, operand: Operand, f: Facts) -> None:
    *outer, row = operand.strides[:-1]
    repeated = [0 if length == 1 else step for length, step in zip(operand.shape, outer)]
    mask.batch_stride, mask.head_stride = repeated or (0, 0)
    mask.row_stride = row
    mask.meaning = _native.NONZERO_HIDES
    mask.whole = int(f.packed and len(operand.shape) == 2 and operand.shape != f.longest)


def _prefixes(mask: _native.Mask, f: Facts) -> ctypes.Array:
    prefixes = (ctypes.c_int64 * max(f.B, 1))(*f.request.prefix)
    mask.prefix = ctypes.addressof(prefixes)
    return prefixes


def _cut_bands(mask: _native.Mask, f: Facts) -> ctypes.Array:
    """One band per sequence, from the top left. pre is at least the columns, so that it never hides one."""
    bands = (_native.Band * max(f.B, 1))()
    for b, (rows, columns) in enumerate(f.lengths):
        bands[b].left = UNBOUNDED
        if b == f.band_sequence:
            bands[b].right = columns - rows + f.next
        else:
            bands[b].right = UNBOUNDED if f.mode == 7 else 0
    mask.bands = ctypes.addressof(bands)
    return bands
