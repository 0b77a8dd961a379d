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
        raise ValueError(f"{name} is {shown(number)}; accepted is {accepted} within 64 bits")
    return number


def integers(name: str, values) -> list[int]:
    """A one-dimensional sequence, array or tensor of integers, none below 0. TypeError or ValueError."""
    given = listed(name, values)
    if isinstance(given, (str, bytes, dict)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} is {values!r}; accepted is a list of integers")
    numbers = [integer(f"{name}[{index}]", value) for index, value in enumerate(given)]
    for index, number in enumerate(numbers):
        if number < 0:
            raise ValueError(f"{name}[{index}] is {number}; accepted are integers from 0 on")
    return numbers


def listed(name: str, values):
    """The numbers of an array or tensor as Python's own, nested in lists; anything else as it is."""
    try:
        return values.tolist() if hasattr(values, "tolist") and not isinstance(values, type) else values
    except RuntimeError:  # of torch, for tensors that hold no numbers or hold them otherwise
        raise TypeError(
            f"{name} is a {type(values).__name__} whose numbers cannot be read; accepted are a list, an array,"
            " and a dense tensor on the CPU"
        ) from None


def shown(number) -> str:
    """A number as text, by its size where Python's own text would be too long."""
    if isinstance(number, int) and number.bit_length() > 4096:
        return f"an integer of {number.bit_length()} bits"
    return repr(number)


def real(name: str, value) -> float:
    """A number that float32 holds. TypeError for what is none, ValueError for NaN and what is too large."""
    if isinstance(value, float):  # the usual case, first
        number = float(value)
    else:
        number = _read_real(name, value)
    if not -_FLOAT32_END < number < _FLOAT32_END:
        raise ValueError(_beyond_float32(name, value))
    return number


def _beyond_float32(name: str, value) -> str:
    return f"{name} is {shown(value)}; accepted are finite numbers within float32"


def _read_real(name: str, value) -> float:
    if getattr(value, "requires_grad", False):
        raise NotImplementedError(
            f"{name} requires grad, but a gradient of {name} is not computed; accepted is a number"
        )
    if not isinstance(value, (bool, str, bytes, bytearray)):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(_beyond_float32(name, value)) from None
        except (TypeError, ValueError, RuntimeError):
            pass
    raise TypeError(f"{name} is {value!r}; accepted is a number")
