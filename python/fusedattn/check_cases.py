"""check_cases.py: the problems that `fusedattn check` computes, and their inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusedattn import _native
from fusedattn.dropout import dropout_mask
from fusedattn.mask import Mask, causal, prefix, window

DTYPES = {"fp32": _native.FLOAT32, "bf16": _native.BFLOAT16, "fp16": _native.FLOAT16}


@dataclass(frozen=True)
class Alibi:
    """Slopes for every sequence and head; where the distance is 0, and which power of it counts."""

    top_left: bool = False
    square_root: bool = False


@dataclass(frozen=True)
class Case:
    """One problem. `ends` (of queries, of keys) makes it packed; `bytes` adds a random mask of bytes.

    bias: which of sequence, head and row it has in full, as letters of "bnr"; bias_dtype: "fp32", or
    None for that of q.
    dropout: the probability to drop, 0 for none; softcap: as in attention().
    """

    name: str
    heads: tuple[int, int]  # query heads, key heads
    lengths: tuple[int, int]  # rows, columns (packed: of all sequences)
    dims: tuple[int, int] = (64, 64)
    batch: int = 1
    mask: Mask = Mask()
    bytes: bool = False
    ends: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    bias: str | None = None
    bias_dtype: str | None = None
    alibi: Alibi | None = None
    sink: bool = False
    dropout: float = 0.0
    softcap: float = 0.0


CASES = [
    Case("plain", (2, 2), (64, 64)),
    Case("long", (1, 1), (520, 700), (128, 128)),
    Case("one row", (2, 1), (1, 300)),
    Case("one column", (2, 2), (65, 1)),
    Case("one feature", (2, 2), (37, 41), (1, 1)),
    Case("grouped heads, odd sizes", (6, 2), (77, 133), (40, 72), batch=2),
    Case("768 features", (1, 1), (50, 97), (768, 768)),
    Case("192 and 128 features", (2, 1), (70, 90), (192, 128), mask=causal()),
    Case("causal", (2, 2), (257, 257), (128, 128), mask=causal()),
    Case("causal, rows that see nothing", (2, 2), (150, 70), mask=causal()),
    Case("causal from the top left", (2, 1), (90, 200), mask=causal("top-left")),
    Case("window", (2, 2), (300, 300), (96, 96), mask=window(17, 9)),
    Case("two windows", (1, 1), (200, 240), mask=window(60, 60) & window(150, 10, "top-left")),
    Case("window before the diagonal", (1, 1), (150, 150), (32, 32), mask=window(100, -40)),
    Case("window that no row satisfies", (1, 1), (33, 33), mask=window(-3, 1)),
    Case("mask of bytes", (2, 1), (70, 91), (80, 80), batch=2, bytes=True),
    Case("mask of bytes, causal", (2, 2), (130, 130), (48, 48), mask=causal(), bytes=True),
    Case("packed sequences", (4, 2), (150, 181), ends=((1, 1, 66, 150), (30, 31, 120, 181))),
    Case(
        "packed sequences, causal", (2, 2), (140, 130), (72, 72), mask=causal(), ends=((75, 130), (60, 130))
    ),
    Case("a sequence without columns", (2, 1), (60, 40), (24, 24), ends=((20, 60), (0, 40))),
    Case("prefix and causal", (2, 2), (150, 170), mask=causal() | prefix(50)),
    Case("prefix for each sequence", (2, 1), (90, 130), batch=2, mask=prefix((7, 400))),
    Case("bias", (4, 2), (77, 133), (40, 72), batch=2, bias="bnr"),
    Case("bias of a head, causal", (4, 2), (130, 130), batch=2, mask=causal(), bias="nr"),
    Case("bias of a sequence, one row", (2, 1), (70, 91), batch=2, bias="b", bias_dtype="fp32"),
    Case("bias for all", (2, 2), (60, 200), batch=2, bias="r", bytes=True),
    Case("alibi", (4, 2), (129, 200), mask=causal(), alibi=Alibi()),
    Case("alibi, square root, top left", (2, 2), (90, 60), batch=2, alibi=Alibi(True, True)),
    Case("soft cap", (4, 2), (129, 200), mask=causal(), softcap=1.5),
    Case("sink", (4, 2), (90, 70), batch=2, mask=causal(), sink=True),
    Case("dropout", (4, 2), (77, 133), (40, 72), batch=2, dropout=0.2),
    Case(
        "everything, packed",
        (4, 2),
        (150, 181),
        mask=causal() | prefix((3, 0, 20, 9)),
        ends=((1, 1, 66, 150), (30, 31, 120, 181)),
        bias="nr",
        bias_dtype="fp32",
        alibi=Alibi(),
        softcap=2.0,
        sink=True,
        dropout=0.1,
    ),
]
SEED, OFFSET = 2**40 + 7, 3  # of the dropout


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """values rounded to the storage type; bf16 as its 16 bits in uint16, which NumPy has no type for."""
    if dtype != "bf16":
        return values.astype(np.float32 if dtype == "fp32" else np.float16)
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def decode(stored: np.ndarray) -> np.ndarray:
    """float64 of what encode() made."""
    if stored.dtype != np.uint16:
        return stored.astype(np.float64)
    return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


@dataclass(frozen=True)
class Sequence:
    """The index of a sequence, its batch index in the tensors (packed: 0), its rows and its columns."""

    index: int
    at: int
    rows: slice
    columns: slice

    @property
    def lengths(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def sequences(case: Case) -> list[Sequence]:
    if case.ends is None:
        return [
            Sequence(b, b, slice(0, case.lengths[0]), slice(0, case.lengths[1])) for b in range(case.batch)
        ]
    q_ends, kv_ends = ((0, *ends) for ends in case.ends)
    return [
        Sequence(i, 0, slice(*q_ends[i : i + 2]), slice(*kv_ends[i : i + 2]))
        for i in range(len(case.ends[0]))
    ]


def inputs(case: Case, dtype: str) -> dict[str, np.ndarray]:
    """q, k, v, d_out as [batch, head, row, feature] in the storage type, and what else the case asks for.

    shown: mask bytes (nonzero shows); bias [batch or 1, heads or 1, rows or 1, columns]; slopes [sequences,
    heads]; sink [heads]; prefix [sequences].
    """
    generator = np.random.default_rng(7)
    (q_heads, kv_heads), (rows, columns), (dim, dim_v) = case.heads, case.lengths, case.dims
    shapes = {
        "q": (case.batch, q_heads, rows, dim),
        "k": (case.batch, kv_heads, columns, dim),
        "v": (case.batch, kv_heads, columns, dim_v),
        "d_out": (case.batch, q_heads, rows, dim_v),
    }
    tensors = {name: encode(generator.standard_normal(shape), dtype) for name, shape in shapes.items()}
    if case.bytes:
        shown = generator.random((case.batch, 1, rows, columns)) < 0.6
        shown[..., rows // 2, :] = False
        tensors["shown"] = shown.astype(np.uint8)
    return tensors | _terms(case, dtype, generator)


def _terms(case: Case, dtype: str, generator) -> dict[str, np.ndarray]:
    every, tensors = sequences(case), {}
    if case.bias is not None:
        longest = (max(seq.lengths[side] for seq in every) for side in (0, 1))
        sizes = dict(zip("bnr", (case.batch, case.heads[0], next(longest))))
        shape = (*(size if name in case.bias else 1 for name, size in sizes.items()), next(longest))
        tensors["bias"] = encode(generator.standard_normal(shape), case.bias_dtype or dtype)
    if case.alibi is not None:
        tensors["slopes"] = generator.uniform(0.01, 0.2, (len(every), case.heads[0])).astype(np.float32)
    if case.sink:
        tensors["sink"] = generator.standard_normal(case.heads[0]).astype(np.float32)
    if case.mask.prefix is not None:
        tensors["prefix"] = np.array(np.broadcast_to(case.mask.prefix, len(every)), np.int64)
    return tensors


def visible(case: Case, tensors: dict, sequence: Sequence) -> np.ndarray:
    """bool [rows, columns] of one sequence, by the definition of bands, prefix and bytes."""
    q_len, kv_len = sequence.lengths
    offset = np.arange(kv_len)[None, :] - np.arange(q_len)[:, None]  # column minus row
    seen = np.ones((q_len, kv_len), bool)
    for band, shift in ((case.mask.top_left, 0), (case.mask.bottom_right, kv_len - q_len)):
        seen &= (offset - shift >= -band.left) & (offset - shift <= band.right)
    if "prefix" in tensors:
        seen |= np.arange(kv_len)[None, :] < tensors["prefix"][sequence.index]
    if "shown" in tensors:
        seen &= tensors["shown"][sequence.at, 0, sequence.rows, sequence.columns] != 0
    return seen


def kept(case: Case) -> list:
    """For each sequence, what dropout multiplies with: [heads, rows, columns], or 1.0 throughout."""
    every = sequences(case)
    if not case.dropout:
        return [np.ones(case.heads[0])] * len(every)
    counts = [case.heads[0] * seq.lengths[0] * seq.lengths[1] for seq in every]
    keep = dropout_mask((sum(counts),), case.dropout, SEED, OFFSET) / float(np.float32(1 - case.dropout))
    parts = np.split(keep, np.cumsum(counts)[:-1])
    return [part.reshape(case.heads[0], *seq.lengths) for part, seq in zip(parts, every)]
