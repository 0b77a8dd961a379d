"""measure.py: rounds of all peers between two readings of the limit probe, and the medians of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fusedattn.bench.cells import Cell
from fusedattn.bench.peers import PeerError
from fusedattn.bench.rest import Reading, Rest

MOST_PROBE_CHANGE = 0.05  # a round is discarded when the limit moved more than this between its two readings
LEAST_CPU_SHARE = 0.95  # and when a single thread had less of its CPU: something else ran there
SHORTEST_TIMING = (
    4e-3  # seconds; calls are repeated to fill it, so that the clock and the wake-up count for nothing
)
SLOW_CALL = 0.5  # seconds; a slower peer is timed on as many heads as there are threads, and scaled
VERY_SLOW_CALL = 1.5  # seconds; a peer still slower than this on its sample runs once
LONG_CALL = 0.1  # seconds; beside it, what a first call costs does not matter
FEWEST_ROUNDS = 3
SETTLE = 4e-3  # seconds for the idle threads of the last call to stop spinning before another may be timed


@dataclass
class Entry:
    """One peer in one measurement: how it is timed, and seconds of a call by round (one with `once`)."""

    name: str
    calls: int = 1
    factor: float = 1.0  # seconds of the cell per second of the sample
    once: bool = False
    seconds: list[float] = field(default_factory=list)


@dataclass
class Measurement:
    """One cell in one direction: the limit by round, which rounds kept it steady, and every peer's entry."""

    cell: Cell
    direction: str
    entries: dict[str, Entry]
    limits: list[float] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)  # of the rest, by round: the lower of before and after
    errors: dict[str, float] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)  # why a peer was not timed

    @property
    def steady(self) -> bool:
        """Whether enough rounds had a steady limit. If not, all rounds count and the report says so."""
        return sum(self.kept) >= min(FEWEST_ROUNDS, len(self.kept))

    def _rounds(self) -> list[int]:
        return [i for i, kept in enumerate(self.kept) if kept or not self.steady]

    def reading(self) -> Reading:
        """Of the rest, the medians over the rounds that count."""
        rounds = self._rounds()
        return tuple(map(statistics.median, zip(*(reading for i, reading in enumerate(self.readings) if i in rounds))))

    def seconds(self, name: str) -> float | None:
        """Median seconds of one call; None for a peer that was not timed."""
        times = self._times(name)
        return statistics.median(times.values()) if times else None

    def share(self, name: str) -> float | None:
        """Median over the rounds of useful work per second, in % of that round's limit."""
        times, flops = self._times(name), self.cell.flops(self.direction)
        if not times or not self.limits:
            return None
        return statistics.median(
            100 * flops / seconds / (self.limits[i] * 1e9) for i, seconds in times.items()
        )

    def ratio(self, name: str, ours: str) -> tuple[float, float, float] | None:
        """Median of (peer's seconds / ours) over the rounds, with a 95 % interval from resampled rounds.

        For a peer that ran once, its time over the median of ours, and the interval of ours.
        """
        theirs, own = self._times(name), self._times(ours)
        if not theirs or not own:
            return None
        if self.entries[name].once:
            values = np.array([next(iter(theirs.values())) / seconds for seconds in own.values()])
        else:
            values = np.array([theirs[i] / own[i] for i in theirs if i in own])
        picks = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
        low, high = np.percentile(np.median(values[picks], axis=1), [2.5, 97.5])
        return float(np.median(values)), float(low), float(high)

    def _times(self, name: str) -> dict[int, float]:
        entry = self.entries.get(name)
        if entry is None or not entry.seconds:
            return {}
        if entry.once:
            return {0: entry.seconds[0]}
        return {i: entry.seconds[i] for i in self._rounds()}


def measure(
    cell: Cell,
    direction: str,
    peers: list,
    probe: Callable[[], float],
    budget: float,
    most: int,
    rest: Rest | None = None,
) -> Measurement:
    """Times the peers in at least three rounds, until `budget` seconds or `most` steady rounds are done.

    probe: returns the limit in GFLOP/s, measured now. rest: what tells, and is waited for a while, whether the cores are ours alone.
    """
    start = time.perf_counter()
    result, rest = Measurement(cell, direction, {}), rest or Rest()
    timed = []
    for peer in peers:
        try:
            result.entries[peer.name] = _entry(peer, cell, direction)
            timed.append(peer)
        except PeerError as failure:
            result.refusals[peer.name] = str(failure)
    while _goes_on(result, time.perf_counter() - start, budget, most):
        _round(result, timed, probe, rest, budget / most)
    return result


def _goes_on(result: Measurement, spent: float, budget: float, most: int) -> bool:
    return len(result.kept) < FEWEST_ROUNDS or (sum(result.kept) < most and spent < budget)


def _entry(peer, cell: Cell, direction: str) -> Entry:
    """Decides how a peer is timed, from calls on a sample of the heads; they also warm it up."""
    sample = cell.sample()
    scale = cell.flops(direction) / sample.flops(direction)
    entry = Entry(peer.name)
    peer.prepare(sample)
    seconds = _warm(peer, direction)
    if seconds * scale > SLOW_CALL and (scale > 1 or seconds > VERY_SLOW_CALL):
        entry.factor = scale
        if seconds > VERY_SLOW_CALL:
            entry.once, entry.seconds = True, [seconds * scale]
        return entry
    if scale > 1:
        peer.prepare(cell)
        seconds = _warm(peer, direction)
    entry.calls = max(1, min(1000, round(SHORTEST_TIMING / max(seconds, 1e-7))))
    return entry


def _warm(peer, direction: str) -> float:
    """Seconds of a call: a second one, unless the first is so long that its setting up does not matter."""
    first, _ = peer.time(direction, 1)
    return first if first > LONG_CALL else peer.time(direction, 1)[0]


def _round(result: Measurement, peers: list, probe: Callable[[], float], rest: Rest, patience: float) -> None:
    """One reading of the probe, every peer, another reading. What counts of the first peer is the median of its turns."""
    threads, number = result.cell.threads, len(result.kept)
    _settle(threads)
    ours = rest.wait(patience)
    reading = rest.last
    before = probe()
    times = {}
    for peer in _turns(peers, number):
        entry = result.entries[peer.name]
        if entry.once:
            continue
        _settle(threads)
        seconds, cpu_share = peer.time(result.direction, entry.calls)
        times.setdefault(peer.name, []).append(seconds * entry.factor)
        ours = ours and (threads > 1 or cpu_share >= LEAST_CPU_SHARE)
    _settle(threads)
    after = probe()
    ours = rest.wait(0.0) and ours
    result.readings.append(tuple(map(min, reading, rest.last)))
    for name, seconds in times.items():
        result.entries[name].seconds.append(statistics.median(seconds))
    result.limits.append((before + after) / 2)
    result.kept.append(ours and abs(before - after) <= MOST_PROBE_CHANGE * max(before, after))


def _turns(peers: list, number: int) -> list:
    """The first before and after each of the others, whose order turns round every second round: all others are compared with it."""
    first, others = peers[:1], peers[1:]
    return first + [peer for other in (reversed(others) if number % 2 else others) for peer in (other, *first)]


def _settle(threads: int) -> None:
    if threads > 1:
        time.sleep(SETTLE)
