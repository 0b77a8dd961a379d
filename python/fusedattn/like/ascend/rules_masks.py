"""Constraints: sparse modes, the masks they take, their tokens and prefixes."""

from .facts import Facts
from .masks import COMPRESSED, full_mask_shapes
from .refusal import TILING


def _mode(f: Facts) -> str | None:
    modes = (0, 1, 2, 3, 4, 6, 7, 8) if f.packed else range(7)
    mode = f.request.sparse_mode
    return None if mode in modes else f"sparse_mode is {mode} with input_layout {f.request.input_layout}"


def _dtype(f: Facts) -> str | None:
    if not f.masked or f.request.atten_mask.dtype in ("bool", "uint8"):
        return None
    return f"{f.spelled('atten_mask')} has dtype {f.request.atten_mask.dtype}"


def _compressed(f: Facts) -> str | None:
    if not f.masked or f.mode not in COMPRESSED:
        return None
    shape = f.request.atten_mask.shape
    if len(shape) in (2, 4) and shape[-2:] == COMPRESSED[f.mode]:
        return None
    return f"{f.shape('atten_mask')}; sparse_mode {f.mode} takes the compressed {list(COMPRESSED[f.mode])}"


def _full(f: Facts) -> str | None:
    if not f.masked or f.mode in COMPRESSED or f.request.atten_mask.shape in full_mask_shapes(f):
        return None
    return f"{f.shape('atten_mask')} with sparse_mode {f.mode}"


def _accepted_full(f: Facts) -> str:
    return ", ".join(str(list(shape)) for shape in full_mask_shapes(f))


def _token_fault(f: Facts) -> str | None:
    if not f.masked or f.mode not in (0, 4):
        return None
    return next(
        filter(None, (_packed_fault(f, *pair) if f.packed else _fault(f, *pair) for pair in f.lengths)), None
    )


def _tokens(f: Facts, q_len: int, kv_len: int, fault: str) -> str:
    names = f.spelled("pre_tockens"), f.spelled("next_tockens")
    return (
        f"{names[0]} is {f.pre}, {names[1]} is {f.next}: with sparse_mode {f.mode} and lengths"
        f" q {q_len}, kv {kv_len} {fault}"
    )


def _fault(f: Facts, q_len: int, kv_len: int) -> str | None:
    """Outside TND: the band as seen from the left top must meet the scores."""
    shift = kv_len - q_len if f.mode == 4 else 0
    left, right = f.pre - shift, f.next + shift
    if left < 0 and right < 0:
        fault = "both edges lie beyond the diagonal"
    elif left < 0 and not (right >= -left and -left < kv_len):
        fault = f"{f.spelled('pre_tockens')} leaves no column"
    elif right < 0 and not (-right <= left and -right < q_len):
        fault = f"{f.spelled('next_tockens')} leaves no column"
    else:
        return None
    return _tokens(f, q_len, kv_len, fault)


def _packed_fault(f: Facts, q_len: int, kv_len: int) -> str | None:
    """TND, one sequence; sequences without rows or columns are skipped."""
    if q_len == 0 or kv_len == 0:
        return None
    if f.mode == 0:
        valid = f.next >= 0 and kv_len + f.pre >= q_len and (f.pre >= 0 or f.next >= -f.pre)
        needs = "next >= 0, kv + pre >= q, pre + next >= 0"
    else:
        valid = f.pre >= 0 and (f.next >= 0 or f.pre + f.next >= 0) and q_len - f.next <= kv_len
        needs = "pre >= 0, pre + next >= 0, q - next <= kv"
    return None if valid else _tokens(f, q_len, kv_len, f"not all of {needs} hold")


def _longer_queries(f: Facts) -> str | None:
    if not (f.packed and f.masked and f.mode in (3, 7)):
        return None
    for b, (rows, columns) in enumerate(f.lengths):
        if rows > columns and columns:
            return f"sequence {b} has q length {rows} and kv length {columns} with sparse_mode {f.mode}"
    return None


def _cut_tokens(f: Facts) -> str | None:
    if not (f.packed and f.masked and f.mode in (7, 8)) or f.band_sequence < 0:
        return None
    rows, columns = f.lengths[f.band_sequence]
    if f.pre >= columns and rows - f.next <= columns and (f.mode == 8 or f.next <= 0):
        return None
    return _tokens(f, rows, columns, f"of sequence {f.band_sequence}, not all of the conditions hold")


def _prefix_number(f: Facts) -> str | None:
    if not f.masked or f.mode != 6:
        return None
    prefix = f.request.prefix
    if prefix is None:
        return "prefix is None with sparse_mode 6"
    return None if len(prefix) == f.B else f"prefix has {len(prefix)} entries for {f.B} sequences"


def _prefix_range(f: Facts) -> str | None:
    if not f.masked or f.mode != 6:
        return None
    lengths = f.lengths if f.packed else f.lengths * f.B
    for b, (length, (rows, columns)) in enumerate(zip(f.request.prefix, lengths)):
        if not max(columns - rows, 0) <= length <= columns:
            return f"prefix[{b}] is {length} with q length {rows}, kv length {columns}"
    return None


ROWS = (
    ("sparse.mode", TILING, TILING, "0 to 6, with TND 0 to 4 and 6 to 8", _mode),
    ("mask.dtype", TILING, TILING, "bool and uint8", _dtype),
    ("mask.compressed", TILING, TILING, "that shape, with or without two dimensions before it", _compressed),
    ("mask.full", TILING, TILING, _accepted_full, _full),
    ("tokens.band", TILING, TILING, "tokens whose band meets the scores", _token_fault),
    ("tokens.lengths", TILING, TILING, "sequences with q length <= kv length", _longer_queries),
    ("tokens.cut", TILING, TILING, "pre >= kv, q - next <= kv, and with mode 7 next <= 0", _cut_tokens),
    ("prefix.number", TILING, TILING, "one entry per sequence", _prefix_number),
    ("prefix.range", TILING, TILING, "max(0, kv - q) to kv", _prefix_range),
)
