"""FlashAttentionScore and its gradient on plain CPU torch tensors: operands, memory, refusals."""

from typing import NamedTuple

import torch

from .ascend import TILING, Operand, Refusal, Request, backward_plan, check, forward_plan, needs_copy
from .torch_npu_arguments import operator_name, refused

_NAMES = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.bool: "bool",
    torch.uint8: "uint8",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


class Inputs(NamedTuple):
    """The tensors that both directions take, in the order of the torch operators."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    query_rope: torch.Tensor | None = None
    key_rope: torch.Tensor | None = None
    real_shift: torch.Tensor | None = None
    drop_mask: torch.Tensor | None = None
    atten_mask: torch.Tensor | None = None
    sink: torch.Tensor | None = None


class Saved(NamedTuple):
    """The tensors that the gradient takes besides."""

    dy: torch.Tensor | None
    softmax_max: torch.Tensor | None
    softmax_sum: torch.Tensor | None
    attention_in: torch.Tensor | None


_NOTHING_SAVED = Saved(None, None, None, None)
_ALL = (True, True, True)


class Terms(NamedTuple):
    """All that is no tensor, in the order of the torch operators; hashable."""

    head_num: int
    input_layout: str
    scale_value: float
    keep_prob: float
    pre_tockens: int
    next_tockens: int
    inner_precise: int
    sparse_mode: int
    pse_type: int
    softmax_layout: str
    prefix: tuple[int, ...] | None
    q_start_idx: tuple[int, ...] | None
    kv_start_idx: tuple[int, ...] | None
    drop_always: bool
    version: int  # of the caller, whose words refusals use

    def operator(self, rope: bool, sink: bool, backward: bool) -> str:
        packed, token_major = self.input_layout == "TND", self.softmax_layout != ""
        return operator_name(self.version, packed, rope, sink, token_major, backward)

    def door(self, backward: bool) -> str:
        return ("torch_npu_grad" if backward else "torch_npu") + ("_v2" if self.version == 2 else "")


class Ends(NamedTuple):
    """Cumulative lengths; both None but with TND."""

    actual_seq_qlen: tuple[int, ...] | None = None
    actual_seq_kvlen: tuple[int, ...] | None = None


def forward(inputs: Inputs, ends: Ends, terms: Terms, seed: int, offset: int):
    """(attention_out, softmax_max, softmax_sum); RuntimeError with the operator's name and code."""
    inputs = _usable(inputs)
    plan = _plan(forward_plan, inputs, _NOTHING_SAVED, ends, terms, _ALL)
    made = _allocate(plan, inputs.query)
    inputs = _joined(plan, inputs)
    _run(plan, inputs, _NOTHING_SAVED, made, (seed, offset), terms)
    return made["attention_out"], made["softmax_max"], made["softmax_sum"]


def backward(inputs: Inputs, saved: Saved, ends: Ends, terms: Terms, needs, seed: int, offset: int):
    """(dq, dk, dv, dq_rope, dk_rope, dsink), None for what is not there or not in needs."""
    inputs, saved = _usable(inputs), _usable(saved)
    plan = _plan(backward_plan, inputs, saved, ends, terms, tuple(needs))
    made = _allocate(plan, inputs.query, leave_out="dpse")
    features = inputs.query.shape[-1]
    inputs = _joined(plan, inputs)
    _run(plan, inputs, saved, made, (seed, offset), terms)
    dq, dk, dv, dsink = (made.get(name) for name in ("dq", "dk", "dv", "dsink"))
    if not plan.rope:
        return dq, dk, dv, None, None, dsink
    (dq, dq_rope), (dk, dk_rope) = (_parted(t, features) for t in (dq, dk))
    return dq, dk, dv, dq_rope, dk_rope, dsink


def _usable(tensors):
    """The tensors, copied where the operator reads no such strides."""
    changed = {}
    for name, tensor in zip(tensors._fields, tensors):
        if tensor is not None and needs_copy(name, Operand(tensor.shape, tensor.stride(), "")):
            changed[name] = tensor.clone(memory_format=torch.contiguous_format)
    return tensors._replace(**changed) if changed else tensors


def _operand(tensor) -> Operand | None:
    if tensor is None:
        return None
    dtype = tensor.dtype
    return Operand(tensor.shape, tensor.stride(), _NAMES.get(dtype) or str(dtype).removeprefix("torch."))


def _request(inputs: Inputs, saved: Saved, ends: Ends, terms: Terms, needs: tuple, backward: bool) -> Request:
    query, key, value, *optional = map(_operand, inputs)
    return Request(
        query, key, value, terms.head_num, terms.input_layout, *optional, terms.prefix, *ends, terms.q_start_idx,
        terms.kv_start_idx, terms.scale_value, terms.keep_prob, terms.pre_tockens, terms.next_tockens,
        terms.inner_precise, terms.sparse_mode, terms.pse_type, terms.softmax_layout, True, terms.drop_always,
        *map(_operand, saved), needs, terms.door(backward),
    )  # fmt: skip


def _plan(make, inputs: Inputs, saved: Saved, ends: Ends, terms: Terms, needs: tuple):
    backward = make is backward_plan
    request = _request(inputs, saved, ends, terms, needs, backward)
    try:
        return make(request)
    except Refusal as refusal:
        raise refused(_operator(inputs, terms, backward), refusal) from None


def _operator(inputs: Inputs, terms: Terms, backward: bool) -> str:
    return terms.operator(inputs.query_rope is not None, inputs.sink is not None, backward)


def check_shapes(inputs: Inputs, saved: Saved | None, sequences: tuple, terms: Terms) -> None:
    """What can be refused of tensors without numbers, whose sizes are known; saved: of the gradient.

    sequences: actual_seq_qlen and actual_seq_kvlen, tensors whose numbers are not read, or None.
    """
    tensors = (*inputs, *(saved or ()))
    if not all(type(n) is int for t in tensors if t is not None for n in (terms.head_num, *t.shape)):
        return
    backward, ends = saved is not None, Ends(*(None if end is None else () for end in sequences))
    request = _request(inputs, saved or _NOTHING_SAVED, ends, terms, _ALL, backward)
    try:
        check(request, backward, lengths_known=False)
    except Refusal as refusal:
        raise refused(_operator(inputs, terms, backward), refusal) from None


def _allocate(plan, like, leave_out: str = "") -> dict:
    return {
        name: like.new_empty(out.shape, dtype=_DTYPES[out.dtype])
        for name, out in plan.outputs.items()
        if name != leave_out
    }


def _joined(plan, inputs: Inputs) -> Inputs:
    """The inputs as the plan runs on them: the rotary features behind the others."""
    if not plan.rope:
        return inputs
    return inputs._replace(
        query=torch.cat((inputs.query, inputs.query_rope), dim=-1),
        key=torch.cat((inputs.key, inputs.key_rope), dim=-1),
    )


def _run(plan, inputs: Inputs, saved: Saved, made: dict, stream: tuple[int, int], terms: Terms) -> None:
    named = (*zip(inputs._fields, inputs), *zip(saved._fields, saved), *made.items())
    addresses = {name: tensor.data_ptr() for name, tensor in named if tensor is not None}
    try:
        plan.run(addresses, *stream)
    except ValueError as refusal:
        operator = _operator(inputs, terms, saved is not _NOTHING_SAVED)
        raise refused(operator, Refusal(TILING, "library", str(refusal))) from None


def _parted(tensor, features: int):
    """A gradient of concatenated features as those of its two parts."""
    if tensor is None:
        return None, None
    return tensor[..., :features].contiguous(), tensor[..., features:].contiguous()
