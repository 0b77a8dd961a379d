"""machine.py: the probe's own table: multiply-adds, exponentials, and read bandwidth by level of memory."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from fusedattn import probe

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_MOST_BYTES = 256 << 20  # per thread, for main memory


def buffer_sizes() -> dict[str, int]:
    """Bytes to read: half of the first and second level, an eighth of the third, four times the last."""
    sizes = _cache_bytes()
    found = {f"L{level}": size // (8 if level > 2 else 2) for level, size in sizes.items()}
    found["memory"] = min(_MOST_BYTES, max(64 << 20, 4 * max(sizes.values(), default=0)))
    return found


def _cache_bytes() -> dict[int, int]:
    """Data caches of a CPU by level, as Linux tells them; empty where it does not."""
    sizes = {}
    for folder in sorted(_CACHES.glob("index*")):
        texts = {name: (folder / name).read_text().strip() for name in ("level", "type", "size")}
        if texts["type"] != "Instruction":
            sizes[int(texts["level"])] = int(texts["size"].removesuffix("K")) << 10
    return sizes


def rates(thread_counts: list[int], seconds: float) -> dict:
    """Rates by number of threads: {"avx2.fma32": {"unit": "GFLOP/s", "1": 143.2}, ...}, or a refusal."""
    result: dict[str, dict] = {}
    for stream, refusal in probe.streams().items():
        row = result[stream] = {"unit": "GFLOP/s"}
        if refusal:
            row["refusal"] = refusal
            continue
        row |= {str(t): probe.flops(stream, t, seconds) for t in thread_counts}
    result["exp"] = {"unit": "10^9/s"} | {str(t): probe.exponentials(t, seconds) for t in thread_counts}
    for level, size in buffer_sizes().items():
        by_threads = {str(t): probe.bandwidth(size, t, seconds) for t in thread_counts}
        result[f"read {level}, {size >> 10} KiB"] = {"unit": "GB/s"} | by_threads
    return result


def show(rates_by_name: dict, thread_counts: list[int], console: Console) -> None:
    """Prints the rates as a table."""
    table = Table(title="What this machine can do", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("")
    for count in thread_counts:
        table.add_column("1 thread" if count == 1 else f"{count} threads", justify="right")
    table.add_column("")
    for name, row in rates_by_name.items():
        values = [f"{row[str(t)]:.1f}" if str(t) in row else "-" for t in thread_counts]
        table.add_row(name, *values, row.get("refusal", row["unit"]))
    console.print(table)
