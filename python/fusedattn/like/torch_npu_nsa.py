"""torch_npu.npu_nsa_compress and npu_nsa_compress_grad on CPU tensors: the vendor's signatures and limits."""

import torch

from .. import nsa_ops
from ..problem import check_dense
from .nsa_checks import Call, Seen, first_refusal

__all__ = ["npu_nsa_compress", "npu_nsa_compress_grad"]


def npu_nsa_compress(input, weight, compress_block_size, compress_stride, *, actual_seq_len=None):
    """Token compression with the arguments and result of torch_npu; differentiable in input and weight.

    input: [T, N, D] of float16, bfloat16 or float32, sequences packed one after another; D a multiple of 16.
    weight: [compress_block_size, N], of input's dtype.
    compress_block_size: tokens of a window, a multiple of 16 up to 128.
    compress_stride: tokens from one window to the next, a multiple of 16 up to compress_block_size.
    actual_seq_len: list or tuple of cumulative lengths, the last of them T; a leading 0 changes nothing.

    Returns [windows, N, D]: for each sequence of length L >= compress_block_size, in order, (L -
    compress_block_size) // compress_stride + 1 rows. Without any window the result is empty.

    Raises RuntimeError for what the device refuses; nsa_checks.LIMITS lists it.
    """
    tensors = {"input": input, "weight": weight}
    windows = _checked(tensors, compress_block_size, compress_stride, actual_seq_len)
    return nsa_ops.compress(input, weight, *windows)


def npu_nsa_compress_grad(grad, input, weight, compress_block_size, compress_stride, *, actual_seq_len=None):
    """The gradients (grad_input [T, N, D], grad_weight [compress_block_size, N]) of npu_nsa_compress.

    grad: [windows, N, D], of the output. The other arguments are the forward's; without actual_seq_len all
    tokens are one sequence. Tokens in no window get 0; without any window all gradients are 0. The same bits
    for any number of threads.

    Raises RuntimeError for what the device refuses; nsa_checks.LIMITS lists it.
    """
    tensors = {"grad": grad, "input": input, "weight": weight}
    windows = _checked(tensors, compress_block_size, compress_stride, actual_seq_len)
    return nsa_ops.backward(grad, input, weight, *windows)


def _checked(tensors: dict, block, stride, actual_seq_len) -> tuple[list[int], int, int]:
    """The ends of the sequences, block and stride, once nothing is refused."""
    call = Call(
        {name: _seen(name, tensor) for name, tensor in tensors.items()}, block, stride, actual_seq_len
    )
    refusal = first_refusal(call)
    if refusal is not None:
        raise RuntimeError(refusal.sentence)
    device = tensors["input"].device
    for name, tensor in tensors.items():
        if tensor.device != device:
            raise RuntimeError(f"{name} is on device {tensor.device}; accepted is input's, {device}")
    return call.ends(), call.block(), call.stride()


def _seen(name: str, tensor) -> Seen | None:
    if tensor is None:
        return None
    if not isinstance(tensor, torch.Tensor):
        raise RuntimeError(f"{name} is a {type(tensor).__name__}; accepted is a torch tensor")
    if tensor.device.type not in ("cpu", "meta"):
        raise RuntimeError(f"{name} is on device {tensor.device}; accepted is the CPU")
    try:
        check_dense(**{name: tensor})
    except ValueError as refusal:
        raise RuntimeError(str(refusal)) from None
    return Seen(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
