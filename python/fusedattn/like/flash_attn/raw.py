"""flash_attn's own operators, forward and backward, as packages for ring attention import them.

Their signatures are those of 2.8.3, visible to inspect. Their results are in flash_attn_interface's shapes.
"""

from __future__ import annotations

from typing import Optional

import torch

from . import gradients
from .arguments import check, check_tensors, log_sum_exp, named, read
from .pieces import Keys, attend_packed
from .probabilities import s_dmask

PADDED, PACKED = "batch_size, seqlen, nheads, headdim", "total, nheads, headdim"
PAGED = "num_blocks, page_block_size, nheads_k, headdim"


def _flash_attn_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: Optional[torch.Tensor],
    return_softmax: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(out, softmax_lse, S_dmask, rng_state), without gradients. S_dmask is empty unless return_softmax."""
    with named("_flash_attn_forward"), torch.no_grad():
        window = (window_size_left, window_size_right)
        asked = read(dropout_p, softmax_scale, causal, window, softcap, alibi_slopes)
        check_tensors(PADDED, q=q, k=k, v=v)
        return forward(asked, q, k, v, return_softmax)


def _flash_attn_varlen_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
    alibi_slopes: Optional[torch.Tensor] = None,
    return_softmax: bool = False,
    block_table: Optional[torch.Tensor] = None,
    leftpad_k: Optional[torch.Tensor] = None,
    seqused_k: Optional[torch.Tensor] = None,
    zero_tensors: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same of packed sequences. zero_tensors has no effect: what no sequence has is always 0."""
    with named("_flash_attn_varlen_forward"), torch.no_grad():
        window = (window_size_left, window_size_right)
        asked = read(dropout_p, softmax_scale, causal, window, softcap, alibi_slopes)
        ends, parts = (cu_seqlens_q, cu_seqlens_k), (block_table, leftpad_k, None, seqused_k)
        return forward_packed(asked, q, k, v, ends, parts, return_softmax)


def _flash_attn_backward(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    softmax_lse: torch.Tensor,
    dq: Optional[torch.Tensor],
    dk: Optional[torch.Tensor],
    dv: Optional[torch.Tensor],
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: Optional[torch.Tensor],
    deterministic: bool,
    rng_state: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """softmax_d; writes the gradients into dq, dk and dv, of which a None is not computed. Always deterministic."""
    with named("_flash_attn_backward"), torch.no_grad():
        window = (window_size_left, window_size_right)
        asked = read(dropout_p, softmax_scale, causal, window, softcap, alibi_slopes)
        check_tensors(PADDED, q=q, k=k, v=v, out=out, dout=dout)
        return gradients.run(asked, dout, (q, k, v, out, softmax_lse), (dq, dk, dv), rng_state)


def _flash_attn_varlen_backward(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    softmax_lse: torch.Tensor,
    dq: Optional[torch.Tensor],
    dk: Optional[torch.Tensor],
    dv: Optional[torch.Tensor],
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: Optional[torch.Tensor],
    deterministic: bool,
    rng_state: Optional[torch.Tensor] = None,
    zero_tensors: bool = False,
) -> torch.Tensor:
    """The same of packed sequences."""
    with named("_flash_attn_varlen_backward"), torch.no_grad():
        window = (window_size_left, window_size_right)
        asked = read(dropout_p, softmax_scale, causal, window, softcap, alibi_slopes)
        check_tensors(PACKED, q=q, k=k, v=v, out=out, dout=dout)
        check(cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k)
        saved, ends = (q, k, v, out, softmax_lse), (cu_seqlens_q, cu_seqlens_k)
        return gradients.run(asked, dout, saved, (dq, dk, dv), rng_state, ends)


def forward(asked, q, k, v, return_softmax: bool):
    """(out, softmax_lse, S_dmask, rng_state), differentiable in out."""
    stream, state = _stream(asked)
    out, *statistics = asked.attend(q, k, v, layout="BSND", return_stats=True, dropout_seed=stream)
    weights = q.new_empty(0)
    if return_softmax and stream is not None:
        ends = tuple([step * t.shape[1] for step in range(len(t) + 1)] for t in (q, k))
        weights = s_dmask(asked, q.flatten(0, 1), k.flatten(0, 1), ends, stream)
    return out, log_sum_exp(*statistics), weights, state


def forward_packed(asked, q, k, v, ends, parts, return_softmax: bool):
    """The same of packed sequences. parts: (block_table, leftpad_k, seqused_q, seqused_k), each None or given."""
    block_table, leftpad_k, seqused_q, seqused_k = parts
    check(cu_seqlens_q=ends[0], cu_seqlens_k=ends[1], block_table=block_table)
    check(leftpad_k=leftpad_k, seqused_q=seqused_q, seqused_k=seqused_k)
    check_tensors(PACKED, q=q)
    check_tensors(PACKED if block_table is None else PAGED, k=k, v=v)
    if any(part is not None for part in parts):
        if asked.dropout_p:
            raise ValueError(f"dropout_p is {asked.dropout_p}; accepted is 0 with pages or parts of sequences")
        q_ends, k_ends = (end.tolist() for end in ends)
        spans = list(zip(q_ends, q_ends[1:]))
        if seqused_q is not None:
            spans = _first_rows(spans, seqused_q.tolist())
        out, lse = attend_packed(asked, q, spans, _keys(k, v, k_ends, block_table, leftpad_k, seqused_k))
        return out, lse, q.new_empty(0), torch.zeros(2, dtype=torch.int64)
    stream, state = _stream(asked)
    lengths = dict(cu_seqlens_q=ends[0], cu_seqlens_k=ends[1])
    out, *statistics = asked.attend(q, k, v, layout="TND", return_stats=True, dropout_seed=stream, **lengths)
    weights = q.new_empty(0)
    if return_softmax and stream is not None:
        weights = s_dmask(asked, q, k, tuple(end.tolist() for end in ends), stream)
    return out, log_sum_exp(*statistics), weights, state


def _first_rows(spans, used: list[int]):
    if len(used) != len(spans) or not all(0 <= n <= end - begin for n, (begin, end) in zip(used, spans)):
        raise ValueError(f"seqused_q is {used}; accepted are the lengths that cu_seqlens_q gives, or less")
    return [(begin, begin + n) for n, (begin, _) in zip(used, spans)]


def _keys(k, v, ends: list[int], block_table, leftpad_k, seqused_k) -> Keys:
    """Where the keys of each sequence lie: from leftpad_k to seqused_k of its rows or of its pages."""
    lengths = [end - begin for begin, end in zip(ends, ends[1:])] if seqused_k is None else seqused_k.tolist()
    pads = [0] * len(lengths) if leftpad_k is None else leftpad_k.tolist()
    if block_table is not None:
        if len(block_table) != len(lengths):
            count = len(block_table)
            raise ValueError(f"block_table has {count} rows; accepted is one for each sequence, {len(lengths)}")
        most = [block_table.shape[1] * k.shape[1]] * len(lengths)
    else:
        most = [end - begin for begin, end in zip(ends, ends[1:])]
    for pad, length, limit in zip(pads, lengths, most):
        if not (0 <= pad and 0 <= length <= limit):
            raise ValueError(f"a sequence has keys from {pad} to {length}; accepted are those from 0 to {limit}")
    if block_table is not None:
        return Keys(k, v, [(pad, max(pad, n)) for pad, n in zip(pads, lengths)], [], block_table)
    spans = [(begin + pad, begin + max(pad, n)) for begin, pad, n in zip(ends, pads, lengths)]
    return Keys(k[None], v[None], spans, [0] * len(spans))


def _stream(asked):
    """(seed and offset or None, rng_state): drawn from torch's default generator where there is dropout."""
    if not asked.dropout_p:
        return None, torch.zeros(2, dtype=torch.int64)
    seed = int(torch.randint(0, 2**63 - 1, (1,)))
    return (seed, 0), torch.tensor([seed, 0])
