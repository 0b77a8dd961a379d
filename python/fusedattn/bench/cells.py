"""cells.py: what is measured: a shape, a mask, a dtype, a number of threads; and the useful work in it."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from fusedattn.layout import MOST_FEATURES

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
MASKS = ("none", "causal", "band", "padding")
BAND = 512  # columns a row sees in a banded cell: itself and the 511 before it
DROPOUT = 0.1  # what a cell with dropout drops
MOST_DIM = MOST_FEATURES["value"]  # queries and keys have as many features here
_SHAPE = re.compile(
    r"(?P<batch>\d+),(?P<heads>\d+)(:(?P<kv_heads>\d+))?,((?P<rows>\d+)x)?(?P<length>\d+),(?P<dim>\d+)"
    r"(:(?P<mask>causal|band|padding))?(?P<dropout>:dropout)?"
)


@dataclass(frozen=True)
class Cell:
    """Attention over `batch` x `heads` heads of `length` columns and `dim` features, on `threads` threads.

    `kv_heads` of 0 means as many as `heads`, `rows` of 0 as many as `length`. Causal and banded rows end at the last
    column; a padded batch sees the first half to all of the columns, evenly over its entries. `dropout` is the
    probability. `whole` is the shape that this cell stands for where batch and heads were cut to save time: heads are
    independent, so the work per head is the same.
    """

    batch: int
    heads: int
    length: int
    dim: int
    mask: str = "none"  # one of MASKS
    dtype: str = "fp32"
    threads: int = 1
    whole: tuple[int, int, int, int] | None = None
    kv_heads: int = 0
    rows: int = 0
    dropout: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.heads, self.length, self.dim)

    @property
    def q_len(self) -> int:
        return self.rows or self.length

    @property
    def group(self) -> int:
        """Query heads that share a key head."""
        return self.heads // (self.kv_heads or self.heads)

    @property
    def q_shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.heads, self.q_len, self.dim)

    @property
    def kv_shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.heads // self.group, self.length, self.dim)

    def columns(self, b: int) -> int:
        """How many columns the rows of batch entry `b` may see at most."""
        return self.length * (self.batch + b) // (2 * self.batch) if self.mask == "padding" else self.length

    def visible(self, b: int = 0) -> int:
        """Pairs of row and column that see each other, in one head of batch entry `b`."""
        if self.mask in ("none", "padding"):
            return self.q_len * self.columns(b)
        most = self.length if self.mask == "causal" else BAND
        return sum(min(most, max(0, row + 1 + self.length - self.q_len)) for row in range(self.q_len))

    def bytes(self, direction: str) -> int:
        """Bytes that must be moved at least: every tensor once."""
        q, kv = math.prod(self.q_shape), math.prod(self.kv_shape)
        size = 4 if self.dtype == "fp32" else 2
        return size * (2 * q + 2 * kv if direction == "forward" else 4 * q + 4 * kv)

    def flops(self, direction: str) -> float:
        """Useful operations: two products of 2 D in the forward, five in the backward, per visible pair."""
        per_pair = {"forward": 4, "backward": 10}[direction] * self.dim
        pairs = sum(map(self.visible, range(self.batch))) if self.mask == "padding" else self.batch * self.visible()
        return float(self.heads * pairs * per_pair)

    def cut(self, most_flops: float) -> Cell:
        """The same cell with the batch, then the key heads, halved until a forward has at most `most_flops`."""
        batch, heads = self.batch, self.heads
        while self._with(batch, heads).flops("forward") > most_flops and batch * heads // self.group > self.threads:
            batch, heads = (batch // 2, heads) if batch > 1 else (1, heads // self.group // 2 * self.group)
        return self._with(batch, heads)

    def _with(self, batch: int, heads: int) -> Cell:
        if (batch, heads) == (self.batch, self.heads):
            return self
        kv_heads = heads // self.group if self.group > 1 else 0
        return dataclasses.replace(self, batch=batch, heads=heads, kv_heads=kv_heads, whole=self.whole or self.shape)

    def sample(self) -> Cell:
        """As many key heads as there are threads, with their query heads: what a very slow peer is timed on."""
        return self._with(1, min(self.threads * self.group, self.batch * self.heads))

    def shortened(self, most: int) -> Cell:
        """The same cell with at most `most` rows and columns."""
        rows, length = min(self.rows, most), min(self.length, most)
        return dataclasses.replace(self, rows=0 if rows == length else rows, length=length, whole=self.whole or self.shape)

    def label(self) -> str:
        return f"[{self.text()}]"

    def text(self) -> str:
        """As parse() reads it, without the mask."""
        heads = f"{self.heads}:{self.heads // self.group}" if self.group > 1 else f"{self.heads}"
        lengths = f"{self.rows}x{self.length}" if self.rows else f"{self.length}"
        return f"{self.batch},{heads},{lengths},{self.dim}"

    def name(self) -> str:
        """As parse() reads it, in full."""
        return self.text() + (f":{self.mask}" if self.mask != "none" else "") + (":dropout" if self.dropout else "")


def parse(text: str, dtypes: Iterable[str], threads: int) -> list[Cell]:
    """A cell for each dtype, of "1,8,4096,128", "1,32:8,4096,128" or "1,32:8,1x4096,128".

    A mask (":causal", ":band", ":padding") and ":dropout" may follow. Raises ValueError in a sentence.
    """
    found = _SHAPE.fullmatch(text)
    sizes = ("batch", "heads", "kv_heads", "rows", "length", "dim")
    numbers = {name: int(found[name]) for name in sizes if found[name]} if found else {}
    if not found or min(numbers.values()) < 1 or numbers["heads"] % numbers.get("kv_heads", 1):
        raise ValueError(
            f"shape is {text!r}; accepted are batch,heads,length,dim of positive integers, where heads may be heads:key_heads "
            "(the first a multiple of the second) and length rowsxcolumns, optionally followed by :causal, :band or :padding, and by "
            ":dropout; --cells takes goals and full, too"
        )
    if numbers["dim"] > MOST_DIM:
        raise ValueError(f"shape is {text!r}, whose dim is {numbers['dim']}; accepted are 1 to {MOST_DIM}")
    if numbers.get("rows") == numbers["length"]:
        del numbers["rows"]
    if numbers.get("kv_heads") == numbers["heads"]:
        del numbers["kv_heads"]
    dropout = DROPOUT if found["dropout"] else 0.0
    mask = found["mask"] or "none"
    return [Cell(**numbers, mask=mask, dtype=dtype, threads=threads, dropout=dropout) for dtype in dtypes]
