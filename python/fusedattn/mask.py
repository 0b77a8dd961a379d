"""Masks as values: bands around a diagonal, joined by &, and a prefix that all rows see, joined by |."""

from dataclasses import dataclass
from typing import NamedTuple

from ._native import UNBOUNDED
from .numerals import integer, integers, listed

ALIGNMENTS = ("bottom-right", "top-left")


class Band(NamedTuple):
    """Row i sees the columns j with i + shift - left <= j <= i + shift + right. UNBOUNDED hides nothing."""

    left: int = UNBOUNDED
    right: int = UNBOUNDED

    def meet(self, other: "Band") -> "Band":
        return Band(min(self.left, other.left), min(self.right, other.right))

    def covers(self, other: "Band") -> bool:
        """Whether it shows all that the other shows, by their edges alone."""
        return self.left >= other.left and self.right >= other.right


_OPEN = Band()
_NOWHERE = Band(UNBOUNDED, -UNBOUNDED)


@dataclass(frozen=True)
class Mask:
    """Which columns (keys) a row (query) sees: those inside both bands, or before the prefix.

    top_left: its diagonal starts at row 0, column 0 (shift 0).
    bottom_right: its diagonal ends at the last row and column (shift kv_len - q_len).
    prefix: None, or how many columns every row sees from column 0 on: an int, or a tuple, one per sequence.
        Beside it both bands must be unbounded to the left, else ValueError.

    Immutable and hashable. Masks that show the same by the same parts are equal.
    """

    top_left: Band = _OPEN
    bottom_right: Band = _OPEN
    prefix: int | tuple[int, ...] | None = None

    def __post_init__(self):
        if self.top_left is not _OPEN:
            object.__setattr__(self, "top_left", _read_band("top_left", self.top_left))
        if self.bottom_right is not _OPEN:
            object.__setattr__(self, "bottom_right", _read_band("bottom_right", self.bottom_right))
        if self.prefix is not None:
            self._join_prefix()

    def _join_prefix(self) -> None:
        """Reads the prefix; one beside open bands shows nothing new, and bands that show nothing are one."""
        prefix, bands = _read_prefix(self.prefix), (self.top_left, self.bottom_right)
        for band in bands:
            if band.left != UNBOUNDED:
                raise ValueError(
                    f"prefix is {_listed(prefix)} beside a band whose left edge is {band.left}; accepted are"
                    " bands unbounded to the left, as causal() is, or a bool mask"
                )
        if bands == (_OPEN, _OPEN):
            prefix = None
        elif any(band.right <= -UNBOUNDED for band in bands):
            object.__setattr__(self, "top_left", _OPEN)
            object.__setattr__(self, "bottom_right", _NOWHERE)
        object.__setattr__(self, "prefix", prefix)

    def _is_prefix(self) -> bool:
        return self.prefix is not None and self.bottom_right == _NOWHERE

    def _covers(self, other: "Mask") -> bool:
        """Whether its bands show all that the other's do."""
        if other._is_prefix():
            return True
        return self.top_left.covers(other.top_left) and self.bottom_right.covers(other.bottom_right)

    def __and__(self, other: "Mask") -> "Mask":
        """The columns that both masks show. ValueError where no bands and prefix say so."""
        if not isinstance(other, Mask):
            return NotImplemented
        if self.prefix == other.prefix:
            bands = self.top_left.meet(other.top_left), self.bottom_right.meet(other.bottom_right)
            return Mask(*bands, self.prefix)
        for one, wide in ((self, other), (other, self)):
            if wide == Mask():
                return one
            if one._is_prefix() and wide.prefix is not None:
                if wide._is_prefix() or _each(max, one.prefix, wide.prefix) == wide.prefix:
                    return Mask(_OPEN, _NOWHERE, _each(min, one.prefix, wide.prefix))
        raise ValueError(
            f"({self}) & ({other}): no bands and prefix show what both show; accepted are masks of one prefix"
            " or a bool mask"
        )

    def __or__(self, other: "Mask") -> "Mask":
        """The columns that one of the masks shows. ValueError where no bands and prefix say so."""
        if not isinstance(other, Mask):
            return NotImplemented
        prefix = _each(max, self.prefix, other.prefix)
        for wide, narrow in ((self, other), (other, self)):
            if wide._covers(narrow):
                return Mask(wide.top_left, wide.bottom_right, prefix)
        raise ValueError(
            f"({self}) | ({other}): neither's bands show all that the other's show; accepted are such masks,"
            " prefix(), or a bool mask"
        )

    def materialize(self, q_len: int, kv_len: int):
        """A NumPy bool array [q_len, kv_len], True where the row sees the column; with a prefix for each
        sequence [sequences, q_len, kv_len]. Slow; made for tests."""
        import numpy

        _check_lengths(q_len, kv_len)
        prefixes = self.prefix if isinstance(self.prefix, tuple) else [self.prefix]
        seen = [
            [[self._sees(i, j, kv_len - q_len, before) for j in range(kv_len)] for i in range(q_len)]
            for before in prefixes
        ]
        shape = (len(prefixes), q_len, kv_len) if isinstance(self.prefix, tuple) else (q_len, kv_len)
        return numpy.array(seen, dtype=bool).reshape(shape)

    def _sees(self, i: int, j: int, shift: int, before: int | None) -> bool:
        top, bottom = self.top_left, self.bottom_right
        inside = -top.left <= j - i <= top.right and -bottom.left <= j - i - shift <= bottom.right
        return inside or (before is not None and j < before)

    def draw(self, q_len: int = 6, kv_len: int = 10, sequence: int = 0) -> str:
        """The mask as text, one line per row: █ seen, ░ hidden. sequence: whose prefix, if each has one."""
        _check_lengths(q_len, kv_len)
        before = self.prefix[sequence : sequence + 1] if isinstance(self.prefix, tuple) else [self.prefix]
        if not before:
            raise ValueError(f"sequence is {sequence}; accepted are 0 to {len(self.prefix) - 1}")
        shift, before = kv_len - q_len, before[0]
        rows = (
            "".join("█" if self._sees(i, j, shift, before) else "░" for j in range(kv_len))
            for i in range(q_len)
        )
        return "\n".join(rows)

    def __str__(self) -> str:
        parts = [_named(self.bottom_right, ""), _named(self.top_left, "align='top-left'")]
        bands = " & ".join(part for part in parts if part) or "window(None, None)"
        if self.prefix is None:
            return bands
        named = f"prefix({_listed(self.prefix)})"
        return named if self._is_prefix() else f"{bands} | {named}"

    def __repr__(self) -> str:
        if self.prefix == ():
            return str(self)
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
    check_alignment(align)
    band = Band(left, right)
    return Mask(bottom_right=band) if align == "bottom-right" else Mask(top_left=band)


def check_alignment(align) -> None:
    """Refuses what is none of ALIGNMENTS."""
    if not isinstance(align, str) or align not in ALIGNMENTS:
        raise ValueError(f"align is {align!r}; accepted are {', '.join(map(repr, ALIGNMENTS))}")


def prefix(lengths) -> Mask:
    """Every row sees the first `lengths` columns and no others; `causal() | prefix(n)` is a prefix and more.

    lengths: an integer, or a list, array or tensor of integers, one per sequence; 0 or more. One longer
    than the sequence shows all of it. TypeError or ValueError for anything else.
    """
    return Mask(bottom_right=_NOWHERE, prefix=lengths)


def _check_lengths(q_len, kv_len) -> None:
    for name, value in (("q_len", q_len), ("kv_len", kv_len)):
        if integer(name, value) < 0:
            raise ValueError(f"{name} is {value}; accepted are 0 and positive integers")


def _read_band(name: str, band) -> Band:
    if not isinstance(band, tuple) or len(band) != 2:
        raise TypeError(f"{name} is {band!r}; accepted is a pair (left, right)")
    return Band(_edge("left", band[0]), _edge("right", band[1]))


def _edge(name: str, value: int | None) -> int:
    if value is None:
        return UNBOUNDED
    edge = integer(name, value, "None (unbounded) or an integer")
    if edge < -UNBOUNDED:
        raise ValueError(f"{name} is {edge}; accepted is None (unbounded) or an integer within 64 bits")
    return edge


def _read_prefix(lengths) -> int | tuple[int, ...]:
    given = lengths if isinstance(lengths, int) else listed("prefix", lengths)
    if isinstance(given, (list, tuple)):
        return tuple(integers("prefix", given))
    number = integer("prefix", given, "an integer, or one for each sequence")
    if number < 0:
        raise ValueError(f"prefix is {number}; accepted are integers from 0 on")
    return number


def _each(choose, one, other):
    """max or min of two prefixes, sequence by sequence; where one is None, the other."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, int) and isinstance(other, int):
        return choose(one, other)
    count = len(one if isinstance(one, tuple) else other)
    one, other = (value if isinstance(value, tuple) else (value,) * count for value in (one, other))
    if len(one) != len(other):
        raise ValueError(f"prefix has {len(one)} and {len(other)} lengths; accepted are equal numbers")
    return tuple(map(choose, one, other))


def _listed(prefix) -> str:
    return str(list(prefix)) if isinstance(prefix, tuple) else str(prefix)
