"""What follows from a request: sizes, lengths of the sequences, the mode in force. For checks and plans."""

import ctypes
from functools import cached_property

from ... import layout as layouts
from .operand import Operand
from .registry import INT_MAX, spelled
from .request import Request

LAYOUTS = ("BSH", "SBH", "BSND", "BNSD", "TND")
LANES = 8  # each statistic is written eight times, side by side
INT_MIN = -INT_MAX - 1


class Facts:
    """The sizes of one call under the names of the contract. Each is known once earlier checks passed."""

    def __init__(self, request: Request, backward: bool):
        self.request, self.backward = request, backward
        self.packed = request.input_layout == "TND"
        self.masked = request.atten_mask is not None
        self.inner_pse = request.pse_type in (2, 3)

    def spelled(self, name: str) -> str:
        """What the caller calls this argument."""
        return spelled(self.request.door, name)

    def shape(self, name: str) -> str:
        """'query has shape [1, 2, 3]', to begin a sentence with."""
        return f"{self.spelled(name)} has shape {list(getattr(self.request, name).shape)}"

    @cached_property
    def unfolded(self) -> str:
        """The layout with heads as an axis of their own."""
        return layouts.FOLDED.get(self.request.input_layout, self.request.input_layout)

    @property
    def folded(self) -> bool:
        return self.request.input_layout in layouts.FOLDED

    @cached_property
    def _queries(self) -> layouts.Sizes:
        return layouts.sizes(self.unfolded, self._split(self.request.query, self.request.head_num))

    @cached_property
    def _keys(self) -> layouts.Sizes:
        return layouts.sizes(self.unfolded, self._split(self.request.key, self._folded_kv_heads))

    @cached_property
    def _values(self) -> layouts.Sizes:
        return layouts.sizes(self.unfolded, self._split(self.request.value, self._folded_kv_heads))

    @cached_property
    def _folded_kv_heads(self) -> int:
        return self.request.key.shape[-1] // self.D if self.folded and self.D else 0

    def _split(self, operand: Operand, heads: int) -> tuple[int, ...]:
        if not self.folded:
            return operand.shape
        return (*operand.shape[:2], heads, operand.shape[-1] // heads if heads else 0)

    def laid(self, operand: Operand, heads: int) -> tuple[int, int, int]:
        """(batch, head, row) strides of a tensor with this many heads."""
        strides = operand.strides
        if self.folded:
            width = operand.shape[-1] // heads if heads else 0
            strides = (*strides[:2], width, 1)
        return layouts.strides(self.unfolded, strides)

    @cached_property
    def B(self) -> int:
        """Sequences."""
        return len(self.request.actual_seq_qlen) if self.packed else self._queries.batch

    @cached_property
    def N1(self) -> int:
        return self._queries.heads

    @cached_property
    def N2(self) -> int:
        return self._keys.heads

    @cached_property
    def Sq(self) -> int:
        """Rows of a sequence; of the tensor, with TND."""
        return self._queries.rows

    @cached_property
    def Skv(self) -> int:
        return self._keys.rows

    @cached_property
    def D(self) -> int:
        return self._queries.dim

    @cached_property
    def key_D(self) -> int:
        return self._keys.dim if not self.folded else self.D

    @cached_property
    def Dv(self) -> int:
        return self._values.dim

    @cached_property
    def Dr(self) -> int:
        return self.request.query_rope.shape[-1] if self.request.query_rope else 0

    @property
    def agreement(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """(sequences, heads, rows) of key and of value."""
        return self._keys[:3], self._values[:3]

    @cached_property
    def out_shape(self) -> tuple[int, ...]:
        """Of attention_out, dy and attention_in."""
        last = self.N1 * self.Dv if self.folded else self.Dv
        return (*self.request.query.shape[:-1], last)

    @cached_property
    def stats_shape(self) -> tuple[int, ...]:
        return (self.Sq, self.N1, LANES) if self.packed else (self.B, self.N1, self.Sq, LANES)

    @cached_property
    def writes_nothing(self) -> bool:
        """Whether the outputs of the forward are empty."""
        return 0 in self.stats_shape

    @cached_property
    def sees_nothing(self) -> bool:
        """Whether there is no score at all, so that all outputs are zeros."""
        return self.writes_nothing or 0 in (self.Skv, self.N2, self.D, self.Dv)

    @cached_property
    def q_ends(self) -> tuple[int, ...]:
        return rising(self.request.actual_seq_qlen)

    @cached_property
    def kv_ends(self) -> tuple[int, ...]:
        return rising(self.request.actual_seq_kvlen)

    @cached_property
    def lengths(self) -> list[tuple[int, int]]:
        """(rows, columns) of every sequence; one entry for all where they are equal."""
        if not self.packed:
            return [(self.Sq, self.Skv)]
        return list(zip(_differences(self.q_ends), _differences(self.kv_ends)))

    @cached_property
    def longest(self) -> tuple[int, int]:
        """The longest rows and the longest columns of a sequence."""
        return tuple(max(column) for column in zip(*self.lengths))

    @cached_property
    def totals(self) -> tuple[int, int]:
        """Rows and columns of all sequences together (TND)."""
        return self.q_ends[-1], self.kv_ends[-1]

    @cached_property
    def numels(self) -> int:
        """The number of scores."""
        batch = 1 if self.packed else self.B
        return batch * self.N1 * sum(rows * columns for rows, columns in self.lengths)

    @cached_property
    def mode(self) -> int:
        """The sparse mode; 1 without a mask, when nothing is masked whatever the request says."""
        return self.request.sparse_mode if self.masked else 1

    @cached_property
    def pre(self) -> int:
        return max(INT_MIN, min(self.request.pre_tockens, INT_MAX))

    @cached_property
    def next(self) -> int:
        return max(INT_MIN, min(self.request.next_tockens, INT_MAX))

    @cached_property
    def band_sequence(self) -> int:
        """The sequence with a band of its own: the last with rows in mode 7, the first in mode 8; -1: none."""
        with_rows = [b for b, (rows, _) in enumerate(self.lengths) if rows]
        if not with_rows:
            return -1
        return with_rows[-1] if self.mode == 7 else with_rows[0]

    @cached_property
    def causal(self) -> bool:
        """Whether a row sees no column after its own, as a compressed ALiBi needs it: for equal lengths."""
        if self.mode == 0:
            return self.masked and self.pre >= self.longest[0] and self.next == 0
        return self.mode in (2, 3)

    @cached_property
    def keep_prob(self) -> float:
        """As the operators narrow it."""
        return ctypes.c_float(self.request.keep_prob).value


def rising(ends) -> tuple[int, ...]:
    """Cumulative lengths whose decreases count as sequences without rows."""
    clamped, last = [], 0
    for end in ends:
        last = max(end, last)
        clamped.append(last)
    return tuple(clamped)


def _differences(ends: tuple[int, ...]) -> list[int]:
    return [later - earlier for earlier, later in zip((0, *ends), ends)]
