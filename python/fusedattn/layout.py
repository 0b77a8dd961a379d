"""Tensor layouts by letters: which axis is sequence, head, row. The only file that knows the letters.

B sequences, N heads, S rows (positions), D features, H = N * D, T rows of all sequences packed one after
another.
"""

from typing import NamedTuple


class Axes(NamedTuple):
    batch: int | None
    head: int
    row: int


AXES = {"BNSD": Axes(0, 1, 2), "BSND": Axes(0, 2, 1), "SBND": Axes(1, 2, 0), "TND": Axes(None, 1, 0)}
FOLDED = {"BSH": "BSND", "SBH": "SBND"}  # heads and features folded into one axis; unfolding is a view
NAMES = (*AXES, *FOLDED)
MOST_FEATURES = {"query": 1536, "value": 768}  # D; key has query's number


class Sizes(NamedTuple):
    batch: int
    heads: int
    rows: int
    dim: int


def unknown(layout) -> str:
    return f"layout is {layout!r}; accepted are {', '.join(NAMES)}"


def sizes(layout: str, shape) -> Sizes:
    """Sizes of a tensor in an unfolded layout; a packed one counts as batch 1."""
    batch, head, row = AXES[layout]
    return Sizes(1 if batch is None else shape[batch], shape[head], shape[row], shape[-1])


def strides(layout: str, stride) -> tuple[int, int, int]:
    """(batch, head, row) strides of a tensor in an unfolded layout."""
    batch, head, row = AXES[layout]
    return (0 if batch is None else stride[batch], stride[head], stride[row])


def rank(layout: str) -> int:
    return 3 if layout == "TND" else 4


def stats_shape(layout: str, q_shape) -> tuple[int, ...]:
    """[B, N, S], whatever the order of q; [N, T] when packed."""
    batch, heads, rows, _ = sizes(layout, q_shape)
    return (heads, rows) if AXES[layout].batch is None else (batch, heads, rows)


def contiguous(shape) -> tuple[int, ...]:
    """Strides, in elements, of a fresh tensor of this shape."""
    stride, step = [0] * len(shape), 1
    for axis in range(len(shape) - 1, -1, -1):
        stride[axis] = step
        step *= max(shape[axis], 1)
    return tuple(stride)


def unfolded(layout: str, heads: int | None, shapes) -> list[tuple[int, ...]]:
    """The 4-D shapes of q, k, v given in BSH or SBH with this many query heads."""
    if heads is None or heads <= 0:
        raise ValueError(f"heads is {heads}; layout {layout!r} needs the number of query heads")
    for name, shape in zip("qkv", shapes):
        if len(shape) != 3:
            raise ValueError(f"{name} has shape {tuple(shape)}; layout {layout!r} needs 3 dimensions")
    q, k, v = shapes
    if q[-1] % heads:
        raise ValueError(f"q has last dimension {q[-1]}; accepted is a multiple of heads = {heads}")
    dim = q[-1] // heads
    if dim == 0:
        raise ValueError(f"q has last dimension 0; accepted is heads = {heads} times at least 1 feature")
    if k[-1] % dim or k[-1] == 0:
        raise ValueError(
            f"k has last dimension {k[-1]}; accepted is a multiple of q's features per head, {dim}"
        )
    kv_heads = k[-1] // dim
    if v[-1] % kv_heads:
        raise ValueError(f"v has last dimension {v[-1]}; accepted is a multiple of k's {kv_heads} heads")
    return [(*q[:2], heads, dim), (*k[:2], kv_heads, dim), (*v[:2], kv_heads, v[-1] // kv_heads)]
