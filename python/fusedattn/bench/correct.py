"""correct.py: before anything is timed, one head of the result is compared with the float64 formula."""

from __future__ import annotations

import numpy as np

from fusedattn import formula
from fusedattn.bench.cells import BAND, Cell

ROWS = 512  # rows of the formula at a time: 4096 columns of float64 scores are 16 MiB
# Largest error allowed, relative to the largest value of the tensor: a few roundings of the storage type.
TOLERANCE = {"fp32": 2e-5, "bf16": 2e-2, "fp16": 2.5e-3}


class WrongResult(RuntimeError):
    """A measured implementation does not compute attention."""


def visible_rows(cell: Cell, first: int, last: int):
    """Which columns rows first..last of the cell see: bool [rows, columns], or None for all."""
    if cell.mask == "none":
        return None
    rows, columns = np.arange(first, last)[:, None], np.arange(cell.length)[None, :]
    shown = columns <= rows
    return shown & (columns > rows - BAND) if cell.mask == "band" else shown


def expected(cell: Cell, q, k, v, d_out, directions) -> dict[str, np.ndarray]:
    """out and, for a backward, dq, dk, dv of one head in float64, a block of rows at a time."""
    scale = cell.dim**-0.5
    zeros = np.zeros((cell.length, cell.dim))
    result = {"out": zeros.copy()}
    if "backward" in directions:
        result |= {"dq": zeros.copy(), "dk": zeros.copy(), "dv": zeros.copy()}
    for first in range(0, cell.length, ROWS):
        rows = slice(first, min(first + ROWS, cell.length))
        visible = visible_rows(cell, rows.start, rows.stop)
        result["out"][rows] = formula.forward(q[rows], k, v, scale, visible)[0]
        if "backward" in directions:
            dq, dk, dv = formula.backward(q[rows], k, v, d_out[rows], scale, visible)
            result["dq"][rows] = dq
            result["dk"] += dk
            result["dv"] += dv
    return result


def check(name: str, cell: Cell, inputs: dict, outputs: dict, directions) -> dict[str, float]:
    """Errors of one head by output, relative to its largest value. Raises WrongResult beyond tolerance."""
    wanted = expected(cell, *(inputs[key] for key in ("q", "k", "v", "d_out")), directions)
    errors = {}
    for key, want in wanted.items():
        errors[key] = float(np.abs(outputs[key] - want).max() / np.abs(want).max())
        if not errors[key] <= TOLERANCE[cell.dtype]:
            raise WrongResult(
                f"{name} on {cell.label()} {cell.mask} {cell.dtype}: {key} is off by {errors[key]:.2e} of "
                f"its largest value, allowed is {TOLERANCE[cell.dtype]:.0e}"
            )
    return errors
