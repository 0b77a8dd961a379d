"""Constraints: types, shapes and preconditions of the positional shift."""

from .facts import Facts
from .pse import LAST_ROWS, form_of, starts
from .refusal import TILING

FARTHEST_START = 2**52  # sums with positions stay far from the end of 64 bits


def _outer(f: Facts) -> bool:
    return f.request.real_shift is not None and not f.inner_pse


def _inner(f: Facts) -> bool:
    return f.request.real_shift is not None and f.inner_pse


def _type(f: Facts) -> str | None:
    return None if f.request.pse_type in range(4) else f"pse_type is {f.request.pse_type}"


def _missing(f: Facts) -> str | None:
    if f.request.real_shift is None and f.request.pse_type == 0:
        return f"{f.spelled('real_shift')} is None with pse_type 0"
    return None


def _mode(f: Facts) -> str | None:
    if f.request.real_shift is not None and f.packed and f.mode == 7:
        return f"{f.spelled('real_shift')} is given with sparse_mode 7"
    return None


def _shape(f: Facts) -> str | None:
    return f.shape("real_shift") if _outer(f) and form_of(f) is None else None


def _shapes(f: Facts) -> str:
    if f.packed:
        rows, columns = f.N1 * f.totals[1], f.longest[1]
        return f"[{f.numels}], [{rows}], [{f.B}, {f.N1}, 1024, {columns}], [1, {f.N1}, 1024, {columns}]"
    scores = f"{f.Sq}, {f.Skv}]"
    return (
        f"[{f.B}, {f.N1}, {scores}, [1, {f.N1}, {scores}, [{f.B}, {f.N1}, 1, {f.Skv}], and for longer causal"
        f" sequences [{f.B}, {f.N1}, 1024, {f.Skv}] or [1, {f.N1}, 1024, {f.Skv}]"
    )


def _compressed(f: Facts) -> str | None:
    if not _outer(f) or form_of(f) != LAST_ROWS:
        return None
    equal = all(rows == columns for rows, columns in f.lengths)
    if equal and f.causal and (f.packed or f.Sq > 1024):
        return None
    lengths = "several lengths" if f.packed else f"q length {f.Sq}, kv length {f.Skv}"
    return f"{f.shape('real_shift')}, 1024 rows, with {lengths} and sparse_mode {f.request.sparse_mode}"


def _slopes(f: Facts) -> str | None:
    if not _inner(f) or f.request.real_shift.shape in ((f.N1,), (f.B, f.N1)):
        return None
    return f"{f.shape('real_shift')} with pse_type {f.request.pse_type}"


def _inner_lengths(f: Facts) -> str | None:
    if not _inner(f):
        return None
    skipped = 1 if f.packed and f.mode == 8 else 0
    for b, (rows, columns) in list(enumerate(f.lengths))[skipped:]:
        if rows != columns:
            return (
                f"sequence {b} has q length {rows} and kv length {columns} with pse_type {f.request.pse_type}"
            )
    return None


def _far_starts(f: Facts) -> str | None:
    if not _inner(f):
        return None
    for name, start in zip(("q_start_idx", "kv_start_idx"), starts(f)):
        if abs(start) > FARTHEST_START:
            return f"{f.spelled(name)}[0] is {start}"
    return None


def _cut_starts(f: Facts) -> str | None:
    if not (_inner(f) and f.packed and f.mode == 8):
        return None
    (rows, columns), (q_start, kv_start) = f.lengths[0], starts(f)
    if rows - columns + q_start - kv_start == 0:
        return None
    names = f.spelled("q_start_idx"), f.spelled("kv_start_idx")
    return f"{names[0]} is {q_start}, {names[1]} is {kv_start} with first lengths q {rows}, kv {columns}"


_CAUSAL = "equal lengths (above 1024 outside TND) and a causal mask: sparse_mode 2, 3, or 0 with next 0"
ROWS = (
    ("pse.type", TILING, TILING, "0, 1, 2, 3", _type),
    ("pse.missing", TILING, TILING, "a tensor, or pse_type 1", _missing),
    ("pse.mode", TILING, TILING, "None", _mode),
    ("pse.shape", TILING, TILING, _shapes, _shape),
    ("pse.compressed", TILING, TILING, _CAUSAL, _compressed),
    ("pse.slopes", TILING, TILING, "[{f.N1}], [{f.B}, {f.N1}]", _slopes),
    ("pse.lengths", TILING, TILING, "equal lengths", _inner_lengths),
    ("pse.range", TILING, TILING, "-2^52 to 2^52", _far_starts),
    ("pse.starts", TILING, TILING, "q - kv + q_start - kv_start = 0", _cut_starts),
)
