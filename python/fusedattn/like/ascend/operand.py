"""A tensor without its memory: what a plan needs to know of an input, and what it asks for as an output."""

from typing import NamedTuple


class Operand(NamedTuple):
    """Shape, strides (both in elements) and dtype name of a tensor. The address is given when a plan runs."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str  # "float16", "bfloat16", "float32", "bool", "uint8", ...

    @property
    def size(self) -> int:
        """The number of elements."""
        count = 1
        for length in self.shape:
            count *= length
        return count


class Output(NamedTuple):
    """A fresh contiguous tensor that a plan fills, whole."""

    shape: tuple[int, ...]
    dtype: str


_ROWS = frozenset(("query", "key", "value", "dy", "attention_in", "atten_mask"))


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a fresh tensor of this shape."""
    strides, step = [0] * len(shape), 1
    for axis in range(len(shape) - 1, -1, -1):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def needs_copy(name: str, operand: Operand) -> bool:
    """Whether the door must pass a contiguous copy of this argument instead.

    query, key, value, dy, attention_in, atten_mask and a real_shift of four dimensions, the last above 1:
    where the last dimension is not contiguous. Everything else: where the tensor is not contiguous.
    """
    if 0 in operand.shape:
        return False
    matrices = name == "real_shift" and len(operand.shape) == 4 and operand.shape[-1] > 1
    if name in _ROWS or matrices:
        return operand.shape[-1:] > (1,) and operand.strides[-1] != 1
    fresh = contiguous(operand.shape)
    return any(n > 1 and have != want for n, have, want in zip(operand.shape, operand.strides, fresh))
