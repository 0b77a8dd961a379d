"""Constraints: the bits that dropout takes from the caller."""

from .facts import Facts
from .refusal import TILING


def _read(f: Facts) -> bool:
    """Whether drop_mask is looked at: the gradient ignores it where nothing is dropped."""
    return f.request.drop_mask is not None and (not f.backward or f.keep_prob < 1 or f.request.drop_always)


def _dtype(f: Facts) -> str | None:
    if not _read(f) or f.request.drop_mask.dtype == "uint8":
        return None
    return f"{f.spelled('drop_mask')} has dtype {f.request.drop_mask.dtype}"


def _size(f: Facts) -> str | None:
    if not _read(f) or f.request.drop_mask.size * 8 >= f.numels:
        return None
    return f"{f.spelled('drop_mask')} has {f.request.drop_mask.size} bytes for {f.numels} scores"


def _missing(f: Facts) -> str | None:
    if f.keep_prob == 1 or f.request.drop_mask is not None or f.request.generate:
        return None
    return f"{f.spelled('drop_mask')} is None with keep_prob {f.request.keep_prob}"


ROWS = (
    ("dropout.dtype", TILING, TILING, "uint8", _dtype),
    ("dropout.size", TILING, TILING, "one bit per score", _size),
    ("dropout.missing", None, TILING, "the bits that the forward took", _missing),
)
