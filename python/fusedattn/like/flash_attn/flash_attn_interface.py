"""flash_attn.flash_attn_interface: attention of padded and packed sequences, and with a cache.

Shapes are flash-attn's: q (batch_size, seqlen, nheads, headdim), packed (total, nheads, headdim). Every function
takes float16, bfloat16 and, beyond flash-attn, float32 on the CPU, any strides, and fewer key heads than query
heads. What is common to all:

dropout_p: the share of the probabilities to drop, 0.0 for evaluation.
softmax_scale: None is 1 / sqrt(headdim). softcap: above 0, scores become softcap * tanh(score / softcap), before
    alibi_slopes.
causal, window_size: row i sees the columns from i + seqlen_k - seqlen_q - left to i + seqlen_k - seqlen_q + right;
    -1 is no bound, causal makes right 0. A row that sees nothing has out 0 and softmax_lse +inf.
alibi_slopes: float32 (nheads,) or (batch_size, nheads): slope * |i + seqlen_k - seqlen_q - j| is taken from the
    score of row i and column j. deterministic: without effect, everything is.
return_attn_probs: return (out, softmax_lse, S_dmask), softmax_lse float32 (batch_size, nheads, seqlen), packed
    (nheads, total). S_dmask is empty without dropout; with it, for tests, (batch_size, nheads, seqlen_q, seqlen_k)
    rounded up to 128: exp(score - the row's largest), negative where dropped.

All raise RuntimeError for what is not computed, with the argument, its value and what is accepted.
"""

from __future__ import annotations

import torch

from . import cache
from .arguments import check, check_tensors, named, read
from .raw import (
    PACKED,
    PADDED,
    _flash_attn_backward,
    _flash_attn_forward,
    _flash_attn_varlen_backward,
    _flash_attn_varlen_forward,
    forward,
    forward_packed,
)

flash_attn_gpu = None  # the compiled kernels, of which there are none; xFormers reads the name when it is imported

# What some packages call in place of the operators.
_wrapped_flash_attn_forward, _wrapped_flash_attn_backward = _flash_attn_forward, _flash_attn_backward
_wrapped_flash_attn_varlen_forward = _flash_attn_varlen_forward
_wrapped_flash_attn_varlen_backward = _flash_attn_varlen_backward


def flash_attn_func(
    q,
    k,
    v,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
):
    """Attention of q (batch_size, seqlen_q, nheads, headdim) to k and v (batch_size, seqlen_k, nheads_k, headdim)."""
    with named("flash_attn_func"):
        asked = read(dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes)
        check_tensors(PADDED, q=q, k=k, v=v)
        return _padded(asked, q, k, v, return_attn_probs)


def flash_attn_kvpacked_func(
    q,
    kv,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
):
    """flash_attn_func of kv (batch_size, seqlen_k, 2, nheads_k, headdim)."""
    with named("flash_attn_kvpacked_func"):
        asked = read(dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes)
        check_tensors(PADDED, q=q)
        check_tensors("batch_size, seqlen, 2, nheads_k, headdim", kv=kv)
        return _padded(asked, q, *_unpacked("kv", kv, 2, 2), return_attn_probs)


def flash_attn_qkvpacked_func(
    qkv,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
):
    """flash_attn_func of qkv (batch_size, seqlen, 3, nheads, headdim)."""
    with named("flash_attn_qkvpacked_func"):
        asked = read(dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes)
        check_tensors("batch_size, seqlen, 3, nheads, headdim", qkv=qkv)
        return _padded(asked, *_unpacked("qkv", qkv, 2, 3), return_attn_probs)


def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
    block_table=None,
):
    """Attention of packed q (total_q, nheads, headdim) to k and v (total_k, nheads_k, headdim).

    cu_seqlens_q, cu_seqlens_k: int32 (batch_size + 1,), cumulative lengths. max_seqlen_q and max_seqlen_k are not
    needed. block_table: int32 (batch_size, blocks): k and v are (num_blocks, page_block_size, nheads_k, headdim)
    with pages of any size, which are copied, one sequence's at a time; no dropout then.
    """
    with named("flash_attn_varlen_func"):
        asked = read(dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes)
        ends, parts = (cu_seqlens_q, cu_seqlens_k), (block_table, None, None, None)
        return _varlen(asked, q, k, v, ends, return_attn_probs, parts)


def flash_attn_varlen_kvpacked_func(
    q,
    kv,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
):
    """flash_attn_varlen_func of kv (total_k, 2, nheads_k, headdim)."""
    with named("flash_attn_varlen_kvpacked_func"):
        asked = read(dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes)
        check_tensors("total_k, 2, nheads_k, headdim", kv=kv)
        ends = (cu_seqlens_q, cu_seqlens_k)
        return _varlen(asked, q, *_unpacked("kv", kv, 1, 2), ends, return_attn_probs)


def flash_attn_varlen_qkvpacked_func(
    qkv,
    cu_seqlens,
    max_seqlen,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
):
    """flash_attn_varlen_func of qkv (total, 3, nheads, headdim)."""
    with named("flash_attn_varlen_qkvpacked_func"):
        asked = read(dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes)
        check(cu_seqlens=cu_seqlens)
        check_tensors("total, 3, nheads, headdim", qkv=qkv)
        ends = (cu_seqlens, cu_seqlens)
        return _varlen(asked, *_unpacked("qkv", qkv, 1, 3), ends, return_attn_probs)


def flash_attn_with_kvcache(
    q,
    k_cache,
    v_cache,
    k=None,
    v=None,
    rotary_cos=None,
    rotary_sin=None,
    cache_seqlens: int | torch.Tensor | None = None,
    cache_batch_idx: torch.Tensor | None = None,
    cache_leftpad: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    rotary_interleaved=True,
    alibi_slopes=None,
    num_splits=0,
    return_softmax_lse=False,
):
    """Attention of q (batch_size, seqlen, nheads, headdim) to what a cache holds. No gradients.

    k_cache, v_cache: (batch_size_cache, seqlen_cache, nheads_k, headdim), or with block_table (num_blocks,
    page_block_size, nheads_k, headdim), pages of any size. k, v: (batch_size, seqlen_new, nheads_k, headdim),
    written in place behind the cache_seqlens rows that each sequence has. rotary_cos, rotary_sin: (seqlen_ro,
    rotary_dim / 2): k is rotated at its positions in the cache, q at the same if causal or windowed, else all of it
    at cache_seqlens. cache_seqlens: an integer or int32 (batch_size,); None, all rows. cache_batch_idx: which of the
    cache's sequences each is. cache_leftpad: the first row of each. block_table: int32 (batch_size, blocks).
    num_splits is without effect: keys are split by their number alone. Returns out, with return_softmax_lse
    (out, softmax_lse).

    Contiguous caches are read where they lie: sequences of equal lengths in one call, others one by one. Pages are
    copied, one sequence's at a time.
    """
    with named("flash_attn_with_kvcache"):
        asked = read(0.0, softmax_scale, causal, window_size, softcap, alibi_slopes)
        held = cache.Cache(k_cache, v_cache, cache_seqlens, cache_batch_idx, cache_leftpad, block_table)
        rotary = cache.Rotary(rotary_cos, rotary_sin, rotary_interleaved)
        out, lse = cache.run(q, k, v, held, rotary, asked)
        return (out, lse) if return_softmax_lse else out


def _padded(asked, q, k, v, return_attn_probs: bool):
    if return_attn_probs:
        return forward(asked, q, k, v, True)[:3]
    return asked.hold(len(q), q.shape[2]).attend(q, k, v, layout="BSND")


def _varlen(asked, q, k, v, ends, return_attn_probs: bool, parts=(None, None, None, None)):
    if return_attn_probs or any(part is not None for part in parts):
        results = forward_packed(asked, q, k, v, ends, parts, return_attn_probs)
        return results[:3] if return_attn_probs else results[0]
    check(cu_seqlens_q=ends[0], cu_seqlens_k=ends[1])
    check_tensors(PACKED, q=q, k=k, v=v)
    asked.hold(ends[0].numel() - 1, q.shape[1])
    return asked.attend(q, k, v, layout="TND", cu_seqlens_q=ends[0], cu_seqlens_k=ends[1])


def _unpacked(name: str, tensor, axis: int, count: int):
    if tensor.shape[axis] != count:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; accepted is {count} in dimension {axis}")
    return tensor.unbind(axis)
