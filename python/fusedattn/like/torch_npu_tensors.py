"""Functions of torch_npu that attention code calls beside attention: dropout bits, reshape with transpose."""

import math

import torch

from . import torch_npu_arguments as arguments
from . import torch_npu_ops  # noqa: F401 (defines the operator)

_MOST_BITS = 2**63 - 128  # rounded up to whole blocks they are counted in 64 bits


def _npu_dropout_gen_mask(self, size, p, seed, offset, parallel=True, sync=None):
    """The bits of dropout: uint8 [ceil(n / 128) * 16], n = prod(size), bit 1 keeps, lowest bit first.

    self: a tensor of the CPU, for its device alone. size: a list of integers. p: the probability to drop, 0
        to 1.
    seed, offset: of the stream, as the attention functions take and return them. parallel, sync: without
    effect. p = 0 sets whole bytes, all others leave the bits behind n at 0. Raises RuntimeError.
    """
    function = "_npu_dropout_gen_mask"
    arguments.check_tensors(function, {"self": self}, {})
    (p,) = arguments.reals(function, p=p)
    if not 0 <= p <= 1:
        arguments.fail(function, f"p is {p}; accepted: numbers from 0 to 1")
    seed, offset = arguments.numbers(function, seed=seed, offset=offset)
    size = arguments.listed(function, "size", arguments.present(function, "size", size))
    count = math.prod(size)
    if count > _MOST_BITS:
        arguments.fail(function, f"size is {list(size)}, {count} bits; accepted: up to {_MOST_BITS}")
    try:
        return torch.ops.fusedattn.npu_dropout_bits(self, count, 1.0 - p, seed, offset)
    except RuntimeError as refusal:
        if "memory" not in str(refusal):
            raise
        arguments.fail(function, f"size is {list(size)}, {count} bits; accepted: what memory can hold")


def npu_confusion_transpose(self, perm, shape, transpose_first):
    """transpose_first: self.permute(perm) read as shape; else self read as shape, then permuted. Contiguous.

    perm: dimensions, negative ones count from the end. RuntimeError where perm or shape do not fit.
    """
    function = "npu_confusion_transpose"
    arguments.check_tensors(function, {"self": self}, {})
    arguments.check_switches(function, transpose_first=transpose_first)
    perm, shape = (
        arguments.signed(function, name, arguments.present(function, name, given))
        for name, given in (("perm", perm), ("shape", shape))
    )
    dimensions = self.dim() if transpose_first else len(shape)
    if sorted(axis + dimensions if axis < 0 else axis for axis in perm) != list(range(dimensions)):
        arguments.fail(function, f"perm is {list(perm)}; accepted: each of {dimensions} dimensions once")
    if min(shape, default=0) < 0 or math.prod(shape) != self.numel():
        arguments.fail(
            function, f"shape is {list(shape)}; accepted: as many elements as self, {self.numel()}"
        )
    if transpose_first:
        return self.permute(perm).reshape(shape).contiguous()
    return self.reshape(shape).permute(perm).contiguous()
