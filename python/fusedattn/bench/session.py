"""session.py: one run of the benchmark: which cells, how long each, and the results as plain dictionaries."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fusedattn import _native, info, probe
from fusedattn.bench import cells as cell_lists
from fusedattn.bench import correct, floors, peers
from fusedattn.bench.cells import Cell
from fusedattn.bench.measure import Measurement, measure

DIRECTIONS = ("forward", "backward")
PROBE_SECONDS = 0.012
BANDWIDTH_SECONDS = 0.05
HEADLINE_WEIGHT = 4  # a cell with a floor gets this many times the seconds of a small one


@dataclass
class Request:
    """What to measure and for how long: `budget` seconds in all, at most `rounds` rounds each."""

    cells: list[Cell]
    rounds: int = 15
    budget: float = 200.0
    directions: tuple[str, ...] = DIRECTIONS
    peers: list[str] = field(default_factory=lambda: [peers.OURS, peers.TORCH, peers.TORCH_INTEL])


def select(names: list[str], dtypes: list[str], threads: int) -> list[Cell]:
    """The cells of "headline", "smoke", "all" or shapes such as "1,8,4096,128:causal", each once."""
    chosen: list[Cell] = []
    for name in names:
        if name in ("headline", "all"):
            chosen += cell_lists.headline(dtypes, threads, two_threads=info.usable_cpus() >= 2)
        if name in ("smoke", "all"):
            chosen += cell_lists.smoke(dtypes, threads)
        if name not in ("headline", "smoke", "all"):
            chosen += cell_lists.parse(name, dtypes, threads)
    return [
        c for i, c in enumerate(chosen) if not any(cell_lists.same_work(c, other) for other in chosen[:i])
    ]


def run(request: Request, tell: Callable[[int, int, str], None]) -> dict:
    """Measures everything and returns the report. tell(done, total, text) is called before each measurement.

    Raises WrongResult if fusedattn does not agree with the float64 formula: then that cell is not timed.
    """
    started = time.perf_counter()
    team = peers.make(request.peers)
    lane = _native.lane_chosen()
    jobs = [(cell, direction) for cell in request.cells for direction in request.directions]
    results, errors = [], {}
    try:
        for number, (cell, direction) in enumerate(jobs):
            tell(number, len(jobs), _title(cell, direction))
            if direction == request.directions[0]:
                errors = _check(team[0], cell, request.directions)
            seconds = _slice(jobs[number:], request.budget - (time.perf_counter() - started))
            result = measure(cell, direction, team, _limit_of(cell, lane), seconds, request.rounds)
            result.errors = errors
            results.append(record(result, team[0].name, bandwidth_of(cell, direction)))
    finally:
        for peer in team:
            peer.close()
    floors.add(results, team[0].name)
    return {
        "machine": info.collect(),
        "results": results,
        "seconds": time.perf_counter() - started,
        "budget_seconds": request.budget,
    }


def _title(cell: Cell, direction: str) -> str:
    threads = f", {cell.threads} threads" if cell.threads > 1 else ""
    return f"{cell.label()} {cell.mask} {cell.dtype} {direction}{threads}"


def _check(ours, cell: Cell, directions) -> dict[str, float]:
    ours.prepare(cell)
    inputs, outputs = ours.runner.last_head(directions)
    return correct.check(ours.name, cell, inputs, outputs, directions)


def _limit_of(cell: Cell, lane: str) -> Callable[[], float]:
    return lambda: probe.limit(cell.dtype, lane, cell.threads, PROBE_SECONDS)


def _slice(jobs, seconds_left: float) -> float:
    """The first job's part of the seconds that are left."""
    weights = [HEADLINE_WEIGHT if cell_lists.is_headline(cell) else 1 for cell, _ in jobs]
    return max(0.2, seconds_left * weights[0] / sum(weights))


def bandwidth_of(cell: Cell, direction: str) -> float:
    """GB/s at which this machine reads as many bytes as the cell must move, from wherever that many bytes fit."""
    return probe.bandwidth(max(4096, cell.bytes(direction) // cell.threads), cell.threads, BANDWIDTH_SECONDS)


def record(result: Measurement, ours: str, bandwidth: float) -> dict:
    """One measurement as plain values: seconds, GFLOP/s, shares of the limits, ratios with their intervals.

    bandwidth: GB/s. The roofline is the time of the multiply-adds or of the memory, whichever is longer.
    """
    cell = result.cell
    limits = sorted(result.limits)
    limit = limits[len(limits) // 2]
    roofline = max(cell.flops(result.direction) / limit, cell.bytes(result.direction) / bandwidth) / 1e9
    by_peer = {}
    for name, entry in result.entries.items():
        seconds = result.seconds(name)
        by_peer[name] = {
            "seconds": seconds,
            "gflops": cell.flops(result.direction) / seconds / 1e9 if seconds else None,
            "share_percent": result.share(name),
            "roofline_percent": 100 * roofline / seconds if seconds else None,
            "ratio": result.ratio(name, ours) if name != ours else None,
            "sampled_heads": cell.sample().heads if entry.factor > 1 or entry.once else None,
            "once": entry.once,
        }
    return {
        "cell": cell.text(),
        "shape": list(cell.shape),
        "square": cell.group == 1 and not cell.rows,
        "whole_shape": list(cell.whole or cell.shape),
        "mask": cell.mask,
        "dtype": cell.dtype,
        "threads": cell.threads,
        "direction": result.direction,
        "flops": cell.flops(result.direction),
        "limit_gflops": limit,
        "bytes": cell.bytes(result.direction),
        "bandwidth_gb_per_s": bandwidth,
        "roofline_seconds": roofline,
        "rounds": len(result.kept),
        "discarded": result.kept.count(False),
        "steady": result.steady,
        "errors": result.errors,
        "peers": by_peer,
    }
