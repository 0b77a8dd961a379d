"""What the device refuses of NsaCompress and NsaCompressGrad: one table, for doors of any framework.

A door says what it was given, framework-free, and asks for the first limit that does not hold:

    call = Call(
        tensors={"input": Seen((64, 4, 32), "float16"), "weight": Seen((32, 4), "float16")},
        compress_block_size=32, compress_stride=32, actual_seq_len=[64],
    )
    refusal = first_refusal(call)          # None, or Refusal(name, kind, sentence)
    ends = call.ends()                     # the cumulative ends as a list of ints, once nothing is refused
    block, stride = call.block(), call.stride()     # as ints

tensors: by argument name, in the order of the signature: "input" and "weight", for the gradient "grad" too; None
    for a tensor that is missing. Dtype names are those of NumPy and torch: "float16", "bfloat16", "float32".
compress_block_size, compress_stride, actual_seq_len: as the caller gave them, whatever they are.
kind: "null" (a required argument is missing), "type" (no list, no integer, another dtype) or "value". Every door
    has exceptions of its own for them: torch_npu raises RuntimeError for all three.
strict: also the limits of the device that this library does not have: float32, more than 128 heads, a head size
    over 256.
leading_zero: whether actual_seq_len may begin with 0, an empty first sequence (torch_npu), or not (MindSpore).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from ..numerals import shown

DTYPES = ("float16", "bfloat16", "float32")
MOST_HEADS, MOST_DIM, MOST_BLOCK, STEP = 128, 256, 128, 16


class Seen(NamedTuple):
    """A tensor as far as the limits look at it."""

    shape: tuple[int, ...]
    dtype: str


class Refusal(NamedTuple):
    """The first limit that does not hold."""

    name: str
    kind: str
    sentence: str


class Call(NamedTuple):
    """The arguments of one call."""

    tensors: dict[str, Seen | None]
    compress_block_size: Any
    compress_stride: Any
    actual_seq_len: Any
    strict: bool = False
    leading_zero: bool = True

    def gradient(self) -> bool:
        return "grad" in self.tensors

    def ends(self) -> list[int]:
        """Where each sequence ends; without a list (gradient alone) all tokens are one sequence."""
        if self.actual_seq_len is None:
            return [self.tensors["input"].shape[0]]
        return [operator.index(end) for end in self.actual_seq_len]

    def block(self) -> int:
        return operator.index(self.compress_block_size)

    def stride(self) -> int:
        return operator.index(self.compress_stride)

    def grad_shape(self) -> tuple[int, ...]:
        """The shape of the output, and so of its gradient."""
        ends, block, stride = self.ends(), self.block(), self.stride()
        lengths = [end - begin for begin, end in zip([0, *ends], ends)]
        rows = sum((length - block) // stride + 1 for length in lengths if length >= block)
        return (rows, *self.tensors["input"].shape[1:])


class Limit(NamedTuple):
    """One row of the table. fault: what is wrong and what is accepted, or None where the limit holds.

    A row may rely on all rows before it.
    """

    name: str
    kind: str
    fault: Callable[[Call], str | None]


def first_refusal(call: Call) -> Refusal | None:
    """The first limit that does not hold, or None."""
    for limit in LIMITS:
        sentence = limit.fault(call)
        if sentence is not None:
            return Refusal(limit.name, limit.kind, sentence)
    return None


def _is_integer(value) -> bool:
    try:
        operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # arrays and torch tensors have an __index__ that may fail
        return False
    return not isinstance(value, bool)


def _missing_tensor(call):
    for name, seen in call.tensors.items():
        if seen is None:
            return f"{name} is None; accepted is a tensor"


def _missing_lengths(call):
    if call.actual_seq_len is None and not call.gradient():
        return "actual_seq_len is None; accepted is a list of cumulative lengths, one per sequence"


def _dtype(call):
    for name, seen in call.tensors.items():
        if seen.dtype not in DTYPES:
            return f"{name} has dtype {seen.dtype}; accepted are {', '.join(DTYPES)}"


def _dtype_of_device(call):
    dtype = call.tensors["input"].dtype
    if call.strict and dtype == "float32":
        return "input has dtype float32; accepted are float16 and bfloat16"


def _equal_dtypes(call):
    wanted = call.tensors["input"].dtype
    for name, seen in call.tensors.items():
        if seen.dtype != wanted:
            return f"{name} has dtype {seen.dtype}; accepted is input's dtype, {wanted}"


def _integers(call):
    for name in ("compress_block_size", "compress_stride"):
        value = getattr(call, name)
        if not _is_integer(value):
            return f"{name} is {value!r}; accepted is an integer"


def _list(call):
    given = call.actual_seq_len
    if given is None:
        return None
    if not isinstance(given, (list, tuple)):
        return f"actual_seq_len is a {type(given).__name__}; accepted is a list or tuple of integers"
    for index, end in enumerate(given):
        if not _is_integer(end):
            return f"actual_seq_len[{index}] is {end!r}; accepted is an integer"


def _rank(call):
    for name, seen in call.tensors.items():
        wanted = "[block, N]" if name == "weight" else "[T, N, D]"
        rank = wanted.count(",") + 1
        if len(seen.shape) != rank:
            return f"{name} has shape {list(seen.shape)}; accepted are {rank} dimensions, {wanted}"


def _empty(call):
    for letter, size in zip("TND", call.tensors["input"].shape):
        if size < 1:
            return f"input has shape {list(call.tensors['input'].shape)}; accepted is {letter} of at least 1"


def _block_range(call):
    if not STEP <= call.block() <= MOST_BLOCK:
        return _size_sentence("compress_block_size", call.block(), MOST_BLOCK)


def _block_multiple(call):
    if call.block() % STEP:
        return _size_sentence("compress_block_size", call.block(), MOST_BLOCK)


def _stride_range(call):
    block, stride = call.block(), call.stride()
    if not STEP <= stride <= block:
        return _size_sentence("compress_stride", stride, f"compress_block_size = {block}")


def _stride_multiple(call):
    if call.stride() % STEP:
        return _size_sentence("compress_stride", call.stride(), f"compress_block_size = {call.block()}")


def _size_sentence(name: str, size: int, most) -> str:
    return f"{name} is {shown(size)}; accepted are multiples of {STEP} from {STEP} to {most}"


def _weight_shape(call):
    shape, wanted = call.tensors["weight"].shape, (call.block(), call.tensors["input"].shape[1])
    if tuple(shape) != wanted:
        return f"weight has shape {list(shape)}; accepted is {list(wanted)}, [compress_block_size, N]"


def _dim_multiple(call):
    dim = call.tensors["input"].shape[2]
    if dim % STEP:
        return f"input has head size D = {dim}; accepted are multiples of {STEP}"


def _most_dim(call):
    dim = call.tensors["input"].shape[2]
    if call.strict and dim > MOST_DIM:
        return f"input has head size D = {dim}; accepted is at most {MOST_DIM}"


def _most_heads(call):
    heads = call.tensors["input"].shape[1]
    if call.strict and heads > MOST_HEADS:
        return f"input has N = {heads} heads; accepted is at most {MOST_HEADS}"


def _some_lengths(call):
    if call.actual_seq_len is not None and not call.ends():
        return "actual_seq_len is empty; accepted is at least one cumulative length"


def _positive_lengths(call):
    least = 0 if call.leading_zero or call.actual_seq_len is None else 1
    for index, end in enumerate(call.ends()):
        if end < least:
            return f"actual_seq_len[{index}] is {end}; accepted are integers from {least} on"


def _rising_lengths(call):
    ends = call.ends()
    for index, (begin, end) in enumerate(zip([0, *ends], ends)):
        if end < begin:
            return (
                f"actual_seq_len[{index}] is {end}; accepted is at least {begin}, for lengths are cumulative"
            )


def _all_tokens(call):
    last, tokens = call.ends()[-1], call.tensors["input"].shape[0]
    if last != tokens:
        return f"actual_seq_len ends with {last}; accepted is the number of tokens of input, T = {tokens}"


def _grad_shape(call):
    if call.gradient() and tuple(call.tensors["grad"].shape) != call.grad_shape():
        shape, wanted = call.tensors["grad"].shape, call.grad_shape()
        return f"grad has shape {list(shape)}; accepted is {list(wanted)}, the shape of the output"


LIMITS = (
    Limit("tensors are given", "null", _missing_tensor),
    Limit("lengths are given", "null", _missing_lengths),
    Limit("dtypes are known", "type", _dtype),
    Limit("dtype is the device's", "type", _dtype_of_device),
    Limit("dtypes are equal", "type", _equal_dtypes),
    Limit("sizes are integers", "type", _integers),
    Limit("lengths are a list of integers", "type", _list),
    Limit("tensors have their ranks", "value", _rank),
    Limit("input is not empty", "value", _empty),
    Limit("block is in range", "value", _block_range),
    Limit("block is a multiple", "value", _block_multiple),
    Limit("stride is in range", "value", _stride_range),
    Limit("stride is a multiple", "value", _stride_multiple),
    Limit("weight has its shape", "value", _weight_shape),
    Limit("head size is a multiple", "value", _dim_multiple),
    Limit("head size is the device's", "value", _most_dim),
    Limit("heads are the device's", "value", _most_heads),
    Limit("there are lengths", "value", _some_lengths),
    Limit("lengths are not negative", "value", _positive_lengths),
    Limit("lengths are cumulative", "value", _rising_lengths),
    Limit("lengths end with the tokens", "value", _all_tokens),
    Limit("grad has the output's shape", "value", _grad_shape),
)
