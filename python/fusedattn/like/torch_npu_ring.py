"""torch_npu's functions that join partial attention, on CPU tensors: exact names, signatures, layouts and results."""

import torch

from .. import merge_ops
from ..joint import BLOCKS, LANES, ROWS
from . import ring_checks
from .ring_checks import Given
from .torch_npu_arguments import form

_library = torch.library.Library("fusedattn", "FRAGMENT")
_library.define(
    "npu_ring_attention_update(Tensor prev_attn_out, Tensor prev_softmax_max, Tensor prev_softmax_sum, "
    "Tensor cur_attn_out, Tensor cur_softmax_max, Tensor cur_softmax_sum, Tensor? actual_seq_qlen, str input_layout, "
    "str input_softmax_layout) -> (Tensor attn_out, Tensor softmax_max, Tensor softmax_sum)"
)


def npu_ring_attention_update(
    prev_attn_out,
    prev_softmax_max,
    prev_softmax_sum,
    cur_attn_out,
    cur_softmax_max,
    cur_softmax_sum,
    *,
    actual_seq_qlen=None,
    input_layout="SBH",
    input_softmax_layout="",
):
    """Joins attention of the same queries over two disjoint sets of keys: (attn_out, softmax_max, softmax_sum).

    prev_attn_out, cur_attn_out: float16, bfloat16 or float32 of one shape: [S,B,H] with input_layout "SBH", H = N * D;
        [T,N,D] with "TND".
    the statistics: float32 of one shape, [B,N,S,8] or [T,N,8], eight copies of each number.
    actual_seq_qlen: with "TND", int64 cumulative lengths with a leading 0, up to T. Not read with "SBH".
    input_softmax_layout: with "TND", "" or "SBH": the statistics lie in memory as one block [N,length,8] per sequence,
        the order that npu_fusion_attention writes by default, whatever their shape says; "TND": as the shape says, and
        the values of actual_seq_qlen have no influence. Not read with "SBH".

    max = max(max_p, max_c), t = sum * exp(max_t - max) of each, sum = min(t_p + t_c, 3.4028235e38), out = out_p * (t_p /
    sum) + out_c * (t_c / sum), in float32; out is rounded once. Lane 0 of the statistics weighs; each lane of the results
    comes from that lane. Infinities and NaN follow the formula: two rows of max -inf give NaN.

    Raises RuntimeError for what the device refuses; NotImplementedError (a RuntimeError too) for tensors that require
    grad, since the operator has no derivative. D and N are not limited as on the device.
    """
    values = (prev_attn_out, prev_softmax_max, prev_softmax_sum, cur_attn_out, cur_softmax_max, cur_softmax_sum)
    tensors = dict(zip(ring_checks.TENSORS, values))
    _check_tensors(**tensors, actual_seq_qlen=actual_seq_qlen)
    _check_present(tensors)
    merge_ops.refuse_gradients(**tensors)
    for name, value in (("input_layout", input_layout), ("input_softmax_layout", input_softmax_layout)):
        if not isinstance(value, str):
            raise RuntimeError(f"{name} is {value!r}; accepted is a str")
    return torch.ops.fusedattn.npu_ring_attention_update(*values, actual_seq_qlen, input_layout, input_softmax_layout)


def npu_attention_update(lse, local_out, update_type):
    """Joins partial attention given with log-sum-exps: (out, lse), lse None with update_type 0.

    lse: a list of 1 to 128 float32 tensors [R]. local_out: as many float32, float16 or bfloat16 tensors [R,D].
    update_type: 0 gives out alone, 1 also the joint log-sum-exp, float32 [R].

    top = max_i lse_i, w_i = exp(lse_i - top), lse = top + ln(sum_i w_i), out = sum_i local_out_i * (w_i / sum_i w_i), in
    float32 in the order of the list; out is rounded once. Where lse_i is -inf, local_out_i is not read; where all are,
    out is 0 and lse -inf. +inf and NaN give NaN.

    Raises RuntimeError for what the device refuses; NotImplementedError (a RuntimeError too) for tensors that require grad.
    """
    lists, tensors = {"lse": lse, "local_out": local_out}, {}
    for name, given in lists.items():
        if not isinstance(given, (list, tuple)):
            raise RuntimeError(f"{name} is a {type(given).__name__}; accepted is a list of tensors")
        tensors |= {f"{name}[{index}]": tensor for index, tensor in enumerate(given)}
    _check_tensors(**tensors)
    merge_ops.refuse_gradients(**tensors)
    described = {name: [_given(tensor) for tensor in given] for name, given in lists.items()}
    _raise(ring_checks.first_refusal(ring_checks.LISTS, ring_checks.Lists(**described, update_type=update_type)))
    outs = [tensor[None, None] for tensor in local_out]
    out, joint, _ = torch.ops.fusedattn.merge(
        outs, [tensor[None, None] for tensor in lse], [], None, "BNSD", ROWS, False
    )
    return out[0, 0], joint[0, 0] if update_type else None


def _check_tensors(**tensors) -> None:
    """What only torch knows: that they are dense tensors, all on one device."""
    device = None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if not isinstance(tensor, torch.Tensor):
            raise RuntimeError(f"{name} is a {type(tensor).__name__}; accepted is a torch tensor")
        if (layout := form(tensor)) is not None:
            raise RuntimeError(f"{name} has layout {layout}; accepted is torch.strided, a dense tensor")
        if not (tensor.is_cpu or tensor.is_meta) or (device is not None and tensor.device != device):
            raise RuntimeError(f"{name} is on device {tensor.device}; accepted is {device or 'the CPU'}")
        device = tensor.device


def _check_present(tensors) -> None:
    for row in ring_checks.RING[: len(ring_checks.TENSORS)]:
        if tensors[row.argument] is None:
            raise RuntimeError(f"{row.argument} is None; accepted is a tensor")


def _given(tensor) -> Given | None:
    return None if tensor is None else Given(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _raise(refusal) -> None:
    if refusal is not None:
        raise RuntimeError(refusal.sentence)


def _checked(tensors, actual_seq_qlen, ends, input_layout, input_softmax_layout) -> ring_checks.Update:
    described = {name: _given(tensor) for name, tensor in zip(ring_checks.TENSORS, tensors)}
    update = ring_checks.Update(described, _given(actual_seq_qlen), ends, input_layout, input_softmax_layout)
    _raise(ring_checks.first_refusal(ring_checks.RING, update))
    return update


def _fake(*arguments):
    *tensors, actual_seq_qlen, input_layout, input_softmax_layout = arguments
    _check_tensors(**dict(zip(ring_checks.TENSORS, tensors)), actual_seq_qlen=actual_seq_qlen)
    update = _checked(tensors, actual_seq_qlen, None, input_layout, input_softmax_layout)
    out, row_max, row_sum = tensors[:3]
    return out.new_empty(update.out.shape), row_max.new_empty(row_max.shape), row_sum.new_empty(row_sum.shape)


def _run(*arguments):
    *tensors, actual_seq_qlen, input_layout, input_softmax_layout = arguments
    ends = None if actual_seq_qlen is None else actual_seq_qlen.tolist()
    update = _checked(tensors, actual_seq_qlen, ends, input_layout, input_softmax_layout)
    outs, maxs, sums = tensors[::3], tensors[1::3], tensors[2::3]
    layout = "TND" if update.packed else "SBND"
    if not update.packed:
        heads = update.stats.shape[1]
        outs = [out.unflatten(-1, (heads, out.shape[-1] // heads)) for out in outs]
    order = BLOCKS if update.in_blocks else LANES
    lengths = actual_seq_qlen if update.in_blocks else None
    out, row_max, row_sum = merge_ops.run(outs, maxs, sums, lengths, layout, order, True)
    return out.view(update.out.shape), row_max, row_sum


def _refuse_derivative(ctx, *gradients):
    raise NotImplementedError("npu_ring_attention_update has no derivative, here as on the device")


_library.impl("npu_ring_attention_update", _run, "CPU")
torch.library.register_fake("fusedattn::npu_ring_attention_update", _fake, lib=_library)
torch.library.register_autograd("fusedattn::npu_ring_attention_update", _refuse_derivative, lib=_library)
