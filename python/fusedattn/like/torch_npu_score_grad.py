"""The gradients of torch_npu's attention functions by themselves, from what the forward saved."""

import torch

from . import torch_npu_arguments as arguments
from . import torch_npu_call as calls
from .ascend.registry import INT_MAX
from .torch_npu_score import Inputs, Saved


def npu_fusion_attention_grad(
    query,
    key,
    value,
    dy,
    head_num,
    input_layout,
    *,
    pse=None,
    padding_mask=None,
    atten_mask=None,
    softmax_max=None,
    softmax_sum=None,
    softmax_in=None,
    attention_in=None,
    scale_value=1.0,
    keep_prob=1.0,
    pre_tockens=INT_MAX,
    next_tockens=INT_MAX,
    inner_precise=0,
    seed=0,
    offset=0,
    numels=0,
    prefix=None,
    actual_seq_qlen=None,
    actual_seq_kvlen=None,
    sparse_mode=0,
    gen_mask_parallel=True,
    sync=False,
    softmax_layout="",
    sink=None,
):
    """Gradients of sum(attention_out * dy), from the statistics and the output of npu_fusion_attention.

    dy, attention_in: as attention_out. softmax_max, softmax_sum: as the forward gave them, with its
        softmax_layout.
    keep_prob, seed, offset: of the forward; the dropout bits are generated again. padding_mask, softmax_in,
    numels: without effect. All else as in the forward.

    Returns (dq, dk, dv, dpse, dsink): dpse is zeros of pse's shape, None without pse; dsink float32, None
    without sink.
    """
    words = dict(
        scale_value=scale_value,
        keep_prob=keep_prob,
        pre_tockens=pre_tockens,
        next_tockens=next_tockens,
        inner_precise=inner_precise,
        prefix=prefix,
        actual_seq_qlen=actual_seq_qlen,
        actual_seq_kvlen=actual_seq_kvlen,
        sparse_mode=sparse_mode,
        softmax_layout=softmax_layout,
    )
    function = "npu_fusion_attention_grad"
    arguments.check_switches(function, gen_mask_parallel=gen_mask_parallel, sync=sync)
    seed, offset, _ = arguments.numbers(function, seed=seed, offset=offset, numels=numels)
    inputs = Inputs(query, key, value, real_shift=pse, atten_mask=atten_mask, sink=sink)
    saved = Saved(dy, softmax_max, softmax_sum, attention_in)
    call = calls.read(function, 1, inputs, head_num, input_layout, words, saved._asdict())
    dq, dk, dv, _, _, dsink = calls.backward(call, saved, seed, offset)
    return dq, dk, dv, _zeros(pse), dsink


def npu_fusion_attention_grad_v2(
    query,
    key,
    value,
    dy,
    head_num,
    input_layout,
    *,
    pse=None,
    padding_mask=None,
    atten_mask=None,
    softmax_max=None,
    softmax_sum=None,
    softmax_in=None,
    attention_in=None,
    query_rope=None,
    key_rope=None,
    scale_value=1.0,
    keep_prob=1.0,
    pre_tokens=INT_MAX,
    next_tokens=INT_MAX,
    inner_precise=0,
    seed=0,
    offset=0,
    numels=0,
    prefix=None,
    actual_seq_qlen=None,
    actual_seq_kvlen=None,
    sparse_mode=0,
    gen_mask_parallel=True,
    sync=False,
    pse_type=1,
    q_start_idx=None,
    kv_start_idx=None,
    softmax_layout="",
    sink=None,
):
    """As npu_fusion_attention_grad, for npu_fusion_attention_v2.

    Returns (dq, dk, dv, dpse, dq_rope, dk_rope, dsink), None for what the forward did not take.
    """
    words = dict(
        scale_value=scale_value,
        keep_prob=keep_prob,
        pre_tokens=pre_tokens,
        next_tokens=next_tokens,
        inner_precise=inner_precise,
        prefix=prefix,
        actual_seq_qlen=actual_seq_qlen,
        actual_seq_kvlen=actual_seq_kvlen,
        sparse_mode=sparse_mode,
        pse_type=pse_type,
        q_start_idx=q_start_idx,
        kv_start_idx=kv_start_idx,
        softmax_layout=softmax_layout,
    )
    function = "npu_fusion_attention_grad_v2"
    arguments.check_switches(function, gen_mask_parallel=gen_mask_parallel, sync=sync)
    seed, offset, _ = arguments.numbers(function, seed=seed, offset=offset, numels=numels)
    inputs = Inputs(query, key, value, query_rope, key_rope, pse, atten_mask=atten_mask, sink=sink)
    saved = Saved(dy, softmax_max, softmax_sum, attention_in)
    call = calls.read(function, 2, inputs, head_num, input_layout, words, saved._asdict())
    dq, dk, dv, dq_rope, dk_rope, dsink = calls.backward(call, saved, seed, offset)
    return dq, dk, dv, _zeros(pse), dq_rope, dk_rope, dsink


def npu_fusion_attention_grad_v3(
    query,
    key,
    value,
    dy,
    head_num,
    input_layout,
    *,
    pse=None,
    padding_mask=None,
    atten_mask=None,
    softmax_max=None,
    softmax_sum=None,
    softmax_in=None,
    attention_in=None,
    scale_value=1.0,
    keep_prob=1.0,
    pre_tockens=INT_MAX,
    next_tockens=INT_MAX,
    inner_precise=0,
    seed=None,
    offset=None,
    prefix=None,
    actual_seq_qlen=None,
    actual_seq_kvlen=None,
    sparse_mode=0,
    gen_mask_parallel=True,
    sync=False,
    softmax_layout="",
    sink=None,
):
    """As npu_fusion_attention_grad, for npu_fusion_attention_v3: seed and offset are its tensors, int64 [1].

    They may be None where keep_prob is 1. Returns (dq, dk, dv, dpse, dsink).
    """
    words = dict(
        scale_value=scale_value,
        keep_prob=keep_prob,
        pre_tockens=pre_tockens,
        next_tockens=next_tockens,
        inner_precise=inner_precise,
        prefix=prefix,
        actual_seq_qlen=actual_seq_qlen,
        actual_seq_kvlen=actual_seq_kvlen,
        sparse_mode=sparse_mode,
        softmax_layout=softmax_layout,
    )
    function = "npu_fusion_attention_grad_v3"
    arguments.check_switches(function, gen_mask_parallel=gen_mask_parallel, sync=sync)
    inputs = Inputs(query, key, value, real_shift=pse, atten_mask=atten_mask, sink=sink)
    saved = Saved(dy, softmax_max, softmax_sum, attention_in)
    call = calls.read(function, 3, inputs, head_num, input_layout, words, saved._asdict())
    numbers = [
        _number(call, name, given) for name, given in (("seed", seed), ("offset", offset))
    ]
    dq, dk, dv, _, _, dsink = calls.backward(call, saved, *numbers)
    return dq, dk, dv, _zeros(pse), dsink


def _number(call: calls.Call, name: str, given):
    """A tensor of one int64 beside the others, or an integer."""
    function, keep_prob = call.function, call.terms.keep_prob
    if given is None and keep_prob == 1:
        return 0
    if isinstance(given, int):
        return arguments.numbers(function, **{name: given})[0]
    if not isinstance(given, torch.Tensor) or given.dtype != torch.int64:
        arguments.fail(
            function,
            f"{name} is {given!r} with keep_prob {keep_prob}; accepted: an int64 tensor of one element",
        )
    arguments.check_tensors(function, {"query": call.inputs.query, name: given}, {})
    if given.numel() != 1:
        arguments.fail(
            function, f"{name} has shape {list(given.shape)}; accepted: an int64 tensor of one element"
        )
    return given


def _zeros(pse):
    return None if pse is None else torch.zeros_like(pse, memory_format=torch.contiguous_format)
