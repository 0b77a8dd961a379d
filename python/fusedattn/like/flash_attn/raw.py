"""flash_attn's own operators, forward and backward, as packages for ring attention import them.

Their signatures are those of 2.8.3, visible to inspect. Their results are in flash_attn_interface's shapes.
"""

from __future__ import annotations

from typing import Optional

import torch

from fusedattn.like.sequences import Keys, attend_packed

from . import gradients
from .arguments import check, check_lengths, check_tensors, log_sum_exp, named, one_each, read
from .arguments import refuse, refuse_element
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
    stream, state = _stream(asked.hold(len(q), q.shape[2]))
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
    asked.hold(ends[0].numel() - 1, q.shape[1])
    if any(part is not None for part in parts):
        if asked.dropout_p:
            raise ValueError(f"dropout_p is {asked.dropout_p}; accepted is 0 with pages or parts of sequences")
        out, *statistics = attend_packed(asked, q, _rows(q, ends[0], seqused_q), _keys(k, v, ends, parts))
        return out, log_sum_exp(*statistics), q.new_empty(0), torch.zeros(2, dtype=torch.int64)
    stream, state = _stream(asked)
    lengths = dict(cu_seqlens_q=ends[0], cu_seqlens_k=ends[1])
    out, *statistics = asked.attend(q, k, v, layout="TND", return_stats=True, dropout_seed=stream, **lengths)
    weights = q.new_empty(0)
    if return_softmax and stream is not None:
        weights = s_dmask(asked, q, k, tuple(end.tolist() for end in ends), stream)
    return out, log_sum_exp(*statistics), weights, state


def _rows(q, cu_seqlens_q, seqused_q) -> list[tuple[int, int]]:
    """The rows of each sequence: all of them, or its first seqused_q."""
    ends = check_lengths("cu_seqlens_q", cu_seqlens_q, len(q))
    spans = list(zip(ends, ends[1:]))
    if seqused_q is None:
        return spans
    used = one_each("seqused_q", seqused_q, len(spans))
    for n, (begin, end) in zip(used, spans):
        if not 0 <= n <= end - begin:
            refuse_element("seqused_q", n, f"0 to {end - begin}, the length of its sequence")
    return [(begin, begin + n) for n, (begin, _) in zip(used, spans)]


def _keys(k, v, ends, parts) -> Keys:
    """Where the keys of each sequence lie: from leftpad_k to seqused_k of its rows or of its pages."""
    block_table, leftpad_k, _, seqused_k = parts
    if k.shape[:-1] != v.shape[:-1]:
        refuse("v", v, f"k's shape but for the last dimension, {tuple(k.shape)}")
    sequences = ends[0].numel() - 1
    if ends[1].shape != ends[0].shape:
        refuse("cu_seqlens_k", ends[1], f"as many as in cu_seqlens_q, {sequences + 1}")
    if block_table is not None and len(block_table) != sequences:
        refuse("block_table", block_table, f"one row for each of {sequences} sequences")
    rows = len(k) if block_table is None else sequences * block_table.shape[1] * k.shape[1]
    k_ends = check_lengths("cu_seqlens_k", ends[1], rows)
    lengths = [end - begin for begin, end in zip(k_ends, k_ends[1:])]
    most = lengths if block_table is None else [block_table.shape[1] * k.shape[1]] * sequences
    used = lengths if seqused_k is None else one_each("seqused_k", seqused_k, sequences)
    pads = [0] * sequences if leftpad_k is None else one_each("leftpad_k", leftpad_k, sequences)
    for name, numbers in (("cu_seqlens_k" if seqused_k is None else "seqused_k", used), ("leftpad_k", pads)):
        for number, limit in zip(numbers, most):
            if not 0 <= number <= limit:
                refuse_element(name, number, f"0 to {limit}, the keys that a sequence has room for")
    spans = [(pad, max(pad, n)) for pad, n in zip(pads, used)]
    if block_table is not None:
        return Keys(k, v, spans, [], block_table)
    shifted = [(begin + first, begin + last) for begin, (first, last) in zip(k_ends, spans)]
    return Keys(k[None], v[None], shifted, [0] * sequences)


def _stream(asked):
    """(seed and offset or None, rng_state): drawn from torch's default generator where there is dropout."""
    if not asked.dropout_p:
        return None, torch.zeros(2, dtype=torch.int64)
    seed = int(torch.randint(0, 2**63 - 1, (1,)))
    return (seed, 0), torch.tensor([seed, 0])
