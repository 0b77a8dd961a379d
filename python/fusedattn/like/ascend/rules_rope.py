"""Constraints: the rotary parts of query and key."""

from .facts import Facts
from .refusal import NULL, VALUE

_ROPES = ("query_rope", "key_rope")


def _given(f: Facts) -> bool:
    return f.request.query_rope is not None and f.request.key_rope is not None


def _both(f: Facts) -> str | None:
    given = [name for name in _ROPES if getattr(f.request, name) is not None]
    return f"{f.spelled(given[0])} is given alone" if len(given) == 1 else None


def _dtype(f: Facts) -> str | None:
    if not _given(f):
        return None
    for name in ("query", "key", "value", *_ROPES):
        dtype = getattr(f.request, name).dtype
        if dtype != "bfloat16":
            return f"{f.spelled(name)} has dtype {dtype} beside {f.spelled('query_rope')}"
    return None


def _layout(f: Facts) -> str | None:
    if _given(f) and not f.packed:
        return f"{f.spelled('query_rope')} is given with input_layout {f.request.input_layout}"
    return None


def _shape(f: Facts) -> str | None:
    if not _given(f):
        return None
    for name, beside in zip(_ROPES, ("query", "key")):
        shape, wanted = getattr(f.request, name).shape, getattr(f.request, beside).shape
        if len(shape) != 3 or shape[:2] != wanted[:2] or shape[2] != f.Dr:
            return f.shape(name)
    return None


def _features(f: Facts) -> str | None:
    if _given(f) and not (0 < f.Dr <= f.D and f.D % 8 == 0 and f.Dr % 8 == 0):
        return f"{f.spelled('query_rope')} has head size {f.Dr} beside query's {f.D}"
    return None


def _alone(f: Facts) -> str | None:
    if not _given(f):
        return None
    beside = f"beside {f.spelled('query_rope')}"
    if f.request.sparse_mode == 6:
        return f"sparse_mode is 6 {beside}"
    for name in ("real_shift", "drop_mask"):
        if getattr(f.request, name) is not None:
            return f"{f.spelled(name)} is given {beside}"
    return f"keep_prob is {f.request.keep_prob} {beside}" if f.request.keep_prob != 1 else None


def _mask(f: Facts) -> str | None:
    if _given(f) and not f.masked:
        return f"{f.spelled('atten_mask')} is None beside {f.spelled('query_rope')}"
    return None


ROWS = (
    ("rope.both", VALUE, VALUE, "query_rope and key_rope, or neither", _both),
    ("rope.layout", VALUE, VALUE, "TND", _layout),
    ("rope.dtype", VALUE, VALUE, "bfloat16 for all five", _dtype),
    (
        "rope.shape",
        VALUE,
        VALUE,
        "query's and key's but for the last dimension, which is the same for both",
        _shape,
    ),
    ("rope.features", VALUE, VALUE, "multiples of 8, the rotary part not above query's", _features),
    ("rope.alone", VALUE, VALUE, "no pse, no dropout, a sparse_mode other than 6", _alone),
    ("rope.mask", NULL, NULL, "a mask", _mask),
)
