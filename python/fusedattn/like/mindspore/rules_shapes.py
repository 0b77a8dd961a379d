"""Constraints of flash_attention_score alone: MindSpore takes fewer shapes and modes than the operator."""

from ..ascend.facts import Facts
from ..ascend.masks import COMPRESSED

_FULL = (0, 1, 5)  # the modes with a mask of all scores


def _mode(f: Facts) -> str | None:
    mode = f.request.sparse_mode
    return None if mode in range(6) else f"sparse_mode is {mode}"


def _mask_missing(f: Facts) -> str | None:
    mode = f.request.sparse_mode
    return f"attn_mask is None with sparse_mode {mode}" if mode and not f.masked else None


def _compressed_mask(f: Facts) -> str | None:
    if not f.masked or f.mode in _FULL or f.request.atten_mask.shape == COMPRESSED[f.mode]:
        return None
    return f"{f.shape('atten_mask')} with sparse_mode {f.mode}"


def _full_mask(f: Facts) -> str | None:
    if f.packed or not f.masked or f.mode not in _FULL:
        return None
    scores = (f.Sq, f.Skv)
    shapes = [(f.B, f.N1, *scores), (f.B, 1, *scores)] + [scores] * (f.mode != 5)
    return (
        None if f.request.atten_mask.shape in shapes else f"{f.shape('atten_mask')} with sparse_mode {f.mode}"
    )


def _shift(f: Facts) -> str | None:
    shift = f.request.real_shift
    if shift is None:
        return None
    rows, columns = f.longest
    allowed = (1024,) if f.packed else (rows, 1024)
    good = (
        len(shift.shape) == 4
        and shift.shape[0] in (1, f.B)
        and shift.shape[1:] in [(f.N1, r, columns) for r in allowed]
    )
    return None if good else f.shape("real_shift")


def _drop_mask(f: Facts) -> str | None:
    mask = f.request.drop_mask
    if mask is None:
        return None
    if not f.packed and f.Skv % 8:
        return f"drop_mask is given with S2 {f.Skv}"
    wanted = ((f.numels + 7) // 8,) if f.packed else (f.B, f.N1, f.Sq, f.Skv // 8)
    return None if mask.shape == wanted else f"{f.shape('drop_mask')} for {f.numels} scores"


def _drop_mask_unused(f: Facts) -> str | None:
    given = f.keep_prob == 1 and f.request.drop_mask is not None
    return "drop_mask is given with keep_prob 1" if given else None


def _drop_mask_missing(f: Facts) -> str | None:
    missing = f.keep_prob < 1 and f.request.drop_mask is None
    return f"drop_mask is None with keep_prob {f.request.keep_prob}" if missing else None


def _prefix_missing(f: Facts) -> str | None:
    prefix = f.request.prefix
    if f.request.sparse_mode != 5 or (prefix is not None and len(prefix) == f.B):
        return None
    return f"prefix is {prefix if prefix is None else list(prefix)} with sparse_mode 5 and {f.B} sequences"


def _prefix_unused(f: Facts) -> str | None:
    given = f.request.sparse_mode != 5 and f.request.prefix is not None
    return f"prefix is {list(f.request.prefix)} with sparse_mode {f.request.sparse_mode}" if given else None


def _value_shape(f: Facts) -> str | None:
    same = f.request.value.shape == f.request.key.shape
    return None if same else f"{f.shape('value')}, {f.shape('key')}"


ROWS = (
    ("value.shape", RuntimeError, "equal shapes", _value_shape),
    ("sparse_mode", RuntimeError, "0 to 5", _mode),
    ("mask.missing", RuntimeError, "a mask, or sparse_mode 0", _mask_missing),
    ("mask.compressed", RuntimeError, "[2048, 2048]", _compressed_mask),
    ("mask.full", RuntimeError, "[B, N1, S1, S2], [B, 1, S1, S2], and in modes 0 and 1 [S1, S2]", _full_mask),
    ("shift.shape", RuntimeError, "[B, N1, S1, S2] with 1 for B or 1024 for S1; with TND 1024 rows", _shift),
    (
        "drop_mask.shape",
        RuntimeError,
        "[B, N1, S1, S2 / 8] with S2 a multiple of 8; with TND [scores / 8]",
        _drop_mask,
    ),
    ("drop_mask.unused", RuntimeError, "None, or a keep_prob below 1", _drop_mask_unused),
    ("drop_mask.missing", RuntimeError, "a drop_mask, or keep_prob 1.0", _drop_mask_missing),
    ("prefix.missing", RuntimeError, "one integer per sequence", _prefix_missing),
    ("prefix.unused", RuntimeError, "None, or sparse_mode 5", _prefix_unused),
)
