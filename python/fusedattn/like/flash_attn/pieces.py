"""Sequences whose keys lie in a cache, in pages, or in a part of their rows: attention to them where they lie.

One call of the core serves all, where it can be told where they lie: as one batch, or as packed sequences with
gaps, which are sequences without queries. What cannot be told so goes one by one; pages are gathered for one
sequence at a time, so that no more than one sequence's keys and values are copied.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .arguments import Asked, log_sum_exp, refuse_element


class Keys(NamedTuple):
    """Where the keys and values of every sequence lie.

    k, v: (sequences or blocks, rows, nheads_k, headdim). spans: of each sequence, its first row and the one
    after its last. at: of each, which of k's sequences holds them. table: of each, its blocks, whose rows
    follow one another; then `at` is not read.
    """

    k: torch.Tensor
    v: torch.Tensor
    spans: list[tuple[int, int]]
    at: list[int]
    table: torch.Tensor | None = None

    def of(self, b: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(k, v) of sequence b, (1, rows, nheads_k, headdim): views, or copies of its pages."""
        first, last = self.spans[b]
        if self.table is None:
            at = self.at[b]
            return self.k[at : at + 1, first:last], self.v[at : at + 1, first:last]
        size = self.k.shape[1]
        begin = first // size
        pages = self.table[b, begin : -(-last // size)].long()
        check_pages(pages, len(self.k))
        rows = slice(first - begin * size, last - begin * size)
        return tuple(t.index_select(0, pages).flatten(0, 1)[None, rows] for t in (self.k, self.v))

    def are_one_batch(self) -> bool:
        """Whether all sequences lie side by side with the same rows."""
        return self.table is None and len(set(self.spans)) == 1 and self.at == list(range(len(self.at)))

    def in_order(self) -> list[tuple[int, int, int]] | None:
        """(first row, row after the last, sequence) where all rows are those of one packed tensor, as they lie in it.

        None where they are not: paged, or some shared, or one sequence of the cache not behind the other.
        """
        one = all(len(t) == 1 or t.stride(0) == t.shape[1] * t.stride(1) for t in (self.k, self.v))
        if self.table is not None or not one:
            return None
        rows = self.k.shape[1]
        places = [(at * rows + first, at * rows + last) for at, (first, last) in zip(self.at, self.spans)]
        ordered = sorted((*place, b) for b, place in enumerate(places))
        apart = all(before[1] <= after[0] for before, after in zip(ordered, ordered[1:]))
        return ordered if apart else None


def check_pages(pages, blocks: int) -> None:
    if pages.numel() and not (0 <= int(pages.min()) and int(pages.max()) < blocks):
        wrong = pages[(pages < 0) | (pages >= blocks)].flatten()[0]
        refuse_element("block_table", int(wrong), f"numbers of blocks, 0 to {blocks - 1}")


def attend_batch(asked: Asked, q, keys: Keys):
    """(out, softmax_lse) of q (batch_size, seqlen, nheads, headdim)."""
    batch, rows = q.shape[:2]
    if batch and keys.are_one_batch():
        return _attend(asked, q, *(t[:batch, slice(*keys.spans[0])] for t in (keys.k, keys.v)))
    spans = [(b * rows, (b + 1) * rows) for b in range(batch)]
    out, lse = attend_packed(asked, q.flatten(0, 1), spans, keys)
    return out.unflatten(0, (batch, rows)), lse.unflatten(1, (batch, rows)).transpose(0, 1).contiguous()


def attend_packed(asked: Asked, q, spans: list[tuple[int, int]], keys: Keys):
    """(out, softmax_lse) of packed q (total_q, nheads, headdim); spans: the rows of each sequence, one after another.

    Rows of no sequence have out 0 and softmax_lse +inf.
    """
    ordered = keys.in_order()
    if ordered is None:
        results = [
            _attend(asked.of_sequence(b), q[None, begin:end], *keys.of(b)) for b, (begin, end) in enumerate(spans)
        ]
        sequences, parts = range(len(spans)), [(out[0], lse[0]) for out, lse in results]
    else:
        sequences = [b for *_, b in ordered]
        parts = [_attend_with_gaps(asked, q, spans, keys, ordered)] if ordered else []
    rows = [row for b in sequences for row in range(*spans[b])]
    if len(parts) == 1 and rows == list(range(len(q))):  # nothing to be moved
        return parts[0]
    rows = torch.tensor(rows, dtype=torch.int64)
    out = q.new_zeros(*q.shape[:2], keys.v.shape[-1])
    lse = torch.full((q.shape[1], len(q)), float("inf"))
    if not parts:
        return out, lse
    outs, lses = zip(*parts)
    return out.index_copy(0, rows, torch.cat(outs)), lse.index_copy(1, rows, torch.cat(lses, dim=1))


def _attend_with_gaps(asked: Asked, q, spans, keys: Keys, ordered):
    """The same of the sequences' rows alone, in this order, by one call.

    Before each sequence stands one without queries, which has the rows that lie between.
    """
    q_ends, k_ends, slopes = [0], [0], []
    for first, last, b in ordered:
        q_ends += [q_ends[-1], q_ends[-1] + spans[b][1] - spans[b][0]]
        k_ends += [first, last]
        slopes += [b, b]
    if asked.slopes is not None and asked.slopes.dim() == 2:
        asked = asked._replace(slopes=asked.slopes[slopes])
    if [b for *_, b in ordered] == list(range(len(spans))) and q_ends[-1] == len(q):
        rows = q
    else:
        rows = torch.cat([q[slice(*spans[b])] for *_, b in ordered])
    k, v = (t.flatten(0, 1) for t in (keys.k, keys.v))
    lengths = dict(cu_seqlens_q=q_ends, cu_seqlens_k=k_ends)
    out, *statistics = asked.attend(rows, k, v, layout="TND", return_stats=True, **lengths)
    return out, log_sum_exp(*statistics)


def _attend(asked: Asked, q, k, v):
    out, *statistics = asked.attend(q, k, v, layout="BSND", return_stats=True)
    return out, log_sum_exp(*statistics)
