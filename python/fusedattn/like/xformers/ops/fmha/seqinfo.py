"""How a dimension divides into sequences: where each starts, and how long it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

_CPU = torch.device("cpu")


def _int32(numbers, device):
    return torch.tensor(numbers, dtype=torch.int32, device=device or _CPU)


@dataclass
class _SeqLenInfo:
    """Sequences one after another. seqstart: int32, their cumulative lengths with a leading 0."""

    seqstart: torch.Tensor
    max_seqlen: int
    min_seqlen: int
    seqstart_py: list[int]

    @classmethod
    def from_seqlens(cls, seqlens: Iterable[int], *, device=None):
        lengths, starts = list(seqlens), [0]
        for length in lengths:
            starts.append(starts[-1] + length)
        return cls(_int32(starts, device), max(lengths, default=-1), min(lengths, default=-1), starts)

    def to(self, device):
        """The same on another device."""
        moved = {name: t.to(device) for name, t in vars(self).items() if isinstance(t, torch.Tensor)}
        return replace(self, **moved)

    def intervals(self) -> Iterable[tuple[int, int]]:
        """Of each sequence its first row and the one after its last."""
        yield from zip(self.seqstart_py, self.seqstart_py[1:])

    def from_seqlens_inplace(self, seqlens: Iterable[int]) -> None:
        """Other lengths for as many sequences, none longer than the longest was."""
        new = _SeqLenInfo.from_seqlens(seqlens)
        _check_update(len(self.seqstart_py), len(new.seqstart_py), self.max_seqlen, new.max_seqlen)
        self.seqstart_py[:] = new.seqstart_py
        self.seqstart.copy_(new.seqstart)

    def split(self, x: torch.Tensor, batch_sizes: Sequence[int] | None = None) -> list[torch.Tensor]:
        """x [1, total, ...] as one tensor for each sequence, or for each batch of sequences of one length."""
        if x.shape[0] != 1 or x.shape[1] != self.seqstart_py[-1]:
            raise ValueError(f"x has shape {tuple(x.shape)}; accepted is [1, {self.seqstart_py[-1]}, ...]")
        sizes = [1] * (len(self.seqstart_py) - 1) if batch_sizes is None else batch_sizes
        ends = [self.seqstart_py[sum(sizes[:i])] for i in range(len(sizes) + 1)]
        parts = x.split([end - begin for begin, end in zip(ends, ends[1:])], dim=1)
        return [part.reshape(size, -1, *part.shape[2:]) for part, size in zip(parts, sizes)]


@dataclass
class _PaddedSeqLenInfo(_SeqLenInfo):
    """Sequences of lengths `seqlen`, each with room for `padding` rows."""

    seqlen: torch.Tensor
    seqlen_py: Sequence[int]
    padding: int

    @classmethod
    def from_seqlens(cls, seqlens, *, device=None):
        raise RuntimeError("_PaddedSeqLenInfo.from_seqlens; accepted is from_seqlens_padded")

    @classmethod
    def from_seqlens_padded(cls, seqlens: Sequence[int], padding: int, *, device=None):
        lengths = list(seqlens)
        if any(length > padding for length in lengths):
            raise ValueError(f"seqlens are {lengths}; accepted are at most padding, {padding}")
        starts = [b * padding for b in range(len(lengths) + 1)]
        return cls(
            _int32(starts, device), max(lengths), min(lengths), starts, _int32(lengths, device), lengths, padding
        )

    def intervals(self) -> Iterable[tuple[int, int]]:
        yield from ((start, start + length) for start, length in zip(self.seqstart_py, self.seqlen_py))

    def from_seqlens_padded_inplace(self, seqlens: Sequence[int]) -> None:
        """Other lengths for as many sequences, none longer than the longest was."""
        _check_update(len(self.seqlen_py), len(seqlens), self.max_seqlen, max(seqlens))
        self.seqlen_py[:] = list(seqlens)
        self.seqlen.copy_(_int32(list(seqlens), None))

    def split(self, x, batch_sizes=None):
        raise NotImplementedError("split of padded sequences; accepted are sequences one after another")


@dataclass
class _GappySeqInfo(_SeqLenInfo):
    """Sequences anywhere: seqstart says where each starts, seqlen how long it is.

    In pages both count within the sequence's own pages, and seqlen is where it ends.
    """

    seqlen: torch.Tensor
    seqlen_py: Sequence[int]

    @classmethod
    def from_seqlens(cls, seqlens, *, device=None):
        raise NotImplementedError("_GappySeqInfo.from_seqlens; accepted is from_seqlens_gappy")

    @classmethod
    def from_seqlens_gappy(cls, seqstarts: Sequence[int], seqlens: Sequence[int], paged: bool, *, device=None):
        """seqstarts: one more than seqlens, the last one is the length of the dimension; in pages as many."""
        starts, lengths = list(seqstarts), list(seqlens)
        if not lengths:
            raise ValueError("seqlens is empty; accepted is at least one length")
        if paged and len(starts) == len(lengths):
            starts.append(-1)
        if len(starts) != len(lengths) + 1:
            raise ValueError(f"seqstarts has {len(starts)} entries; accepted are {len(lengths) + 1}, one more than seqlens")
        kept = [start + length for start, length in zip(starts, lengths)] if paged else lengths
        return cls(
            _int32(starts, device), max(lengths), min(lengths), starts, _int32(kept, device), kept
        )

    def intervals(self) -> Iterable[tuple[int, int]]:
        yield from ((start, start + length) for start, length in zip(self.seqstart_py, self.seqlen_py))

    def split(self, x, batch_sizes=None):
        raise NotImplementedError("split of sequences with gaps; accepted are sequences one after another")


def _check_update(had: int, given: int, longest: int, new: int) -> None:
    if had != given:
        raise ValueError(f"seqlens has {given} entries; accepted are {had}, as before")
    if new > longest:
        raise ValueError(f"seqlens has a length of {new}; accepted are at most {longest}, the longest before")
