"""cells.py: what is measured: shapes, masks and dtypes, and the useful work in each."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_SHAPE = re.compile(
    r"(?P<batch>\d+),(?P<heads>\d+)(:(?P<kv_heads>\d+))?,((?P<rows>\d+)x)?(?P<length>\d+),(?P<dim>\d+)(:(?P<mask>causal|band))?"
)
BAND = 512  # columns a row sees in a banded cell: itself and the 511 before it


@dataclass(frozen=True)
class Cell:
    """Attention over `batch` x `heads` heads of `length` columns and `dim` features, on `threads` threads.

    `kv_heads` of 0 means as many as `heads`, `rows` of 0 as many as `length`. Causal and banded rows end at the last
    column. `whole` is the shape that this cell stands for where batch and heads were cut to save time: heads are
    independent, so the work per head is the same.
    """

    batch: int
    heads: int
    length: int
    dim: int
    mask: str = "none"  # or "causal", "band"
    dtype: str = "fp32"
    threads: int = 1
    whole: tuple[int, int, int, int] | None = None
    kv_heads: int = 0
    rows: int = 0

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

    @property
    def visible(self) -> int:
        """Pairs of row and column that see each other, in one head."""
        if self.mask == "none":
            return self.q_len * self.length
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
        return float(self.batch * self.heads * self.visible * per_pair)

    def cut(self, most_flops: float) -> Cell:
        """The same cell with the batch, then the heads, halved until a forward has at most `most_flops`."""
        batch, heads = self.batch, self.heads
        while self.group == 1 and self._with(batch, heads).flops("forward") > most_flops and batch * heads > self.threads:
            batch, heads = (batch // 2, heads) if batch > 1 else (1, heads // 2)
        return self._with(batch, heads)

    def _with(self, batch: int, heads: int) -> Cell:
        if (batch, heads) == (self.batch, self.heads):
            return self
        kv_heads = heads // self.group if self.group > 1 else 0
        return dataclasses.replace(self, batch=batch, heads=heads, kv_heads=kv_heads, whole=self.whole or self.shape)

    def sample(self) -> Cell:
        """As many key heads as there are threads, with their query heads: what a very slow peer is timed on."""
        return self._with(1, min(self.threads * self.group, self.batch * self.heads))

    def label(self) -> str:
        return f"[{self.text()}]"

    def text(self) -> str:
        """As parse() reads it, without the mask."""
        heads = f"{self.heads}:{self.heads // self.group}" if self.group > 1 else f"{self.heads}"
        lengths = f"{self.rows}x{self.length}" if self.rows else f"{self.length}"
        return f"{self.batch},{heads},{lengths},{self.dim}"


# Heads are independent: a few of them keep a backward under a quarter of a second on a core of 100 GFLOP/s.
LARGE = Cell(1, 1, 4096, 128, whole=(1, 8, 4096, 128))
MIDDLE = Cell(1, 4, 2048, 64, whole=(2, 8, 2048, 64))

SMOKE_SHAPES = [
    (1, 8, 4096, 128),
    (2, 8, 2048, 64),
    (8, 16, 512, 64),
    (8, 16, 512, 128),
    (64, 4, 49, 32),
    (4, 16, 197, 64),
    (1, 8, 64, 64),
]
SMOKE_FLOPS = 5e8  # of a forward: about 5 ms on a core of 100 GFLOP/s


def headline(dtypes: list[str], threads: int, two_threads: bool) -> list[Cell]:
    """The cells with floors: with no mask, causal, and with no mask on two threads."""
    bases = [_as(base, threads=threads, heads=max(base.heads, threads)) for base in (LARGE, MIDDLE)]
    cells = [_as(base, dtype=dtype) for base in bases for dtype in dtypes]
    cells += [_as(bases[0], dtype=dtype, mask="causal") for dtype in dtypes]
    if two_threads and threads == 1:
        pairs = [_as(base, threads=2, heads=max(base.heads, 2)) for base in (LARGE, MIDDLE)]
        cells += [_as(pair, dtype=dtype) for pair in pairs for dtype in dtypes if dtype != "fp16"]
    return cells


def is_headline(cell: Cell) -> bool:
    """Whether the cell has the size of one with a floor."""
    return cell.group == 1 and not cell.rows and any((cell.length, cell.dim) == (base.length, base.dim) for base in (LARGE, MIDDLE))


def smoke(dtypes: list[str], threads: int) -> list[Cell]:
    """The small grid: every shape with no mask and causal, and a banded one, cut to take little time."""
    cells = []
    for shape in SMOKE_SHAPES:
        for mask in ("none", "causal"):
            cells += [Cell(*shape, mask=mask, dtype=dtype, threads=threads) for dtype in dtypes]
    cells += [Cell(1, 4, 4096, 64, mask="band", dtype=dtype, threads=threads) for dtype in dtypes]
    return [cell.cut(SMOKE_FLOPS) for cell in cells]


def parse(text: str, dtypes: list[str], threads: int) -> list[Cell]:
    """Cells of "1,8,4096,128", "1,32:8,4096,128" or "1,32:8,1x4096,128", optionally with ":causal" or ":band".

    Raises ValueError in a sentence.
    """
    found = _SHAPE.fullmatch(text)
    numbers = {name: int(n) for name, n in found.groupdict().items() if n and name != "mask"} if found else {}
    if not found or min(numbers.values()) < 1 or numbers["heads"] % numbers.get("kv_heads", 1):
        raise ValueError(
            f"cell is {text!r}; accepted are headline, smoke, all, or batch,heads,length,dim of positive integers, where "
            "heads may be heads:key_heads (the first a multiple of the second) and length rowsxcolumns, optionally followed "
            "by :causal or :band"
        )
    if numbers.get("rows") == numbers["length"]:
        del numbers["rows"]
    if numbers.get("kv_heads") == numbers["heads"]:
        del numbers["kv_heads"]
    return [Cell(**numbers, mask=found["mask"] or "none", dtype=dtype, threads=threads) for dtype in dtypes]


def same_work(a: Cell, b: Cell) -> bool:
    """Whether two cells measure the same shape, whatever was cut."""
    key = lambda c: (c.whole or c.shape, c.mask, c.dtype, c.threads, c.group, c.q_len)  # noqa: E731
    return key(a) == key(b)


def _as(cell: Cell, **changes) -> Cell:
    return dataclasses.replace(cell, **changes)
