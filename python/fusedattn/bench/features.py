"""features.py: what may be asked for besides plain attention, each with the pairs that are visible under it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch

import fusedattn
from fusedattn.bench.cells import BAND, DROPOUT, Cell


@dataclass(frozen=True)
class Feature:
    """A call of attention() on a cell's tensors.

    arguments: the keyword arguments, made once for a cell. visible: pairs of row and column that see each other, in
    one head. packed: q, k, v are given as sequences one after another. apart: as many calls as there are sequences.
    """

    name: str
    arguments: Callable[[Cell], dict]
    visible: Callable[[Cell], int] = lambda cell: cell.length**2
    packed: bool = False
    apart: bool = False

    def attend(self, q, k, v, cell: Cell, arguments: dict):
        if self.packed:
            q, k, v = (t[0].transpose(0, 1) for t in (q, k, v))
        if self.apart:
            parts = zip(*(t.split(arguments["lengths"], dim=2) for t in (q, k, v)))
            return torch.cat([fusedattn.attention(*part) for part in parts], dim=2)
        return fusedattn.attention(q, k, v, **arguments)


def _triangle(cell: Cell) -> int:
    return cell.length * (cell.length + 1) // 2


def _band(cell: Cell) -> int:
    hidden = max(0, cell.length - BAND)
    return _triangle(cell) - hidden * (hidden + 1) // 2


def _prefixed(cell: Cell) -> int:
    columns = cell.length // 4
    return _triangle(cell) + columns * (columns - 1) // 2


def _ends(cell: Cell) -> list[int]:
    """Cumulative lengths: sequences of a half, a quarter, an eighth, ... of the rows, the last two alike."""
    ends, step = [0], cell.length // 2
    while step >= 128:
        ends.append(ends[-1] + step)
        step //= 2
    return ends if ends[-1] == cell.length else [*ends, cell.length]


def _lengths(cell: Cell) -> list[int]:
    ends = _ends(cell)
    return [end - start for start, end in zip(ends, ends[1:])]


def _zipf_lengths(cell: Cell) -> list[int]:
    """Lengths in proportion to 1, 1/2, 1/3, ... that fill the cell."""
    count = 64
    parts = [cell.length / (n * sum(1 / m for m in range(1, count + 1))) for n in range(1, count + 1)]
    lengths = [max(1, int(part)) for part in parts]
    return [lengths[0] + cell.length - sum(lengths), *lengths[1:]]


def _packed(ends: list[int]) -> dict:
    return {"layout": "TND", "cu_seqlens_q": ends, "cu_seqlens_k": ends}


def _squares(lengths: list[int]) -> int:
    return sum(n * n for n in lengths)


def _slopes(cell: Cell) -> torch.Tensor:
    return 2.0 ** -torch.arange(1, cell.heads + 1, dtype=torch.float32)


def _visible_bytes(cell: Cell) -> torch.Tensor:
    return torch.ones(cell.length, cell.length, dtype=torch.bool)


def _random_bytes(cell: Cell) -> torch.Tensor:
    return torch.rand(cell.length, cell.length, generator=torch.Generator().manual_seed(3)) < 0.9


PLAIN = Feature("plain", lambda cell: {})
FEATURES = (
    PLAIN,
    Feature("ALiBi", lambda cell: {"alibi": _slopes(cell)}),
    Feature("ALiBi, square root", lambda cell: {"alibi": fusedattn.Alibi(_slopes(cell), square_root=True)}),
    Feature("sink", lambda cell: {"sink": torch.zeros(cell.heads)}),
    Feature("bias of q's type, [S,S]", lambda cell: {"bias": _bias(cell)}),
    Feature("dropout 0.1", lambda cell: {"dropout_p": DROPOUT, "dropout_seed": 7}),
    Feature("mask bytes that hide nothing", lambda cell: {"mask": _visible_bytes(cell)}),
    Feature("mask bytes that hide 10 % here and there", lambda cell: {"mask": _random_bytes(cell)}),
    Feature("causal", lambda cell: {"mask": fusedattn.causal()}, _triangle),
    Feature("causal, as mask bytes", lambda cell: {"mask": _visible_bytes(cell).tril()}, _triangle),
    Feature("window of 512", lambda cell: {"mask": fusedattn.window(BAND - 1, 0)}, _band),
    Feature("causal with a prefix of S/4", lambda cell: {"mask": fusedattn.causal() | fusedattn.prefix(cell.length // 4)}, _prefixed),
    Feature("packed, lengths S/2, S/4, ...", lambda cell: _packed(_ends(cell)), lambda cell: _squares(_lengths(cell)), packed=True),
)  # fmt: skip
# Many short sequences, and the same in a call for each.
SEQUENCES = (
    Feature("a call each", lambda cell: {"lengths": _zipf_lengths(cell)}, lambda cell: _squares(_zipf_lengths(cell)), apart=True),
    Feature("packed, 16k by Zipf", lambda cell: _packed([0, *itertools.accumulate(_zipf_lengths(cell))]),
            lambda cell: _squares(_zipf_lengths(cell)), packed=True),
)  # fmt: skip


def _bias(cell: Cell) -> torch.Tensor:
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.randn(cell.length, cell.length, generator=torch.Generator().manual_seed(4)).to(dtypes[cell.dtype])
