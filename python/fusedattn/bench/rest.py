"""rest.py: whether the cores and what they share are ours alone, which the limit probe does not see."""

from __future__ import annotations

import bisect
import itertools
import time
from collections.abc import Callable, Iterable

MOST_LOSS = 0.04  # of a number; on Zen 4 a busy hyperthread takes 8 % of probe.room, busy neighbours 15 to 20 % of what the third-level cache gives
BEST = 0.95  # quantile; of the room a reading in a hundred is too large, where the limit that it is a share of was disturbed

Reading = tuple[float, ...]


class Rest:
    """Readings of what the cores have, a few numbers each, and about the best of each number, which is what they have alone.

    known: a best to begin with.
    """

    def __init__(self, read: Callable[[], Reading] = tuple, known: Reading = ()):
        self._read = read
        self._known = known
        self._seen: list[list[float]] = []  # of each number all readings, sorted
        self.last: Reading = ()

    def wait(self, seconds: float) -> bool:
        """Reads until every number is about the best, or so many seconds are over; at least once. Whether they are."""
        end = time.perf_counter() + seconds
        while True:
            self.last = self._read()
            self._seen = self._seen or [[] for _ in self.last]
            for seen, number in zip(self._seen, self.last):
                bisect.insort(seen, number)
            if is_about(self.last, self._best()):
                return True
            if time.perf_counter() >= end:
                return False

    def _best(self) -> Reading:
        here = (seen[round(BEST * (len(seen) - 1))] for seen in self._seen)
        return best_of((self._known, tuple(here)))


def best_of(readings: Iterable[Reading]) -> Reading:
    """The largest of each number."""
    return tuple(max(numbers) for numbers in itertools.zip_longest(*readings, fillvalue=0.0))


def is_about(reading: Reading, best: Reading) -> bool:
    """Whether each number is within MOST_LOSS of the best."""
    return all(number >= (1 - MOST_LOSS) * most for number, most in zip(reading, best))
