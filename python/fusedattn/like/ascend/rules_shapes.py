"""Constraints: heads, batches and sequences agree; cumulative lengths; sizes that fit; the sink."""

from .facts import INT_MAX, Facts
from .refusal import TILING

LARGEST_SCALE = 2.3e38  # times log2(e) it still is a float32


def _keep_prob(f: Facts) -> str | None:
    return None if 0 < f.keep_prob <= 1 else f"keep_prob is {f.request.keep_prob}"


def _scale(f: Facts) -> str | None:
    scale = f.request.scale_value
    return None if abs(scale) <= LARGEST_SCALE else f"{f.spelled('scale_value')} is {scale}"


def _hidden_query(f: Facts) -> str | None:
    hidden = f.request.query.shape[-1]
    if f.folded and hidden % f.request.head_num:
        return f"{f.spelled('query')} has hidden size {hidden}"
    return None


def _hidden_key(f: Facts) -> str | None:
    hidden = f.request.key.shape[-1]
    if f.folded and (hidden % f.D if f.D else hidden):
        return f"{f.spelled('key')} has hidden size {hidden}"
    return None


def _hidden_value(f: Facts) -> str | None:
    hidden = f.request.value.shape[-1]
    if f.folded and (hidden % f.N2 if f.N2 else hidden):
        return f"{f.spelled('value')} has hidden size {hidden}"
    return None


def _heads(f: Facts) -> str | None:
    given = f.request.head_num
    return None if f.N1 == given else f"head_num is {given}; {f.spelled('query')} has {f.N1} heads"


def _groups(f: Facts) -> str | None:
    return f"{f.spelled('key')} has {f.N2} heads" if f.N2 and f.N1 % f.N2 else None


def _batches(f: Facts) -> str | None:
    key, value = f.agreement
    if f.packed or key[0] == value[0] == f.B:
        return None
    return f"{f.spelled('key')} has batch {key[0]}, {f.spelled('value')} has batch {value[0]}"


def _values(f: Facts) -> str | None:
    key, value = f.agreement
    return None if key == value else f"{f.spelled('value')} has {value[1]} heads and {value[2]} rows"


def _no_features(f: Facts) -> str | None:
    if f.D and f.N2 and not f.Dv:
        return f"{f.spelled('value')} has head size 0"
    return None


def _rows(f: Facts) -> str | None:
    if max(f.Sq, f.Skv) <= INT_MAX:
        return None
    return f"{f.spelled('query')} has {f.Sq} rows, {f.spelled('key')} has {f.Skv}"


def _lists(f: Facts) -> str | None:
    if not f.packed:
        return None
    q, kv = f.request.actual_seq_qlen, f.request.actual_seq_kvlen
    if q and kv and len(q) == len(kv):
        return None
    names = f.spelled("actual_seq_qlen"), f.spelled("actual_seq_kvlen")
    return ", ".join(f"{name} has {len(ends or ())} entries" for name, ends in zip(names, (q, kv)))


def _rising(f: Facts) -> str | None:
    if not f.packed:
        return None
    for name in ("actual_seq_qlen", "actual_seq_kvlen"):
        ends = getattr(f.request, name)
        steps = [later - earlier for earlier, later in zip((0, *ends), ends)]
        falls = [step for step in range(len(steps)) if steps[step] < 0]
        if min(ends) < 0 or (falls and any(step > 0 for step in steps[falls[0] :])):
            return f"{f.spelled(name)} is {list(ends)}"
    return None


def _fits(f: Facts) -> str | None:
    if not f.packed:
        return None
    for name, end, rows in zip(("actual_seq_qlen", "actual_seq_kvlen"), f.totals, (f.Sq, f.Skv)):
        if end > rows:
            return f"{f.spelled(name)} ends with {end} of {rows} packed rows"
    return None


def _sink(f: Facts) -> str | None:
    sink = f.request.sink
    if sink is None or (sink.dtype == "float32" and sink.shape == (f.N1,)):
        return None
    return f"{f.shape('sink')} and dtype {sink.dtype}"


ROWS = (
    ("probability.range", TILING, TILING, "numbers above 0 up to 1", _keep_prob),
    ("scale.range", TILING, TILING, "numbers from -2.3e38 to 2.3e38", _scale),
    ("heads.query", TILING, TILING, "a multiple of head_num = {r.head_num}", _hidden_query),
    ("heads.key", TILING, TILING, "a multiple of query's head size, {f.D}", _hidden_key),
    ("heads.value", TILING, TILING, "a multiple of key's {f.N2} heads", _hidden_value),
    ("heads.number", TILING, TILING, "query's number of heads", _heads),
    ("heads.groups", TILING, TILING, "divisors of head_num = {r.head_num}", _groups),
    ("shapes.batch", TILING, TILING, "query's, {f.B}", _batches),
    ("shapes.value", TILING, TILING, "key's, {f.N2} heads and {f.Skv} rows", _values),
    ("shapes.features", TILING, TILING, "1 to key's, {f.D}", _no_features),
    ("shapes.rows", TILING, TILING, "up to 2147483647", _rows),
    ("sequences.number", TILING, TILING, "one entry per sequence in both", _lists),
    ("sequences.rising", TILING, TILING, "cumulative lengths, decreasing at the end alone", _rising),
    ("sequences.total", TILING, TILING, "at most the number of packed rows", _fits),
    ("sink.shape", TILING, TILING, "float32 [{f.N1}], one per query head", _sink),
)
