"""stages.py: the plan of a cell, drawn, and where the time of a call goes, as the library itself tells both."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from rich.console import Console

from fusedattn.bench.cells import Cell, parse
from fusedattn.bench.inputs import visible_rows

_LARGEST_PICTURE = (16, 64)  # rows and columns of characters
_LINE = re.compile(r"fusedattn,(?P<plan>(?P<direction>\w+),.*tile (?P<rows>\d+)x(?P<cols>\d+),.*?),team [^,]*,(?P<ms>[0-9.]+) ms,(?P<rest>.*)")
_STAGE = re.compile(r",(\w+) (-?[0-9.]+) %")


def of(cell: Cell, direction: str) -> dict:
    """The plan in words, its tile, and the shares of the stages in %, of the fastest of some calls in a process of its own."""
    command = [sys.executable, "-m", "fusedattn.bench.stages", cell.name(), cell.dtype, str(cell.threads), direction]
    settings = {"FUSEDATTN_VERBOSE": "2", "FUSEDATTN_NUM_THREADS": str(cell.threads)}
    told = subprocess.run(command, capture_output=True, text=True, env=os.environ | settings, check=False)
    lines = [found for found in map(_LINE.fullmatch, told.stderr.splitlines()) if found and found["direction"] == direction]
    if told.returncode or not lines:
        raise RuntimeError(f"the plan of [{cell.name()}] could not be had: {told.stderr.strip()[-300:]}")
    best = min(lines, key=lambda line: float(line["ms"]))
    shares = {name: float(value) for name, value in _STAGE.findall(best["rest"])}
    return {"name": cell.name(), "dtype": cell.dtype, "direction": direction, "plan": best["plan"],
            "tile": [int(best["rows"]), int(best["cols"])], "stages": shares}  # fmt: skip


def draw(cell: Cell, tile: list[int]) -> list[str]:
    """The scores of one head, a character for one tile or for several: █ all visible, ▒ some, · none."""
    rows, cols = (step * -(-size // (step * most)) for step, size, most in zip(tile, (cell.q_len, cell.length), _LARGEST_PICTURE))
    picture = []
    for first in range(0, cell.q_len, rows):
        last = min(first + rows, cell.q_len)
        visible = visible_rows(cell, first, last)
        line = ""
        for column in range(0, cell.length, cols):
            share = 1.0 if visible is None else visible[:, column : column + cols].mean()
            line += "█" if share == 1 else "·" if share == 0 else "▒"
        picture.append(line)
    return picture


def show(rows: list[dict], console: Console) -> None:
    """The plan in words, its picture, and a bar for each stage."""
    for row in rows:
        (cell,) = parse(row["name"], [row["dtype"]], 1)
        console.print(f"\n{row['plan']}", markup=False)
        for line in draw(cell, row["tile"]):
            console.print("  " + line, markup=False)
        for name, share in row["stages"].items():
            console.print(f"  {name:9}{share:5.1f} %  {'━' * round(share / 2)}", markup=False)


def main() -> None:
    """Calls of a cell for about a fifth of a second: name, dtype, threads, direction."""
    from fusedattn.bench.runner import Runner

    name, dtype, threads, direction = sys.argv[1:]
    (cell,) = parse(name, [dtype], int(threads))
    runner = Runner("fusedattn")
    runner.prepare(cell)
    seconds, _ = runner.time(direction, 2)
    runner.time(direction, max(1, min(200, int(0.2 / seconds))))


if __name__ == "__main__":
    main()
