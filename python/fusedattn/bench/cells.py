"""cells.py: what is measured: shapes, masks and dtypes, and the useful work in each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
BAND = 512  # columns a row sees in a banded cell: itself and the 511 before it


@dataclass(frozen=True)
class Cell:
    """Self-attention over `batch` x `heads` heads of `length` rows and `dim` features, on `threads` threads.

    `whole` is the shape that this cell stands for where batch and heads were cut to save time: heads are
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

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.heads, self.length, self.dim)

    @property
    def visible(self) -> int:
        """Pairs of row and column that see each other, in one head."""
        full, triangle = self.length**2, self.length * (self.length + 1) // 2
        if self.mask == "none":
            return full
        hidden_tail = max(0, self.length - BAND) if self.mask == "band" else 0
        return triangle - hidden_tail * (hidden_tail + 1) // 2

    def flops(self, direction: str) -> float:
        """Useful operations: two products of 2 D in the forward, five in the backward, per visible pair."""
        per_pair = {"forward": 4, "backward": 10}[direction] * self.dim
        return float(self.batch * self.heads * self.visible * per_pair)

    def cut(self, most_flops: float) -> Cell:
        """The same cell with the batch, then the heads, halved until a forward has at most `most_flops`."""
        batch, heads = self.batch, self.heads
        while self._with(batch, heads).flops("forward") > most_flops and batch * heads > self.threads:
            batch, heads = (batch // 2, heads) if batch > 1 else (1, heads // 2)
        return self._with(batch, heads)

    def _with(self, batch: int, heads: int) -> Cell:
        if (batch, heads) == (self.batch, self.heads):
            return self
        return dataclasses.replace(self, batch=batch, heads=heads, whole=self.whole or self.shape)

    def sample(self) -> Cell:
        """As many heads as there are threads: what a very slow peer is timed on."""
        heads = min(self.threads, self.batch * self.heads)
        return dataclasses.replace(self, batch=1, heads=heads, whole=self.whole or self.shape)

    def label(self) -> str:
        return "[" + ",".join(map(str, self.shape)) + "]"


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
    return any((cell.length, cell.dim) == (base.length, base.dim) for base in (LARGE, MIDDLE))


def smoke(dtypes: list[str], threads: int) -> list[Cell]:
    """The small grid: every shape with no mask and causal, and a banded one, cut to take little time."""
    cells = []
    for shape in SMOKE_SHAPES:
        for mask in ("none", "causal"):
            cells += [Cell(*shape, mask=mask, dtype=dtype, threads=threads) for dtype in dtypes]
    cells += [Cell(1, 4, 4096, 64, mask="band", dtype=dtype, threads=threads) for dtype in dtypes]
    return [cell.cut(SMOKE_FLOPS) for cell in cells]


def parse(text: str, dtypes: list[str], threads: int) -> list[Cell]:
    """Cells of "1,8,4096,128", optionally with ":causal" or ":band". Raises ValueError in a sentence."""
    shape_text, _, mask = text.partition(":")
    mask = mask or "none"
    try:
        shape = tuple(int(part) for part in shape_text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 4 or min(shape, default=0) < 1 or mask not in ("none", "causal", "band"):
        raise ValueError(
            f"cell is {text!r}; accepted are headline, smoke, all, or batch,heads,length,dim of positive "
            "integers, optionally followed by :causal or :band"
        )
    return [Cell(*shape, mask=mask, dtype=dtype, threads=threads) for dtype in dtypes]


def same_work(a: Cell, b: Cell) -> bool:
    """Whether two cells measure the same shape, whatever was cut."""
    return (a.whole or a.shape, a.mask, a.dtype, a.threads) == (
        b.whole or b.shape,
        b.mask,
        b.dtype,
        b.threads,
    )


def _as(cell: Cell, **changes) -> Cell:
    return dataclasses.replace(cell, **changes)
