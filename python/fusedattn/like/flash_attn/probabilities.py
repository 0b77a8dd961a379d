"""S_dmask, which return_attn_probs gives beside dropout: for tests, of the size of the scores."""

from __future__ import annotations

import torch

import fusedattn

from .arguments import Asked

_COLUMNS = 256  # of S_dmask at a time: attention to values that are rows of the identity


def s_dmask(asked: Asked, q, k, ends: tuple[list[int], list[int]], stream: tuple[int, int]):
    """(batch_size, nheads, longest q, longest k), both rounded up to a multiple of 128, in q's dtype.

    q, k: packed, ends: their cumulative lengths. exp(score - the row's largest), negative where dropped.
    """
    q_ends, k_ends = ends
    if len(q_ends) == 1 or q_ends[-1] == 0 or k_ends[-1] == 0:
        return q.new_zeros(len(q_ends) - 1, q.shape[1], 0, 0)
    lengths = [(a[1] - a[0], b[1] - b[0]) for a, b in zip(zip(q_ends, q_ends[1:]), zip(k_ends, k_ends[1:]))]
    rows, columns = (-(-max(side, default=0) // 128) * 128 for side in zip(*lengths))
    result = q.new_zeros(len(lengths), q.shape[1], rows, columns)
    with torch.no_grad():
        weights = _weights(asked._replace(dropout_p=0.0), q, k, ends, max(b for _, b in lengths))
    counts = [q.shape[1] * a * b for a, b in lengths]
    keep = torch.from_numpy(fusedattn.dropout_mask((sum(counts),), asked.dropout_p, *stream)).split(counts)
    for b, (row_count, column_count) in enumerate(lengths):
        of_rows = weights[q_ends[b] : q_ends[b + 1], :, :column_count].transpose(0, 1)
        kept = keep[b].view(of_rows.shape)
        result[b, :, :row_count, :column_count] = torch.where(kept, of_rows, -of_rows)
    return result


def _weights(asked: Asked, q, k, ends, longest: int):
    """exp(score - the row's largest) as (total_q, nheads, longest)."""
    starts = torch.tensor(ends[1]).diff(prepend=torch.zeros(1, dtype=torch.int64))
    own = torch.arange(len(k)) - torch.repeat_interleave(torch.tensor(ends[1])[:-1], starts[1:])
    blocks = []
    for first in range(0, longest, _COLUMNS):
        wanted = torch.arange(first, min(first + _COLUMNS, longest))
        identity = (own[:, None] == wanted).to(q.dtype)[:, None].expand(-1, k.shape[1], -1)
        out, _, row_sum = asked.attend(
            q, k, identity, layout="TND", cu_seqlens_q=ends[0], cu_seqlens_k=ends[1], return_stats=True
        )
        seen = row_sum < torch.finfo(torch.float32).max
        blocks.append(out * torch.where(seen, row_sum, 0.0).t().unsqueeze(-1))
    return torch.cat(blocks, dim=-1)
