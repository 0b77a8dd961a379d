"""inputs.py: the tensors of a cell, the same in every process whatever framework it has."""

from __future__ import annotations

import functools

import numpy as np

from fusedattn.bench.cells import BAND, Cell


def arrays(cell: Cell) -> dict[str, np.ndarray]:
    """float32 q, k, v and d_out of a cell, not to be written to. A cell with fewer heads has the first heads of one with more."""
    shapes = {"q": cell.q_shape, "k": cell.kv_shape, "v": cell.kv_shape, "d_out": cell.q_shape}
    return {name: _normal(20 + number, shape) for number, (name, shape) in enumerate(shapes.items())}


@functools.lru_cache(maxsize=8)  # those of a cell, and of what of it is checked
def _normal(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def visible_rows(cell: Cell, first: int, last: int, b: int = 0) -> np.ndarray | None:
    """Which columns rows first..last of batch entry `b` see: bool [rows, columns], or None for all."""
    if cell.mask == "none":
        return None
    rows = np.arange(first, last)[:, None] + cell.length - cell.q_len
    columns = np.arange(cell.length)[None, :]
    if cell.mask == "padding":
        return np.broadcast_to(columns < cell.columns(b), (last - first, cell.length))
    shown = columns <= rows
    return shown & (columns > rows - BAND) if cell.mask == "band" else shown


def mask_matrix(cell: Cell) -> np.ndarray | None:
    """What must be given where a mask is a matrix: bool [rows, columns], padded [batch, 1, 1, columns], or None."""
    if cell.mask == "padding":
        return np.stack([visible_rows(cell, 0, 1, b) for b in range(cell.batch)])[:, None]
    return visible_rows(cell, 0, cell.q_len)


def is_plain_triangle(cell: Cell) -> bool:
    """Whether a causal flag says it all, wherever an implementation aligns its triangle."""
    return cell.mask == "causal" and not cell.rows
