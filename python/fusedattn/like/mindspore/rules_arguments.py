"""Constraints on the arguments of the attention functions that need no shapes: types and choices."""

import math
from collections.abc import Iterator

from mindspore import Tensor

from ..ascend.registry import spelled
from .tensors import host_integers

TENSORS = ("query", "key", "value")
OPTIONAL_TENSORS = ("real_shift", "drop_mask", "padding_mask", "atten_mask")
INTEGERS = ("head_num", "sparse_mode", "pre_tockens", "next_tockens", "inner_precise", "pse_type")
LISTS = ("prefix", "actual_seq_qlen", "actual_seq_kvlen", "q_start_idx", "kv_start_idx")
SWITCHES = ("gen_mask_parallel", "sync")


class Arguments(dict):
    """The arguments of a call under the graph operator's names, and the door whose words sentences use."""

    def __init__(self, door: str, **given):
        super().__init__(given)
        self.door = door

    def named(self, *names: str) -> Iterator[tuple[str, object]]:
        """(what the caller calls it, value) of those among the names that the function has."""
        return ((spelled(self.door, name), self[name]) for name in names if name in self)


def _first(found: Iterator[str]) -> str | None:
    return next(found, None)


def _kind(value) -> str:
    return f"a {type(value).__name__}"


def _tensors(a: Arguments) -> str | None:
    return _first(f"{name} is {_kind(t)}" for name, t in a.named(*TENSORS) if not isinstance(t, Tensor))


def _optional_tensors(a: Arguments) -> str | None:
    given = a.named(*OPTIONAL_TENSORS)
    return _first(f"{name} is {_kind(t)}" for name, t in given if t is not None and not isinstance(t, Tensor))


def _floats(a: Arguments) -> str | None:
    given = a.named("scale_value", "keep_prob")
    return _first(f"{name} is {value!r}" for name, value in given if not isinstance(value, float))


def _strings(a: Arguments) -> str | None:
    given = a.named("input_layout")
    return _first(f"{name} is {value!r}" for name, value in given if not isinstance(value, str))


def _integers(a: Arguments) -> str | None:
    return _first(f"{name} is {value!r}" for name, value in a.named(*INTEGERS) if not _is_integer(value))


def _lists(a: Arguments) -> str | None:
    for name, value in a.named(*LISTS):
        entries = [] if value is None else host_integers(value)
        if entries is None or not all(_is_integer(entry) for entry in entries):
            return f"{name} is {value!r}"
    return None


def _switches(a: Arguments) -> str | None:
    return _first(f"{name} is {value!r}" for name, value in a.named(*SWITCHES) if not isinstance(value, bool))


def _devices(a: Arguments) -> str | None:
    tensors = a.named(*TENSORS, *OPTIONAL_TENSORS)
    return _first(f"{name} is on {t.device}" for name, t in tensors if t is not None and t.device != "CPU")


def _large_integers(a: Arguments) -> str | None:
    given = a.named(*INTEGERS)
    return _first(f"{name} is {value}" for name, value in given if not -(2**63) <= value < 2**63)


def _scale(a: Arguments) -> str | None:
    given = a.named("scale_value")
    return _first(f"{name} is {value}" for name, value in given if not math.isfinite(value))


def _pse_type(a: Arguments) -> str | None:
    return _first(f"{name} is {value}" for name, value in a.named("pse_type") if value not in range(4))


def _padding(a: Arguments) -> str | None:
    given = a.named("padding_mask")
    return _first(f"{name} is a Tensor of shape {list(t.shape)}" for name, t in given if t is not None)


def _is_integer(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


ROWS = (
    ("type.tensor", TypeError, "a mindspore.Tensor", _tensors),
    ("type.optional_tensor", TypeError, "None or a mindspore.Tensor", _optional_tensors),
    ("type.float", TypeError, "a float", _floats),
    ("type.str", TypeError, "a str", _strings),
    ("type.int", TypeError, "an int", _integers),
    ("type.list", TypeError, "None, or a tuple, a list or a one-dimensional Tensor of ints", _lists),
    ("type.bool", TypeError, "True and False", _switches),
    ("range.int", ValueError, "integers of 64 bits", _large_integers),
    ("range.scale", ValueError, "finite numbers", _scale),
    ("range.pse_type", ValueError, "0, 1, 2, 3", _pse_type),
    ("device", RuntimeError, "tensors on the CPU", _devices),
    ("padding_mask", RuntimeError, "None", _padding),
)
