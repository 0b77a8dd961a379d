"""Bandwidth of work that memory bounds, in turn with what the limit probe reads."""

import ctypes
import statistics
import time
from collections.abc import Callable

from fusedattn import probe

PROBED = 256 << 20  # bytes, past the last cache
ROUNDS = 15
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_memory() -> None:
    """Has malloc keep what is freed: the first touch of fresh pages takes longer than the work that is measured."""
    ctypes.CDLL(None).mallopt(M_MMAP_MAX, 0)
    ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def report(name: str, work: Callable[[], object], size: int, threads: int) -> None:
    """Prints size bytes over the time of work(), and its share of the probe's readings around it."""
    work()
    rates, shares = [], []
    for _ in range(ROUNDS):
        before = probe.bandwidth(PROBED, threads, 0.03)
        start = time.perf_counter()
        work()
        rates.append(size / (time.perf_counter() - start) / 1e9)
        shares.append(rates[-1] * 2 / (before + probe.bandwidth(PROBED, threads, 0.03)))
    rate, share = statistics.median(rates), statistics.median(shares)
    print(f"{name}, {threads} threads: {rate:.1f} GB/s, {share:.0%} of the probe's reading", flush=True)
