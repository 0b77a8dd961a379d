"""flash-attn 3's functions (its module is called flash_attn_interface) where they differ from flash-attn 2's.

Shapes, masks and refusals are those of fusedattn.like.flash_attn. What these functions have besides:

learnable_sink: float32, bfloat16 or float16 (nheads,): one more score of every row of a head, without a value.
return_softmax_lse: return (out, softmax_lse), the log-sum-exp of every row, float32, the sink included.
seqused_q, seqused_k: int32 (batch_size,): how many rows of each packed sequence are used.
num_splits, pack_gqa, sm_margin, scheduler_metadata: without effect. qv, the descales and attention_chunk are refused.

learnable_sink and return_softmax_lse come last, by name: version 3 itself has them in later forms than 2.8.3's.
"""

from __future__ import annotations

import torch

from .flash_attn import cache
from .flash_attn.arguments import check, check_tensors, named, read
from .flash_attn.raw import PACKED, PADDED, forward, forward_packed


def flash_attn_func(
    q,
    k,
    v,
    softmax_scale=None,
    causal=False,
    qv=None,
    q_descale=None,
    k_descale=None,
    v_descale=None,
    window_size=(-1, -1),
    attention_chunk=0,
    softcap=0.0,
    num_splits=1,
    pack_gqa=None,
    deterministic=False,
    sm_margin=0,
    *,
    learnable_sink=None,
    return_softmax_lse=False,
):
    """Attention of q (batch_size, seqlen_q, nheads, headdim) to k, v (batch_size, seqlen_k, nheads_k, headdim)."""
    with named("flash_attn_func"):
        _refuse_the_rest(qv, (q_descale, k_descale, v_descale), attention_chunk)
        asked = read(0.0, softmax_scale, causal, window_size, softcap, None, learnable_sink)
        check_tensors(PADDED, q=q, k=k, v=v)
        out, lse, *_ = forward(asked, q, k, v, False)
        return (out, lse) if return_softmax_lse else out


def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    seqused_q=None,
    seqused_k=None,
    softmax_scale=None,
    causal=False,
    qv=None,
    q_descale=None,
    k_descale=None,
    v_descale=None,
    window_size=(-1, -1),
    attention_chunk=0,
    softcap=0.0,
    num_splits=1,
    pack_gqa=None,
    deterministic=False,
    sm_margin=0,
    *,
    learnable_sink=None,
    return_softmax_lse=False,
):
    """The same of packed q (total_q, nheads, headdim), k and v. Rows behind seqused_q have out 0."""
    with named("flash_attn_varlen_func"):
        _refuse_the_rest(qv, (q_descale, k_descale, v_descale), attention_chunk)
        asked = read(0.0, softmax_scale, causal, window_size, softcap, None, learnable_sink)
        check_tensors(PACKED, q=q, k=k, v=v)
        ends, parts = (cu_seqlens_q, cu_seqlens_k), (None, None, seqused_q, seqused_k)
        out, lse, *_ = forward_packed(asked, q, k, v, ends, parts, False)
        return (out, lse) if return_softmax_lse else out


def flash_attn_qkvpacked_func(
    qkv,
    softmax_scale=None,
    causal=False,
    q_descale=None,
    k_descale=None,
    v_descale=None,
    window_size=(-1, -1),
    attention_chunk=0,
    softcap=0.0,
    deterministic=False,
    num_heads_q=None,
    sm_margin=0,
    *,
    learnable_sink=None,
    return_softmax_lse=False,
):
    """flash_attn_func of qkv (batch_size, seqlen, 3, nheads, headdim), or with num_heads_q of (batch_size, seqlen,
    num_heads_q + 2 * nheads_k, headdim)."""
    with named("flash_attn_qkvpacked_func"):
        _refuse_the_rest(None, (q_descale, k_descale, v_descale), attention_chunk)
        asked = read(0.0, softmax_scale, causal, window_size, softcap, None, learnable_sink)
        out, lse, *_ = forward(asked, *_unpacked(qkv, num_heads_q), False)
        return (out, lse) if return_softmax_lse else out


def flash_attn_with_kvcache(
    q,
    k_cache,
    v_cache,
    k=None,
    v=None,
    qv=None,
    rotary_cos=None,
    rotary_sin=None,
    cache_seqlens: int | torch.Tensor | None = None,
    cache_batch_idx: torch.Tensor | None = None,
    cache_leftpad: torch.Tensor | None = None,
    page_table: torch.Tensor | None = None,
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_k_new: torch.Tensor | None = None,
    max_seqlen_q: int | None = None,
    rotary_seqlens: torch.Tensor | None = None,
    q_descale: torch.Tensor | None = None,
    k_descale: torch.Tensor | None = None,
    v_descale: torch.Tensor | None = None,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    attention_chunk=0,
    softcap=0.0,
    rotary_interleaved=True,
    scheduler_metadata=None,
    num_splits=0,
    pack_gqa=None,
    sm_margin=0,
    return_softmax_lse=False,
    *,
    learnable_sink=None,
):
    """flash-attn 2's flash_attn_with_kvcache; page_table is its block_table. cu_seqlens_q is refused."""
    with named("flash_attn_with_kvcache"):
        _refuse_the_rest(qv, (q_descale, k_descale, v_descale), attention_chunk)
        check(cu_seqlens_k_new=cu_seqlens_k_new)
        if cu_seqlens_q is not None:
            raise NotImplementedError("cu_seqlens_q is given; accepted is None, with q (batch_size, seqlen, ...)")
        asked = read(0.0, softmax_scale, causal, window_size, softcap, None, learnable_sink)
        held = cache.Cache(k_cache, v_cache, cache_seqlens, cache_batch_idx, cache_leftpad, page_table)
        rotary = cache.Rotary(rotary_cos, rotary_sin, rotary_interleaved, rotary_seqlens)
        out, lse = cache.run(q, k, v, held, rotary, asked)
        return (out, lse) if return_softmax_lse else out


def _refuse_the_rest(qv, descales, attention_chunk) -> None:
    check(qv=qv, attention_chunk=attention_chunk)
    check(**dict(zip(("q_descale", "k_descale", "v_descale"), descales)))


def _unpacked(qkv, num_heads_q):
    if num_heads_q is None:
        check_tensors("batch_size, seqlen, 3, nheads, headdim", qkv=qkv)
        if qkv.shape[2] != 3:
            raise ValueError(f"qkv has shape {tuple(qkv.shape)}; accepted is 3 in dimension 2")
        return qkv.unbind(2)
    check_tensors("batch_size, seqlen, num_heads_q + 2 * nheads_k, headdim", qkv=qkv)
    shared, odd = divmod(qkv.shape[2] - num_heads_q, 2)
    if odd or shared < 1:
        raise ValueError(f"num_heads_q is {num_heads_q} of {qkv.shape[2]} heads; accepted leaves 2 * nheads_k of them")
    return qkv.split((num_heads_q, shared, shared), dim=2)
