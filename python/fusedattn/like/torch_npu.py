"""torch_npu's attention functions on CPU tensors: the vendor's names, signatures, modes and results."""

from . import torch_npu_arguments as arguments
from . import torch_npu_call as calls
from .ascend.registry import INT_MAX
from .torch_npu_nsa import npu_nsa_compress, npu_nsa_compress_grad
from .torch_npu_score import Inputs
from .torch_npu_score_grad import (
    npu_fusion_attention_grad,
    npu_fusion_attention_grad_v2,
    npu_fusion_attention_grad_v3,
)
from .torch_npu_tensors import _npu_dropout_gen_mask, npu_confusion_transpose

__all__ = [
    "_npu_dropout_gen_mask",
    "npu_confusion_transpose",
    "npu_fusion_attention",
    "npu_fusion_attention_grad",
    "npu_fusion_attention_grad_v2",
    "npu_fusion_attention_grad_v3",
    "npu_fusion_attention_v2",
    "npu_fusion_attention_v3",
    "npu_nsa_compress",
    "npu_nsa_compress_grad",
]


def npu_fusion_attention(
    query,
    key,
    value,
    head_num,
    input_layout,
    pse=None,
    padding_mask=None,
    atten_mask=None,
    scale=1.0,
    keep_prob=1.0,
    pre_tockens=INT_MAX,
    next_tockens=INT_MAX,
    inner_precise=0,
    prefix=None,
    actual_seq_qlen=None,
    actual_seq_kvlen=None,
    sparse_mode=0,
    gen_mask_parallel=True,
    sync=False,
    softmax_layout="",
    sink=None,
    dropout_mask=None,
    seed=0,
    offset=0,
):
    """Fused attention as torch_npu has it; differentiable in query, key, value and sink.

    query, key, value: CPU tensors, all float16, bfloat16 or float32, in input_layout: BSH, SBH, BSND, BNSD or
        TND (in any case), head_num query heads, a multiple of the key heads; value's head size at most key's.
    pse: added to the scores before the scale: [B,N,Sq,Skv], [1,N,Sq,Skv], [B,N,1,Skv], the last 1024 rows of
        a longer causal ALiBi, or with TND packed matrices. Its gradient is zeros, as on the device.
    atten_mask: bool or uint8, nonzero = masked. Without it nothing is masked, whatever sparse_mode says.
    scale: of the scores; the default is 1.0, not 1/sqrt(D).
    keep_prob: below 1, dropout by dropout_mask (uint8, one bit per score, 1 keeps, lowest bit first) or by
        the bits that seed and offset generate; both zero: one draw from torch's default generator is the
        seed.
    sparse_mode, pre_tockens, next_tockens, prefix: which columns a row sees; docs/operators has the table.
    actual_seq_qlen, actual_seq_kvlen: with TND, cumulative lengths without a leading 0.
    softmax_layout: "" or, with TND, "TND": the memory order of the statistics (blockwise, or as the shape
        says).
    sink: float32 [head_num], one more score per head that has no value.
    padding_mask, inner_precise, gen_mask_parallel, sync: without effect. Rows that see no column always give
        0.

    Returns (attention_out, softmax_max, softmax_sum, softmax_out, seed, offset, numels): attention_out in
    input_layout; the statistics float32 [B,N1,Sq,8] (TND: [T1,N1,8]) without gradient; softmax_out empty,
    [0]; three ints: those of the dropout, and the number of scores.

    Raises RuntimeError, with the operator's name and the code where the device's operator would refuse.
    """
    words = dict(
        scale=scale,
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
    arguments.check_switches("npu_fusion_attention", gen_mask_parallel=gen_mask_parallel, sync=sync)
    inputs = Inputs(
        query, key, value, real_shift=pse, drop_mask=dropout_mask, atten_mask=atten_mask, sink=sink
    )
    call = calls.read("npu_fusion_attention", 1, inputs, head_num, input_layout, words)
    return calls.forward_with_integers(call, seed, offset)


def npu_fusion_attention_v2(
    query,
    key,
    value,
    head_num,
    input_layout,
    *,
    pse=None,
    padding_mask=None,
    atten_mask=None,
    query_rope=None,
    key_rope=None,
    scale=1.0,
    keep_prob=1.0,
    pre_tokens=INT_MAX,
    next_tokens=INT_MAX,
    inner_precise=0,
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
    dropout_mask=None,
    seed=0,
    offset=0,
):
    """npu_fusion_attention with rotary parts, other types of pse, start indices; pre_tokens is so spelled.

    query_rope, key_rope: bfloat16 [T,N,Dr] with TND, a mask, no pse and no dropout: scores are those of the
        features and of these together. Differentiable.
    pse_type: 0 adds pse after the scale, 1 before it; 2 and 3 take float32 slopes [N] or [B,N] as pse and add
        -slope * |d| or -slope * sqrt|d|, d = column + kv_start_idx[0] - row - q_start_idx[0].
    softmax_layout: "TND" counts with a sink alone; without one the statistics stay blockwise, as on the
        device.
    """
    words = dict(
        scale=scale,
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
    arguments.check_switches("npu_fusion_attention_v2", gen_mask_parallel=gen_mask_parallel, sync=sync)
    inputs = Inputs(query, key, value, query_rope, key_rope, pse, dropout_mask, atten_mask, sink)
    call = calls.read("npu_fusion_attention_v2", 2, inputs, head_num, input_layout, words)
    return calls.forward_with_integers(call, seed, offset)


def npu_fusion_attention_v3(
    query,
    key,
    value,
    head_num,
    input_layout,
    pse=None,
    padding_mask=None,
    atten_mask=None,
    scale=1.0,
    keep_prob=1.0,
    pre_tockens=INT_MAX,
    next_tockens=INT_MAX,
    inner_precise=0,
    prefix=None,
    actual_seq_qlen=None,
    actual_seq_kvlen=None,
    sparse_mode=0,
    gen_mask_parallel=True,
    sync=False,
    softmax_layout="",
    sink=None,
):
    """npu_fusion_attention for graphs: seed and offset are tensors, drawn where the graph runs.

    actual_seq_qlen, actual_seq_kvlen: int64 tensors [B] (lists are taken too).

    Returns (attention_out, softmax_max, softmax_sum, softmax_out, seed, offset), seed and offset int64 [1].
    """
    words = dict(
        scale=scale,
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
    arguments.check_switches("npu_fusion_attention_v3", gen_mask_parallel=gen_mask_parallel, sync=sync)
    inputs = Inputs(query, key, value, real_shift=pse, atten_mask=atten_mask, sink=sink)
    call = calls.read("npu_fusion_attention_v3", 3, inputs, head_num, input_layout, words)
    return calls.forward_with_tensors(call)
