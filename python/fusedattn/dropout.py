"""Dropout of probabilities: its arguments read, and the mask it keeps, which is a function of a seed."""

import math

from . import _native
from .numerals import integer, integers, real

_MOST_ELEMENTS = 2**63 - 1


def keep_probability(dropout_p) -> float:
    """1 - dropout_p. TypeError for what is no number, ValueError for one below 0, or 1 and above."""
    dropped = real("dropout_p", dropout_p)
    if not 0 <= dropped < 1:
        raise ValueError(
            f"dropout_p is {dropout_p!r}; accepted are numbers from 0 (nothing is dropped) to below 1"
        )
    return 1.0 - dropped


def read_stream(dropout_seed) -> tuple[int, int]:
    """(seed, offset) of an integer, or of a pair, each as a signed integer of 64 bits."""
    pair = dropout_seed if isinstance(dropout_seed, (tuple, list)) else (dropout_seed, 0)
    if len(pair) != 2:
        raise TypeError(f"dropout_seed is {dropout_seed!r}; accepted is an integer, or (seed, offset)")
    seed = _signed("dropout_seed", pair[0], "an integer, or (seed, offset)")
    return seed, _signed("dropout_seed[1]", pair[1])


def dropout_mask(shape, dropout_p: float, seed: int, offset: int = 0):
    """Which probabilities attention(..., dropout_p=dropout_p, dropout_seed=(seed, offset)) keeps.

    shape: [B, N, Sq, Skv] of that call. Packed: the elements of one sequence follow those of the one before,
    each as [N, its Sq, its Skv]; ask for (their number,) and cut.
    Returns a NumPy bool array of this shape, True where a probability is kept (and divided by 1 - dropout_p).
    dropout_p is kept to 1/65536: the number kept is that of 16-bit draws below (1 - dropout_p) * 65536.
    """
    import numpy

    sizes = tuple(integers("shape", shape))
    if math.prod(size or 1 for size in sizes) > _MOST_ELEMENTS:
        raise ValueError(f"shape is {sizes}; accepted are at most 2^63 - 1 elements")
    count = math.prod(sizes)
    seed, offset = _signed("seed", seed), _signed("offset", offset)
    dropout = _native.Dropout(keep_probability(dropout_p), None, seed % 2**64, offset % 2**64)
    packed = numpy.zeros((count + 7) // 8, numpy.uint8)
    _native.dropout_bits(dropout, count, packed.ctypes.data)
    return numpy.unpackbits(packed, count=count, bitorder="little").view(bool).reshape(sizes)


def _signed(name: str, value, accepted: str = "an integer") -> int:
    """An integer from -2**63 to 2**64 - 1, as the signed integer of the same 64 bits."""
    if isinstance(value, int) and not isinstance(value, bool) and 2**63 <= value < 2**64:
        return value - 2**64
    return integer(name, value, accepted)
