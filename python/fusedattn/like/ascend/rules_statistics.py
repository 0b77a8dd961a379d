"""Constraints: what the gradient takes from the forward, and the gradient it begins with."""

from .facts import Facts
from .refusal import TILING


def _statistics(f: Facts) -> str | None:
    for name in ("softmax_max", "softmax_sum"):
        given = getattr(f.request, name)
        if given is None:
            return f"{f.spelled(name)} is None"
        if given.dtype != "float32" or given.shape != f.stats_shape:
            return f"{f.shape(name)} and dtype {given.dtype}"
    return None


def _outputs(f: Facts) -> str | None:
    for name in ("dy", "attention_in"):
        given = getattr(f.request, name)
        if given.dtype != f.request.query.dtype or given.shape != f.out_shape:
            return f"{f.shape(name)} and dtype {given.dtype}"
    return None


ROWS = (
    ("gradient.outputs", None, TILING, "{r.query.dtype} {f.out_shape}, as attention_out", _outputs),
    ("gradient.statistics", None, TILING, "float32 {f.stats_shape}, as the forward gives them", _statistics),
)
