"""features.py: what may be asked for besides plain attention, each with the pairs that are visible under it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

import fusedattn
from fusedattn.bench.cells import Cell

WINDOW = 512  # columns that a row of the banded features sees
DROPPED = 0.1


@dataclass(frozen=True)
class Feature:
    """A call of attention() on a cell's tensors.

    arguments: the keyword arguments, made once for a cell. visible: pairs of row and column that see each other, in
    one head. packed: q, k, v are given as sequences one after another.
    """

    name: str
    arguments: Callable[[Cell], dict]
    visible: Callable[[Cell], int] = lambda cell: cell.length**2
    packed: bool = False

    def attend(self, q, k, v, cell: Cell, arguments: dict):
        if self.packed:
            q, k, v = (t[0].transpose(0, 1) for t in (q, k, v))
        return fusedattn.attention(q, k, v, **arguments)


def _triangle(cell: Cell) -> int:
    return cell.length * (cell.length + 1) // 2


def _band(cell: Cell) -> int:
    hidden = max(0, cell.length - WINDOW)
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


def _packed(cell: Cell) -> dict:
    return {"layout": "TND", "cu_seqlens_q": _ends(cell), "cu_seqlens_k": _ends(cell)}


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
    Feature("dropout 0.1", lambda cell: {"dropout_p": DROPPED, "dropout_seed": 7}),
    Feature("mask bytes that hide nothing", lambda cell: {"mask": _visible_bytes(cell)}),
    Feature("mask bytes that hide 10 % here and there", lambda cell: {"mask": _random_bytes(cell)}),
    Feature("causal", lambda cell: {"mask": fusedattn.causal()}, _triangle),
    Feature("causal, as mask bytes", lambda cell: {"mask": _visible_bytes(cell).tril()}, _triangle),
    Feature("window of 512", lambda cell: {"mask": fusedattn.window(WINDOW - 1, 0)}, _band),
    Feature("causal with a prefix of S/4", lambda cell: {"mask": fusedattn.causal() | fusedattn.prefix(cell.length // 4)}, _prefixed),
    Feature("packed, lengths S/2, S/4, ...", _packed, lambda cell: sum(n * n for n in _lengths(cell)), True),
)  # fmt: skip


def _bias(cell: Cell) -> torch.Tensor:
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.randn(cell.length, cell.length, generator=torch.Generator().manual_seed(4)).to(dtypes[cell.dtype])
