"""From shapes and strides to a filled fusedattn_merge_problem that waits only for addresses."""

import ctypes

from . import _native
from . import layout as layouts
from .problem import Operand

ROWS, LANES, BLOCKS = "rows", "lanes", "blocks"  # how statistics lie
ORDERS = (ROWS, LANES, BLOCKS)


class Joint:
    """One merge, filled but for addresses: point() every part and the result, then run().

    layout: of the outputs, a key of layout.AXES. order: ROWS, statistics [B,N,S] (packed: [N,T]); LANES, [B,N,S,lanes]
    (packed: [T,N,lanes]); BLOCKS, packed alone, the same shape, in memory one block [N,length,lanes] per sequence.
    lse: the first statistic of a part is its log-sum-exp, and there is no second.
    """

    def __init__(self, dtype: int, layout: str, order: str, count: int, formula: bool, lse: bool):
        self._problem, self._parts = _native.new_merge_problem(count)
        self._problem.dtype = dtype
        self._problem.special = _native.MERGE_FORMULA if formula else _native.MERGE_SAFE
        self._problem.log_sum_exp = lse
        self._layout, self._order, self._ends = layout, order, None

    def size(self, out: Operand, ends: list[int] | None) -> None:
        """Takes the sizes of an output, and with a packed layout where each sequence ends (leading 0 included)."""
        sizes = layouts.sizes(self._layout, out.shape)
        problem = self._problem
        problem.batch, problem.heads, problem.rows, problem.dim_v = sizes
        if ends is not None:
            self._ends = (ctypes.c_int64 * max(len(ends) - 1, 1))(*ends[1:])
            problem.batch, problem.q_ends = len(ends) - 1, ctypes.addressof(self._ends)

    def point(self, index: int | None, out: Operand, stats: Operand, addresses) -> None:
        """Part `index`, or with None the result: strides, and the addresses of its output, max and sum (or None)."""
        part = self._problem.result if index is None else self._parts[index]
        view, where = part.out, part.stats
        view.data, where.max, where.sum = addresses
        view.batch_stride, view.head_stride, view.row_stride = layouts.strides(self._layout, out.stride)
        packed = layouts.AXES[self._layout].batch is None
        steps = stats.stride if self._order == ROWS else stats.stride[:-1]
        if packed:
            steps = (0, *steps) if self._order == ROWS else (0, steps[1], steps[0])
        where.batch_stride, where.head_stride, where.row_stride = steps
        where.lanes = 1 if self._order == ROWS else stats.shape[-1]
        where.blocks = self._order == BLOCKS

    def run(self) -> None:
        """Joins; raises as _native.refuse() does."""
        _native.merge(self._problem)


def stats_shape(layout: str, order: str, out_shape, lanes: int) -> tuple[int, ...]:
    """The shape of statistics beside an output."""
    shape = layouts.stats_shape(layout, out_shape)
    if order == ROWS:
        return shape
    return (*(reversed(shape) if layouts.AXES[layout].batch is None else shape), lanes)
