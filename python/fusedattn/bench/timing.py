"""timing.py: what every runner does alike, without a framework."""

from __future__ import annotations

import time
from collections.abc import Callable

from fusedattn.bench.cells import Cell


def heads_of(name: str, cell: Cell) -> int:
    """How many heads of a tensor belong to one key head."""
    return 1 if name in ("dk", "dv") else cell.group


def timed(call: Callable, calls: int) -> tuple[float, float]:
    """Seconds of one call, over `calls` of them, and CPU seconds used in a second.

    Short calls, which are repeated, come after as many that do not count: a CPU that slept while others were timed is slow for
    milliseconds, and its caches are theirs.
    """
    if calls > 1:
        for _ in range(calls):
            call()
    start, cpu_start = time.perf_counter(), time.process_time()
    for _ in range(calls):
        call()
    elapsed = time.perf_counter() - start
    return elapsed / calls, (time.process_time() - cpu_start) / elapsed
