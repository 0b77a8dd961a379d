"""Reads numbers given as arguments: the number as Python's own, or a sentence that names the argument."""

import operator
from collections.abc import Iterable

_FLOAT32_END = 3.4028235677973366e38  # the least magnitude that rounds to infinity in float32
_INT64_END = 2**63


def integer(name: str, value, accepted: str = "an integer") -> int:
    """An integer of 64 bits. TypeError for what is none (bool is none), ValueError for a larger one."""
    if isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; accepted is {accepted}")
    try:
        number = value if isinstance(value, int) else operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} is {value!r}; accepted is {accepted}") from None
    if not -_INT64_END <= number < _INT64_END:
        raise ValueError(f"{name} is {number}; accepted is {accepted} of 64 bits")
    return number


def integers(name: str, values) -> list[int]:
    """A one-dimensional sequence, array or tensor of integers, none below 0. TypeError or ValueError."""
    given = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(given, (str, bytes, dict)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} is {values!r}; accepted is a list of integers")
    numbers = [integer(f"{name}[{index}]", value) for index, value in enumerate(given)]
    for index, number in enumerate(numbers):
        if number < 0:
            raise ValueError(f"{name}[{index}] is {number}; accepted are integers from 0 on")
    return numbers


def real(name: str, value) -> float:
    """A number that float32 holds. TypeError for what is none, ValueError for NaN and what is too large."""
    if isinstance(value, float):  # the usual case, first
        number = float(value)
    else:
        number = _read_real(name, value)
    if not -_FLOAT32_END < number < _FLOAT32_END:
        raise ValueError(f"{name} is {value!r}; accepted are finite numbers within float32")
    return number


def _read_real(name: str, value) -> float:
    if getattr(value, "requires_grad", False):
        raise NotImplementedError(
            f"{name} requires grad, but a gradient of {name} is not computed; accepted is a number"
        )
    if not isinstance(value, (bool, str, bytes, bytearray)):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{name} is {value!r}; accepted are finite numbers within float32") from None
        except (TypeError, ValueError, RuntimeError):
            pass
    raise TypeError(f"{name} is {value!r}; accepted is a number")
