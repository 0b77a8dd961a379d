"""mindspore.Tensors as the library sees them: shape, strides, type, address; and fresh ones for results."""

import mindspore
from mindspore import Tensor, mint

from ..ascend import Operand, Output, needs_copy

_TYPES = {
    "float16": mindspore.float16,
    "bfloat16": mindspore.bfloat16,
    "float32": mindspore.float32,
}


def dtype_name(tensor: Tensor) -> str:
    """ "float16", "bfloat16", "bool", "uint8", ..."""
    return str(tensor.dtype).lower()


def operand(tensor: Tensor) -> Operand:
    """A tensor without its memory."""
    return Operand(tuple(tensor.shape), tuple(tensor.stride()), dtype_name(tensor))


def in_memory(tensor: Tensor) -> Tensor:
    """The tensor, filled if it was only described by an initializer so far."""
    if tensor.has_init:
        tensor.init_data()
    return tensor


def check_tensors(given: dict[str, Tensor]) -> None:
    """TypeError for what is no Tensor, RuntimeError for one that is not on the CPU."""
    for name, tensor in given.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__}; accepted is a mindspore.Tensor")
        if tensor.device != "CPU":
            raise RuntimeError(f"{name} is on {tensor.device}; accepted is a tensor on the CPU")


def with_rows(tensor: Tensor) -> Tensor:
    """The tensor, filled; a contiguous copy where its last dimension does not lie side by side."""
    in_memory(tensor)
    return tensor.contiguous() if tensor.shape[-1] > 1 and tensor.stride()[-1] != 1 else tensor


def readable(name: str, tensor: Tensor) -> Tensor:
    """The tensor, or a contiguous copy where the library cannot read this argument as it lies."""
    in_memory(tensor)
    return tensor.contiguous() if needs_copy(name, operand(tensor)) else tensor


def fresh(output: Output) -> Tensor:
    """A new tensor with arbitrary contents."""
    return mint.empty(output.shape, dtype=_TYPES[output.dtype])


def addresses(tensors: dict[str, Tensor]) -> dict[str, int]:
    """Where the elements lie in host memory.

    MindSpore runs operators on threads of its own; data_ptr() returns when all that were issued before have
    finished, those that write the tensor, or another view of its memory, included.
    """
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}


def host_integers(value) -> list | None:
    """A tuple, list or one-dimensional Tensor as a list; None for anything else."""
    if isinstance(value, Tensor):
        return value.asnumpy().tolist() if value.ndim == 1 else None
    return list(value) if isinstance(value, (tuple, list)) else None
