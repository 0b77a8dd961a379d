"""Torch operator fusedattn::merge: define, fake, and the refusal of its derivative.

out: at least one tensor, in an unfolded layout; max and sum: as many, float32, as joint.Joint describes; sum empty: max
holds log-sum-exps. cu_seqlens: int64 with a leading 0, with the order "blocks" alone. Gives (out, max, sum), contiguous,
sum of shape [0] where max is a log-sum-exp.
"""

import torch

from . import _native, joint
from .problem import Operand, announce_copy, check_ends

_DTYPES = {
    torch.float32: _native.FLOAT32,
    torch.bfloat16: _native.BFLOAT16,
    torch.float16: _native.FLOAT16,
}
_library = torch.library.Library("fusedattn", "FRAGMENT")
_library.define(
    "merge(Tensor[] out, Tensor[] max, Tensor[] sum, Tensor? cu_seqlens, str layout, str order, bool formula) "
    "-> (Tensor out, Tensor max, Tensor sum)"
)


def refuse_gradients(**tensors) -> None:
    """NotImplementedError for a tensor whose gradient somebody would ask for."""
    if not torch.is_grad_enabled():
        return
    for name, tensor in tensors.items():
        if tensor is not None and tensor.requires_grad:
            raise NotImplementedError(
                f"{name} requires grad; joining partial results has no derivative (the backward of attention starts"
                " from the joined statistics); accepted are detached tensors, or a call under torch.no_grad()"
            )


def _fake(out, max, sum, cu_seqlens, layout, order, formula):
    _check_devices(out, max, sum, cu_seqlens)
    first, statistic = out[0], max[0]
    shapes = joint.stats_shape(layout, order, first.shape, statistic.shape[-1])
    empty = (lambda shape: first.new_empty(shape, dtype=torch.float32))
    return first.new_empty(first.shape), empty(shapes), empty(shapes if sum else 0)


def _check_devices(out, max, sum, cu_seqlens) -> None:
    """Tensors of several devices reach the fake kernel when one of them is meta."""
    device = out[0].device
    for name, given in (("out", out), ("max", max), ("sum", sum), ("cu_seqlens", [cu_seqlens])):
        for index, tensor in enumerate(given):
            if tensor is None or tensor.device == device:
                continue
            place = "" if tensor is cu_seqlens else f"[{index}]"
            raise ValueError(
                f"{name}{place} is on device {tensor.device} and out[0] on {device}; accepted is one device for"
                " all"
            )


def _operand(tensor) -> Operand:
    return Operand(tuple(tensor.shape), tensor.stride())


def _with_rows(name: str, tensor, whole: bool):
    """The tensor, copied if its last dimension (whole: anything) is not contiguous."""
    if tensor.is_contiguous() if whole else _operand(tensor).has_rows():
        return tensor
    announce_copy(name, tensor.shape, tensor.stride(-1), tensor.element_size())
    return tensor.clone(memory_format=torch.contiguous_format)


def run(out, max, sum, cu_seqlens, layout, order, formula):
    """The operator on CPU tensors."""
    outs = [_with_rows("out", tensor, False) for tensor in out]
    maxs, sums = ([_with_rows("stats", t, order != joint.ROWS) for t in tensors] for tensors in (max, sum))
    results = _fake(out, max, sum, cu_seqlens, layout, order, formula)
    ends = None if cu_seqlens is None else cu_seqlens.tolist()
    if ends is not None:
        check_ends("cu_seqlens", ends, out[0].shape[0])
    if not results[0].numel():
        return results
    merge = joint.Joint(_DTYPES[out[0].dtype], layout, order, len(outs), formula, lse=not sum)
    merge.size(_operand(outs[0]), ends)
    for index, (part, row_max) in enumerate(zip(outs, maxs)):
        row_sum = sums[index] if sums else None
        if row_sum is not None and row_sum.stride() != row_max.stride():
            row_max, row_sum = row_max.contiguous(), row_sum.contiguous()
            maxs[index], sums[index] = row_max, row_sum  # alive until the run
        addresses = (part.data_ptr(), row_max.data_ptr(), None if row_sum is None else row_sum.data_ptr())
        merge.point(index, _operand(part), _operand(row_max), addresses)
    addresses = (results[0].data_ptr(), results[1].data_ptr(), results[2].data_ptr() if sum else None)
    merge.point(None, _operand(results[0]), _operand(results[1]), addresses)
    merge.run()
    return results


def _refuse_derivative(ctx, *gradients):
    raise NotImplementedError(
        "fusedattn::merge has no derivative: the backward of attention starts from the joined statistics"
    )


_library.impl("merge", run, "CPU")
torch.library.register_fake("fusedattn::merge", _fake, lib=_library)
torch.library.register_autograd("fusedattn::merge", _refuse_derivative, lib=_library)
