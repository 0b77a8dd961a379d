"""Masks as values: bands around a diagonal, joined by &."""

from dataclasses import dataclass
from typing import NamedTuple

from ._native import UNBOUNDED
from .numerals import integer

ALIGNMENTS = ("bottom-right", "top-left")


class Band(NamedTuple):
    """Row i sees the columns j with i + shift - left <= j <= i + shift + right. UNBOUNDED hides nothing."""

    left: int = UNBOUNDED
    right: int = UNBOUNDED

    def meet(self, other: "Band") -> "Band":
        return Band(min(self.left, other.left), min(self.right, other.right))


_OPEN = Band()


@dataclass(frozen=True)
class Mask:
    """Which columns (keys) a row (query) sees: those inside both bands. Immutable and hashable.

    top_left: its diagonal starts at row 0, column 0 (shift 0).
    bottom_right: its diagonal ends at the last row and column (shift kv_len - q_len).
    """

    top_left: Band = _OPEN
    bottom_right: Band = _OPEN

    def __post_init__(self):
        if self.top_left is not _OPEN:
            object.__setattr__(self, "top_left", _read_band("top_left", self.top_left))
        if self.bottom_right is not _OPEN:
            object.__setattr__(self, "bottom_right", _read_band("bottom_right", self.bottom_right))

    def __and__(self, other: "Mask") -> "Mask":
        """The columns that both masks show."""
        if not isinstance(other, Mask):
            return NotImplemented
        return Mask(self.top_left.meet(other.top_left), self.bottom_right.meet(other.bottom_right))

    def materialize(self, q_len: int, kv_len: int):
        """A NumPy bool array [q_len, kv_len], True where the row sees the column. Slow; made for tests."""
        import numpy

        seen = [[self._sees(i, j, kv_len - q_len) for j in range(kv_len)] for i in range(q_len)]
        return numpy.array(seen, dtype=bool).reshape(q_len, kv_len)

    def _sees(self, i: int, j: int, shift: int) -> bool:
        top, bottom = self.top_left, self.bottom_right
        return -top.left <= j - i <= top.right and -bottom.left <= j - i - shift <= bottom.right

    def draw(self, q_len: int = 6, kv_len: int = 10) -> str:
        """The mask as text, one line per row: █ seen, ░ hidden."""
        shift = kv_len - q_len
        rows = ("".join("█" if self._sees(i, j, shift) else "░" for j in range(kv_len)) for i in range(q_len))
        return "\n".join(rows)

    def __str__(self) -> str:
        parts = [_named(self.bottom_right, ""), _named(self.top_left, "align='top-left'")]
        return " & ".join(part for part in parts if part) or "window(None, None)"

    def __repr__(self) -> str:
        return f"{self}\n{self.draw()}"


def _named(band: Band, align: str) -> str:
    if band == Band():
        return ""
    if band == Band(right=0):
        return f"causal({align})"
    left, right = (None if edge == UNBOUNDED else edge for edge in band)
    return f"window({left}, {right}{', ' + align if align else ''})"


def causal(align: str = "bottom-right") -> Mask:
    """Row i sees its diagonal column and those before it.

    align: "bottom-right" (the last row sees every column) or "top-left" (row 0 sees column 0 alone).
    """
    return window(None, 0, align)


def window(left: int | None, right: int | None, align: str = "bottom-right") -> Mask:
    """Row i sees from `left` columns before its diagonal column to `right` after it; None is unbounded.

    Edges may be negative: window(-2, 5) starts two columns after the diagonal. A band that a row cannot
    satisfy hides the whole row: its output is 0. align as for causal().
    """
    band = Band(left, right)
    if align == "bottom-right":
        return Mask(bottom_right=band)
    if align == "top-left":
        return Mask(top_left=band)
    raise ValueError(f"align is {align!r}; accepted are {', '.join(map(repr, ALIGNMENTS))}")


def _read_band(name: str, band) -> Band:
    if not isinstance(band, tuple) or len(band) != 2:
        raise TypeError(f"{name} is {band!r}; accepted is a pair (left, right)")
    return Band(_edge("left", band[0]), _edge("right", band[1]))


def _edge(name: str, value: int | None) -> int:
    if value is None:
        return UNBOUNDED
    edge = integer(name, value, "None (unbounded) or an integer")
    if edge < -UNBOUNDED:
        raise ValueError(f"{name} is {edge}; accepted are integers of 64 bits or None (unbounded)")
    return edge
