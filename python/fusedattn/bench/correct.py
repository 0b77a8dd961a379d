"""correct.py: before anything is timed, a head of every peer's result is compared with the float64 formula."""

from __future__ import annotations

import numpy as np

from fusedattn import formula
from fusedattn.bench.cells import Cell
from fusedattn.bench.inputs import arrays, visible_rows
from fusedattn.check_cases import decode, encode

ROWS = 512  # rows of the formula at a time: 4096 columns of float64 scores are 16 MiB
# Largest error allowed, relative to the largest value of the tensor: a few roundings of the storage type.
TOLERANCE = {"fp32": 2e-5, "bf16": 2e-2, "fp16": 2.5e-3}


class WrongResult(RuntimeError):
    """A measured implementation does not compute attention."""


def expected(cell: Cell, q, k, v, d_out, directions) -> dict[str, np.ndarray]:
    """out and, for a backward, dq, dk, dv in float64, a block of rows at a time.

    q and d_out are [query heads, rows, dim] of the heads that share the one of k and v, [1, columns, dim].
    """
    scale = cell.dim**-0.5
    result = {"out": np.zeros(q.shape)}
    if "backward" in directions:
        result |= {"dq": np.zeros(q.shape), "dk": np.zeros(k.shape), "dv": np.zeros(v.shape)}
    for head in range(len(q)):
        for first in range(0, cell.q_len, ROWS):
            rows = (head, slice(first, min(first + ROWS, cell.q_len)))
            visible = visible_rows(cell, rows[1].start, rows[1].stop)
            result["out"][rows] = formula.forward(q[rows], k[0], v[0], scale, visible)[0]
            if "backward" in directions:
                dq, dk, dv = formula.backward(q[rows], k[0], v[0], d_out[rows], scale, visible)
                result["dq"][rows] = dq
                result["dk"][0] += dk
                result["dv"][0] += dv
    return result


def first_head(cell: Cell, directions) -> dict[str, np.ndarray]:
    """What the query heads of the cell's first key head come to, dropout aside, from inputs as its dtype has them."""
    inputs = {name: rounded(x[0, : 1 if name in ("k", "v") else cell.group], cell.dtype) for name, x in arrays(cell).items()}
    return expected(cell, **inputs, directions=directions)


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """float64 numbers as the storage type would hold them."""
    return decode(encode(x, dtype))


def check(name: str, cell: Cell, wanted: dict, outputs: dict) -> dict[str, float]:
    """Errors of one head by output, relative to its largest value. Raises WrongResult beyond tolerance."""
    errors = {}
    for key, want in wanted.items():
        if key in outputs:
            errors[key] = float(np.abs(outputs[key] - want).max() / np.abs(want).max())
            if not errors[key] <= TOLERANCE[cell.dtype]:
                raise WrongResult(
                    f"{name} on [{cell.name()}] {cell.dtype}: {key} is off by {errors[key]:.2e} of its largest value, "
                    f"allowed is {TOLERANCE[cell.dtype]:.0e}"
                )
    return errors
