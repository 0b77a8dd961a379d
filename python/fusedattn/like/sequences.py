"""Sequences whose keys lie in a cache, in pages, or in a part of their rows: attention to them where they lie.

One call of the core serves all, where it can be told where they lie: as one batch, or as packed sequences with
gaps, which are sequences without queries. What cannot be told so goes one by one; pages are gathered for one
sequence at a time, so that no more than one sequence's keys and values are copied.

`asked`, which comes from a door, is what a call asks for: asked.attend(q, k, v, layout=..., cu_seqlens_q=...,
cu_seqlens_k=..., return_stats=True) computes (out, max, sum), asked.of_sequence(b) asks the same for sequence b alone, and
asked.of_sequences(order) for packed sequences of which each is that of this number.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Keys(NamedTuple):
    """Where the keys and values of every sequence lie.

    k, v: (sequences or blocks, rows, nheads_k, headdim). spans: of each sequence, its first row and the one
    after its last. at: of each, which of k's sequences holds them. table: of each, its blocks, whose rows
    follow one another; then `at` is not read. called: the table's name in refusals.
    """

    k: torch.Tensor
    v: torch.Tensor
    spans: list[tuple[int, int]]
    at: list[int]
    table: torch.Tensor | None = None
    called: str = "block_table"

    def of(self, b: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(k, v) of sequence b, (1, rows, nheads_k, headdim): views, or copies of its pages."""
        first, last = self.spans[b]
        if self.table is None:
            at = self.at[b]
            return self.k[at : at + 1, first:last], self.v[at : at + 1, first:last]
        pages, rows = self.pages(b)
        return tuple(t.index_select(0, pages).flatten(0, 1)[None, rows] for t in (self.k, self.v))

    def pages(self, b: int) -> tuple[torch.Tensor, slice]:
        """The blocks that sequence b needs, and which of their rows it has. ValueError for one that is none."""
        first, last = self.spans[b]
        size = self.k.shape[1]
        begin = first // size
        pages = self.table[b, begin : -(-last // size)].long()
        check_pages(self.called, pages, len(self.k))
        return pages, slice(first - begin * size, last - begin * size)

    def places(self, b: int) -> torch.Tensor:
        """Of each key of sequence b, which row of k with its first two dimensions joined it is."""
        first, last = self.spans[b]
        size = self.k.shape[1]
        if self.table is None:
            return torch.arange(first, last) + self.at[b] * size
        pages, rows = self.pages(b)
        return (pages[:, None] * size + torch.arange(size)).flatten()[rows]

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


def check_pages(name: str, pages, blocks: int) -> None:
    if pages.numel() and not (0 <= int(pages.min()) and int(pages.max()) < blocks):
        wrong = int(pages[(pages < 0) | (pages >= blocks)].flatten()[0])
        raise ValueError(f"{name} holds {wrong}; accepted is numbers of blocks, 0 to {blocks - 1}")


def attend_batch(asked, q, keys: Keys):
    """(out, max, sum) of q (batch_size, seqlen, nheads, headdim), statistics (batch_size, nheads, seqlen)."""
    batch, rows = q.shape[:2]
    if batch and keys.are_one_batch():
        k, v = (t[:batch, slice(*keys.spans[0])] for t in (keys.k, keys.v))
        return asked.attend(q, k, v, layout="BSND", return_stats=True)
    spans = [(b * rows, (b + 1) * rows) for b in range(batch)]
    out, *statistics = attend_packed(asked, q.flatten(0, 1), spans, keys)
    statistics = (t.unflatten(1, (batch, rows)).transpose(0, 1).contiguous() for t in statistics)
    return out.unflatten(0, (batch, rows)), *statistics


def attend_packed(asked, q, spans: list[tuple[int, int]], keys: Keys):
    """(out, max, sum) of packed q (total_q, nheads, headdim), statistics (nheads, total_q).

    spans: the rows of each sequence, one after another. Rows of no sequence have zeros.
    """
    ordered = keys.in_order()
    if ordered is None:
        sequences = range(len(spans))
        parts = [attend_one(asked, q, spans[b], keys, b) for b in sequences]
    else:
        sequences = [b for *_, b in ordered]
        parts = [_attend_with_gaps(asked, q, spans, keys, ordered)] if ordered else []
    rows = rows_of(spans, sequences, len(q))
    if rows is None and len(parts) == 1:  # nothing to be moved
        return parts[0]
    out = q.new_zeros(*q.shape[:2], keys.v.shape[-1])
    row_max = torch.zeros(q.shape[1], len(q))
    if not parts:
        return out, row_max, row_max.clone()
    rows = torch.arange(len(q)) if rows is None else rows
    outs, *statistics = zip(*parts)
    statistics = (row_max.index_copy(1, rows, torch.cat(t, dim=1)) for t in statistics)
    return out.index_copy(0, rows, torch.cat(outs)), *statistics


def attend_one(asked, q, span: tuple[int, int], keys: Keys, b: int):
    """(out, max, sum) of sequence b alone, whose rows of packed q are `span`."""
    results = asked.of_sequence(b).attend(q[None, slice(*span)], *keys.of(b), layout="BSND", return_stats=True)
    return tuple(t[0] for t in results)


def rows_of(spans, sequences, total: int) -> torch.Tensor | None:
    """The rows of these sequences, in this order; None if they are all rows as they lie."""
    parts = [spans[b] for b in sequences]
    ends = [0, *(last for _, last in parts)]
    if ends[-1] == total and all(first == end for (first, _), end in zip(parts, ends)):
        return None
    return torch.cat([torch.arange(first, last) for first, last in parts] or [torch.empty(0, dtype=torch.int64)])


def ends_with_gaps(spans, ordered) -> tuple[list[int], list[int]]:
    """Cumulative lengths of ordered sequences: before each stands one without queries, which has what lies between."""
    q_ends, k_ends = [0], [0]
    for first, last, b in ordered:
        q_ends += [q_ends[-1], q_ends[-1] + spans[b][1] - spans[b][0]]
        k_ends += [first, last]
    return q_ends, k_ends


def _attend_with_gaps(asked, q, spans, keys: Keys, ordered):
    """(out, max, sum) of the sequences' rows alone, in this order, by one call."""
    q_ends, k_ends = ends_with_gaps(spans, ordered)
    order = [b for *_, b in ordered]
    rows = rows_of(spans, order, len(q))
    asked = asked.of_sequences([b for b in order for _ in range(2)])
    k, v = (t.flatten(0, 1) for t in (keys.k, keys.v))
    q = q if rows is None else q.index_select(0, rows)
    return asked.attend(q, k, v, layout="TND", cu_seqlens_q=q_ends, cu_seqlens_k=k_ends, return_stats=True)
