"""Constraints: what is missing, the layout, ranks, dtypes, head sizes."""

from .facts import LAYOUTS, Facts
from .refusal import NULL, TILING, VALUE

FLOATS = ("float16", "bfloat16", "float32")
TENSORS = ("query", "key", "value")


def _missing(*names: str):
    def violated(f: Facts) -> str | None:
        absent = [name for name in names if getattr(f.request, name) is None]
        return f"{f.spelled(absent[0])} is None" if absent else None

    return violated


def _layout(f: Facts) -> str | None:
    return None if f.request.input_layout in LAYOUTS else f"input_layout is {f.request.input_layout!r}"


def _sequences_without_tnd(f: Facts) -> str | None:
    for name in ("actual_seq_qlen", "actual_seq_kvlen"):
        if getattr(f.request, name) is not None and not f.packed:
            return f"{f.spelled(name)} is given with input_layout {f.request.input_layout}"
    return None


def _ranks(f: Facts) -> str | None:
    wanted = len(f.request.input_layout)
    for name in TENSORS:
        if len(getattr(f.request, name).shape) != wanted:
            return f.shape(name)
    return None


def _float_dtype(f: Facts) -> str | None:
    dtype = f.request.query.dtype
    return None if dtype in FLOATS else f"{f.spelled('query')} has dtype {dtype}"


def _one_dtype(f: Facts) -> str | None:
    for name in ("key", "value"):
        dtype = getattr(f.request, name).dtype
        if dtype != f.request.query.dtype:
            return f"{f.spelled(name)} has dtype {dtype}"
    return None


def _head_num(f: Facts) -> str | None:
    return None if f.request.head_num > 0 else f"head_num is {f.request.head_num}"


def _folded_features(f: Facts) -> str | None:
    if f.folded and f.D == 0:
        return f"{f.shape('query')}, head size 0"
    return None


def _pse_dtype(f: Facts) -> str | None:
    pse = f.request.real_shift
    if pse is None or f.inner_pse or pse.dtype == f.request.query.dtype:
        return None
    return f"{f.spelled('real_shift')} has dtype {pse.dtype}"


def _inner_pse(f: Facts) -> str | None:
    pse = f.request.real_shift
    if not f.inner_pse or (pse is not None and pse.dtype == "float32"):
        return None
    given = "is None" if pse is None else f"has dtype {pse.dtype}"
    return f"{f.spelled('real_shift')} {given} with pse_type {f.request.pse_type}"


def _key_features(f: Facts) -> str | None:
    return None if f.key_D == f.D else f"{f.spelled('key')} has head size {f.key_D}"


def _value_features(f: Facts) -> str | None:
    return None if f.Dv <= f.D else f"{f.spelled('value')} has head size {f.Dv}"


def _many_features(f: Facts) -> str | None:
    return None if f.D <= 768 else f"{f.spelled('query')} has head size {f.D}"


def _softmax_layout(f: Facts) -> str | None:
    given = f.request.softmax_layout
    return None if given in ("", "same_as_input") else f"{f.spelled('softmax_layout')} is {given!r}"


ROWS = (
    ("null.inputs", NULL, NULL, "a tensor", _missing(*TENSORS)),
    ("null.gradient", None, NULL, "a tensor", _missing("dy", "attention_in")),
    ("layout.known", VALUE, VALUE, ", ".join(LAYOUTS), _layout),
    ("layout.sequences", VALUE, VALUE, "None; cumulative lengths go with TND alone", _sequences_without_tnd),
    ("layout.rank", VALUE, VALUE, "{r.input_layout} needs as many dimensions as it has letters", _ranks),
    ("dtype.float", VALUE, VALUE, ", ".join(FLOATS), _float_dtype),
    ("dtype.same", VALUE, TILING, "query's, {r.query.dtype}", _one_dtype),
    ("dtype.pse", VALUE, TILING, "query's, {r.query.dtype}", _pse_dtype),
    ("dtype.slopes", VALUE, TILING, "float32 slopes", _inner_pse),
    ("heads.positive", VALUE, VALUE, "integers above 0", _head_num),
    ("features.folded", None, VALUE, "a head size of 1 to 768", _folded_features),
    ("features.key", VALUE, VALUE, "query's, {f.D}", _key_features),
    ("features.value", VALUE, VALUE, "at most key's, {f.D}", _value_features),
    ("features.most", VALUE, TILING, "1 to 768", _many_features),
    ("statistics.layout", None, VALUE, "'' and 'same_as_input'", _softmax_layout),
)
