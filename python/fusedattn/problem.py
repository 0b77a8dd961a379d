"""From shapes and strides to a filled fusedattn_problem that waits only for addresses."""

import ctypes
import functools
import os
import sys
import threading
from typing import NamedTuple

from . import _native
from . import layout as layouts
from .mask import Mask


class Terms(NamedTuple):
    """What is asked besides tensors; the trailing arguments of the torch operators, in their order."""

    layout: str  # unfolded: a key of layout.AXES
    scale: float
    top_left_left: int
    top_left_right: int
    bottom_right_left: int
    bottom_right_right: int
    nonzero_hides: bool  # the meaning of mask bytes

    @staticmethod
    def of(layout: str, scale: float, mask: Mask = Mask(), nonzero_hides: bool = False) -> "Terms":
        return Terms(layout, scale, *mask.top_left, *mask.bottom_right, nonzero_hides)


class Operand(NamedTuple):
    """A tensor without its data: shape and strides, in elements."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def has_rows(self) -> bool:
        """Whether the last dimension is contiguous, as the library needs it."""
        return self.stride[-1] == 1 or self.shape[-1] <= 1

    def repeating(self) -> tuple[int, int, int]:
        """(batch, head, row) strides of what broadcasts to scores [B,N,Sq,Skv]: 0 where it repeats."""
        missing = 4 - len(self.shape)
        shape, stride = (1,) * missing + self.shape, (0,) * missing + self.stride
        return tuple(0 if size == 1 else step for size, step in zip(shape[:3], stride[:3]))


class Call:
    """One problem, filled but for addresses: set .q.data and its like, then give .address to the library.

    A call belongs to the thread that made it: its addresses change while the library may still read them.
    """

    def __init__(self, terms: Terms, dtype: int, q: Operand, k: Operand, v: Operand, sequences: int | None):
        self.problem = problem = _native.new_problem()
        self.address = ctypes.addressof(problem)
        self.q, self.k, self.v, self.out = problem.q, problem.k, problem.v, problem.out
        self.d_out, self.dq, self.dk, self.dv = problem.d_out, problem.dq, problem.dk, problem.dv
        self.stats, self.mask = problem.stats, problem.mask
        queries, keys, dim_v = check_shapes(terms.layout, q, k, v, sequences is not None)
        problem.dtype = dtype
        problem.batch = queries.batch if sequences is None else sequences
        problem.q_heads, problem.kv_heads = queries.heads, keys.heads
        problem.q_len, problem.kv_len = queries.rows, keys.rows
        problem.dim, problem.dim_v = queries.dim, dim_v
        problem.scale = terms.scale
        problem.mask.top_left = _native.Band(terms.top_left_left, terms.top_left_right)
        problem.mask.bottom_right = _native.Band(terms.bottom_right_left, terms.bottom_right_right)
        self._layout = terms.layout
        self.out_shape = (*q.shape[:-1], dim_v)
        self.stats_shape = layouts.stats_shape(terms.layout, q.shape)
        self.scores = (problem.batch, queries.heads, queries.rows, keys.rows)
        for name, operand in (("q", q), ("k", k), ("v", v)):
            self.lay(name, operand)
        self._lay_stats()

    def lay(self, name: str, operand: Operand) -> None:
        """Gives the view of this name its strides."""
        view = getattr(self.problem, name)
        view.batch_stride, view.head_stride, view.row_stride = layouts.strides(self._layout, operand.stride)

    def lay_fresh(self, name: str, shape) -> None:
        """Gives the view of this name the strides of a new tensor."""
        self.lay(name, Operand(shape, layouts.contiguous(shape)))

    def _lay_stats(self) -> None:
        *batch, heads, rows = layouts.contiguous(self.stats_shape)
        self.stats.batch_stride = batch[0] if batch else 0
        self.stats.head_stride, self.stats.row_stride = heads, rows

    def lay_mask(self, mask: Operand, nonzero_hides: bool) -> None:
        """Takes mask bytes that broadcast to [B, N, Sq, Skv], or to [N, rows, columns] when packed."""
        check_broadcast("mask", self._layout, mask.shape, self.scores)
        self.mask.batch_stride, self.mask.head_stride, self.mask.row_stride = mask.repeating()
        self.mask.meaning = _native.NONZERO_HIDES if nonzero_hides else _native.NONZERO_SHOWS


def check_shapes(layout: str, q: Operand, k: Operand, v: Operand, packed: bool):
    """Sizes of q and of k, and the features of v, once the three agree. The library checks the rest.

    packed: whether cumulative lengths are given, as layout TND needs and no other takes.
    """
    check_ranks(layout, packed, q=q.shape, k=k.shape, v=v.shape)
    queries, keys, values = (layouts.sizes(layout, operand.shape) for operand in (q, k, v))
    for name, sizes in (("q", queries), ("k", keys), ("v", values)):
        if sizes.heads < 1 or sizes.dim < 1:
            raise ValueError(
                f"{name} has {sizes.heads} heads of {sizes.dim} features; accepted is at least 1 of both"
            )
    if queries.heads % keys.heads:
        raise ValueError(f"q has {queries.heads} heads; accepted is a multiple of k's number, {keys.heads}")
    for name, sizes in (("k", keys), ("v", values)):
        if sizes.batch != queries.batch:
            raise ValueError(f"{name} has {sizes.batch} sequences; accepted is q's number, {queries.batch}")
    if keys.dim != queries.dim:
        raise ValueError(f"k has {keys.dim} features per head; accepted is q's number, {queries.dim}")
    if values[1:3] != keys[1:3]:
        raise ValueError(
            f"v has {values.heads} heads and {values.rows} rows; accepted are k's, {keys.heads} heads and"
            f" {keys.rows} rows"
        )
    return queries, keys, values.dim


def check_ranks(layout: str, packed: bool, **shapes) -> None:
    """Refuses unknown layouts, cumulative lengths that do not belong to one, and tensors of another rank."""
    if layout not in layouts.AXES:
        raise ValueError(f"layout is {layout!r}; accepted are {', '.join(layouts.AXES)}")
    if packed != (layouts.AXES[layout].batch is None):
        raise ValueError(
            f"cu_seqlens_q is {'given' if packed else 'None'} with layout {layout!r}; accepted are cumulative"
            " lengths with 'TND', and with 'TND' alone"
        )
    for name, shape in shapes.items():
        if len(shape) != layouts.rank(layout):
            raise ValueError(
                f"{name} has shape {tuple(shape)}; layout {layout!r} needs {layouts.rank(layout)} dimensions"
            )


def check_dense(**tensors) -> None:
    """Refuses torch tensors without shape and strides of their own: sparse, nested, in a foreign layout."""
    for name, tensor in tensors.items():
        if getattr(tensor, "is_nested", False):
            raise ValueError(f"{name} is a nested tensor; accepted is torch.strided, a dense tensor")
        layout = str(getattr(tensor, "layout", "torch.strided"))
        if layout != "torch.strided":
            raise ValueError(f"{name} has layout {layout}; accepted is torch.strided, a dense tensor")


def check_broadcast(name: str, layout: str, shape, scores) -> None:
    """Refuses what does not broadcast to the scores, [B,N,Sq,Skv]; packed, to [N,rows,columns]."""
    packed = layouts.AXES[layout].batch is None
    wanted = scores[-3 if packed else -4 :]
    if 2 <= len(shape) <= len(wanted):
        if packed:  # rows and columns are checked with the lengths
            wanted = (*wanted[:1], *shape[-2:])
        pairs = list(zip(wanted[-len(shape) :], shape))
        if pairs[-1][0] == pairs[-1][1] and all(want == have or have == 1 for want, have in pairs[:-1]):
            return
    where = "[N, longest q, longest k]" if packed else f"{list(scores)}"
    raise ValueError(
        f"{name} has shape {tuple(shape)}; accepted are at least 2 dimensions that broadcast to {where}, the"
        f" last one in full (one row of columns per sequence, [B,Skv]: {name}[:, None, None, :])"
    )


def check_both_ends(cu_seqlens_q, cu_seqlens_k) -> None:
    """Refuses cumulative lengths for one of q and k alone."""
    if (cu_seqlens_q is None) != (cu_seqlens_k is None):
        absent, present = ("q", "k") if cu_seqlens_q is None else ("k", "q")
        raise ValueError(f"cu_seqlens_{absent} is None and cu_seqlens_{present} is given; accepted are both")


def check_ends(name: str, ends: list[int], rows: int) -> None:
    """Refuses cumulative lengths (leading 0 included) that are not 0, ..., at most rows, never decreasing."""
    if not ends or ends[0] != 0:
        raise ValueError(f"{name} begins with {ends[0] if ends else 'nothing'}; accepted is a leading 0")
    if any(later < earlier for earlier, later in zip(ends, ends[1:])):
        raise ValueError(f"{name} is {ends}; accepted are cumulative lengths, which never decrease")
    if ends[-1] > rows:
        raise ValueError(
            f"{name} ends with {ends[-1]}; accepted is at most the number of packed rows, {rows}"
        )


def check_longest(name: str, shape, q_ends: list[int], kv_ends: list[int]) -> None:
    """Refuses mask bytes, or a bias, that a packed sequence would reach beyond."""
    if len(shape) < 2:
        return  # check_broadcast refuses it
    for axis, ends in ((-2, q_ends), (-1, kv_ends)):
        longest = max((later - earlier for earlier, later in zip(ends, ends[1:])), default=0)
        if shape[axis] < longest and not (axis == -2 and shape[axis] == 1):
            raise ValueError(
                f"{name} has shape {tuple(shape)}; accepted is {longest} or more in dimension {axis}, the"
                " longest sequence"
            )


@functools.cache
def verbose() -> bool:
    """Whether FUSEDATTN_VERBOSE is "1" or "2"; read once, as the library does."""
    return os.environ.get("FUSEDATTN_VERBOSE") in ("1", "2")


def announce_copy(name: str, shape, stride: int, itemsize: int) -> None:
    """With FUSEDATTN_VERBOSE=1, says on stderr that the front copied a tensor for its last dimension."""
    if verbose():
        count = itemsize
        for size in shape:
            count *= size
        sizes = "x".join(map(str, shape))
        print(
            f"fusedattn,copy,{name},{sizes},last dimension has stride {stride},{count} bytes", file=sys.stderr
        )


class Calls(threading.local):
    """The calls this thread has prepared, by everything that shapes them."""

    LIMIT = 256  # distinct problems kept; a call takes 3 KiB, and making one some 12 µs

    def __init__(self):
        self._calls = {}
        self.get = self._calls.get

    def keep(self, key, call: Call) -> Call:
        if len(self._calls) >= self.LIMIT:
            self._calls.clear()
        self._calls[key] = call
        return call
