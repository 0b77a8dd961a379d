"""session.py: one run of the benchmark: which jobs, how long each, and the results as plain dictionaries."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fusedattn import _native, info, probe
from fusedattn.bench import correct, goals, peers
from fusedattn.bench.cells import Cell
from fusedattn.bench.grids import Job
from fusedattn.bench.measure import Measurement, measure
from fusedattn.bench.rest import Reading, Rest, best_of, is_about

PROBE_SECONDS = 0.012
REST_SECONDS = 0.006  # of each stream
SHARED_BYTES = 8 << 20  # a thread; more than a core's own caches hold
BANDWIDTH_SECONDS = 0.05
CHECKED_ROWS = 1024  # and columns, of a head: the formula in float64 takes a second for so many squared
LEAST_SECONDS = 0.2  # for a measurement, however little is left


@dataclass
class Request:
    """What to measure and for how long: `budget` seconds in all, at most `rounds` rounds each.

    done: rows that an earlier run has measured, of which those that were not at rest are measured again if they are asked for. keep: called with the rows so far after each measurement.
    """

    jobs: list[Job]
    rounds: int = 15
    budget: float = 180.0
    done: tuple[dict, ...] = ()
    keep: Callable[[dict], None] = lambda report: None


def run(request: Request, team: list, tell: Callable[[int, int, str], None]) -> dict:
    """Measures everything with the peers in `team`, ours first, and returns the report.

    tell(done, total, text) is called before each measurement. Raises WrongResult if fusedattn does not agree with the
    float64 formula: then that cell is not timed. A peer that does not is left out of the cell, and the row says why.
    """
    started = time.perf_counter()
    lane = _native.lane_chosen()
    at_rest = rested(request.done)
    rests = {threads: rest_of(lane, threads, best_reading(at_rest, threads)) for threads in {cell.threads for cell, _ in request.jobs}}
    rows, known = {identity(row): row for row in request.done}, {identity(row) for row in at_rest}
    places = {_identity(*job): place for place, job in enumerate(request.jobs)}
    shapes = {cell.shape: place for place, (cell, _) in reversed([*enumerate(request.jobs)])}
    jobs = sorted((job for job in request.jobs if _identity(*job) not in known), key=lambda job: shapes[job[0].shape])  # so that tensors are made once
    report = {"machine": info.collect(), "results": list(request.done), "budget_seconds": request.budget}
    try:
        for number, (cell, direction) in enumerate(jobs):
            tell(number, len(jobs), _title(cell, direction))
            able, refusals, errors = _checked(team, cell, direction)
            left = request.budget - (time.perf_counter() - started)
            seconds = max(LEAST_SECONDS, left / (len(jobs) - number))
            result = measure(cell, direction, able, _limit_of(cell, lane), seconds, request.rounds, rests[cell.threads])
            result.errors, result.refusals = errors, refusals | result.refusals
            rows[_identity(cell, direction)] = record(result, team[0].name, bandwidth_of(cell, direction))
            report["results"] = sorted(rows.values(), key=lambda row: places.get(identity(row), -1))
            report["seconds"] = time.perf_counter() - started
            report["goals"] = goals.judge(report)
            request.keep(report)
    finally:
        for peer in team:
            peer.close()
    return report


def rested(rows: Iterable[dict]) -> tuple[dict, ...]:
    """Those that had enough rounds to themselves, by the best reading of them all too."""
    steady = [row for row in rows if row.get("steady", False)]
    return tuple(row for row in steady if is_about(_reading(row), best_reading(steady, row["threads"])))


def _reading(row: dict) -> Reading:
    return tuple(row.get("rest", ()))


def best_reading(rows: Iterable[dict], threads: int) -> Reading:
    """The largest of each number that such rows had, with so many threads."""
    return best_of(_reading(row) for row in rows if row["threads"] == threads)


def identity(row: dict) -> tuple:
    """What makes two rows measurements of the same thing on the same machine and lane."""
    return row["name"], row["dtype"], row["direction"], row["threads"]


def _identity(cell: Cell, direction: str) -> tuple:
    return cell.name(), cell.dtype, direction, cell.threads


def _title(cell: Cell, direction: str) -> str:
    threads = f", {cell.threads} threads" if cell.threads > 1 else ""
    return f"[{cell.name()}] {cell.dtype} {direction}{threads}"


def _checked(team: list, cell: Cell, direction: str) -> tuple[list, dict[str, str], dict[str, float]]:
    """The peers that compute the cell rightly, why the others are left out, and errors of ours.

    Dropout is left aside here: what is dropped differs from peer to peer.
    """
    small = dataclasses.replace(cell.sample().shortened(CHECKED_ROWS), dropout=0.0)
    wanted = correct.first_head(small, (direction,))
    able, refusals, errors = [], {}, {}
    for peer in team:
        try:
            refusal = peer.refuses(cell, direction)
            if refusal is None:
                peer.prepare(small)
                error = correct.check(peer.name, small, wanted, peer.first_head((direction,)))
        except (correct.WrongResult, peers.PeerError) as failure:
            if peer is team[0]:
                raise
            refusal = str(failure)
        if refusal is None:
            able.append(peer)
            errors = errors or error
        else:
            refusals[peer.name] = refusal
    return able, refusals, errors


def _limit_of(cell: Cell, lane: str) -> Callable[[], float]:
    return lambda: probe.limit(cell.dtype, lane, cell.threads, PROBE_SECONDS)


def rest_of(lane: str, threads: int, known: Reading = ()) -> Rest:
    """Whether this many cores, and the caches or the memory that they share with others, are ours alone."""
    return Rest(lambda: (probe.bandwidth(SHARED_BYTES, threads, REST_SECONDS), probe.room(lane, threads, REST_SECONDS)), known)


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
    by_peer = {name: {"refusal": why, "seconds": None} for name, why in result.refusals.items()}
    for name, entry in result.entries.items():
        seconds = result.seconds(name)
        by_peer[name] = {
            "seconds": seconds,
            "gflops": cell.flops(result.direction) / seconds / 1e9,
            "share_percent": result.share(name),
            "roofline_percent": 100 * roofline / seconds,
            "ratio": result.ratio(name, ours) if name != ours else None,
            "sampled_heads": cell.sample().heads if entry.factor > 1 or entry.once else None,
            "once": entry.once,
        }
    return {
        "name": cell.name(),
        "shape": list(cell.shape),
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
        "rest": result.reading(),
        "errors": result.errors,
        "peers": by_peer,
    }
