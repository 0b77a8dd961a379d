"""Sequences whose keys lie in a cache, in pages, or in a part of their rows: attention one by one, keys in place.

Pages are gathered for one sequence at a time, so that no more than one sequence's keys and values are copied.
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
        last = max(first, last)
        if self.table is None:
            at = self.at[b]
            return self.k[at : at + 1, first:last], self.v[at : at + 1, first:last]
        size = self.k.shape[1]
        begin = first // size
        pages = self.table[b, begin : -(-last // size)].long()
        check_pages(pages, len(self.k))
        rows = slice(first - begin * size, last - begin * size)
        return tuple(t.index_select(0, pages).flatten(0, 1)[None, rows] for t in (self.k, self.v))

    def are_one_block(self, batch: int) -> bool:
        """Whether all sequences lie side by side with the same rows."""
        return self.table is None and len(set(self.spans)) == 1 and self.at == list(range(batch))


def check_pages(pages, blocks: int) -> None:
    if pages.numel() and not (0 <= int(pages.min()) and int(pages.max()) < blocks):
        wrong = pages[(pages < 0) | (pages >= blocks)].flatten()[0]
        refuse_element("block_table", int(wrong), f"numbers of blocks, 0 to {blocks - 1}")


def attend_batch(asked: Asked, q, keys: Keys):
    """(out, softmax_lse) of q (batch_size, seqlen, nheads, headdim)."""
    if keys.are_one_block(len(q)):
        first, last = keys.spans[0]
        rows = slice(first, max(first, last))
        return _attend(asked, q, keys.k[: len(q), rows], keys.v[: len(q), rows])
    every = [_attend(asked.of_sequence(b), q[b : b + 1], *keys.of(b)) for b in range(len(q))]
    outs, lses = zip(*every) if every else ((q,), (q.new_empty(0, q.shape[2], q.shape[1], dtype=torch.float32),))
    return torch.cat(outs), torch.cat(lses)


def attend_packed(asked: Asked, q, ends: list[int], used: list[int] | None, keys: Keys):
    """(out, softmax_lse) of packed q (total_q, nheads, headdim), of which each sequence uses its first rows.

    Rows that no sequence uses have out 0 and softmax_lse +inf.
    """
    outs, lses, done = [], [], 0
    for b, (begin, end) in enumerate(zip(ends, ends[1:])):
        stop = end if used is None else begin + used[b]
        out, lse = _attend(asked.of_sequence(b), q[None, begin:stop], *keys.of(b))
        outs += [out[0], q.new_zeros(end - stop, *out.shape[2:])]
        lses += [lse[0], lse.new_full((lse.shape[1], end - stop), float("inf"))]
        done = end
    outs.append(q.new_zeros(len(q) - done, q.shape[1], keys.v.shape[-1]))
    lses.append(torch.full((q.shape[1], len(q) - done), float("inf")))
    return torch.cat(outs), torch.cat(lses, dim=1)


def _attend(asked: Asked, q, k, v):
    out, row_max, row_sum = asked.attend(q, k, v, layout="BSND", return_stats=True)
    return out, log_sum_exp(row_max, row_sum)
