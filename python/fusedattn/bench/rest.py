"""rest.py: whether the cores are ours alone, which the limit probe does not see."""

from __future__ import annotations

import time
from collections.abc import Callable

MOST_LOSS = 0.04  # of the room of a core (probe.room); on Zen 4 a busy hyperthread takes 8 %


class Rest:
    """Readings of the room that the cores have, and the best of them, which is what they have alone."""

    def __init__(self, read: Callable[[], float]):
        self._read, self._best = read, 0.0

    def wait(self, seconds: float) -> bool:
        """Reads until the room is about the best, or so many seconds are over; at least once. Whether it is."""
        end = time.perf_counter() + seconds
        while True:
            room = self._read()
            self._best = max(self._best, room)
            if room >= (1 - MOST_LOSS) * self._best:
                return True
            if time.perf_counter() >= end:
                return False
