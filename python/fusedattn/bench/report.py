"""report.py: the benchmark's report as tables on a terminal, from the dictionaries that --json writes."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from fusedattn.bench import floors, peers

WIDE = 150  # columns of a terminal that has room for work rates and intervals
MASKS = {"none": "", "causal": "causal", "band": "band 512"}
HEADLINES = [((4096, 128), "D=128, S=4096"), ((2048, 64), "D=64, S=2048")]


def show(report: dict, console: Console) -> None:
    """Prints the machine, the headline table, every measurement, and the notes they need."""
    console.print(_machine_line(report["machine"], report["results"]))
    if any(row["floor_percent"] for row in report["results"]):
        console.print(_headline(report["results"]))
        console.print(_verdict(report["results"]))
    console.print(_details(report["results"], wide=console.width >= WIDE))
    for note in _notes(report):
        console.print(note)


def _machine_line(machine: dict, results: list[dict]) -> str:
    limits = {}
    for row in results:
        limits.setdefault((row["dtype"], row["threads"]), row["limit_gflops"])
    parts = [f"{dtype} {_count(threads)} {value:.0f}" for (dtype, threads), value in limits.items()]
    versions = f"fusedattn {machine['version']}, torch {machine['torch']}"
    return f"{machine['cpu']}, lane {machine['lane']}, {versions}\nLimit in GFLOP/s, measured: " + "; ".join(
        parts
    )


def _headline(results: list[dict]) -> Table:
    """The uncut large cells: share of the limit beside the floor each has."""
    dtypes = list(dict.fromkeys(row["dtype"] for row in results))
    table = Table(
        title="Share of the machine's limit, in % (floor)", box=box.SIMPLE_HEAD, title_justify="left"
    )
    table.add_column("threads, direction, mask")
    for _, title in HEADLINES:
        for dtype in dtypes:
            table.add_column(f"{title}\n{dtype}", justify="right")
    by_line: dict[tuple, dict] = {}
    for row in results:
        size = (row["shape"][2], row["shape"][3])
        if row["square"] and any(size == known for known, _ in HEADLINES) and row["mask"] in ("none", "causal"):
            line = (row["threads"], row["mask"], row["direction"])
            by_line.setdefault(line, {})[(size, row["dtype"])] = row
    for (threads, mask, direction), cells in by_line.items():
        label = f"{_count(threads)}, {direction}" + (f", {mask}" if mask != "none" else "")
        shares = [_share_with_floor(cells.get((size, dtype))) for size, _ in HEADLINES for dtype in dtypes]
        table.add_row(label, *shares)
    return table


def _verdict(results: list[dict]) -> str:
    with_floor = sum(row["floor_percent"] is not None for row in results)
    missed = len(floors.missed(results, peers.OURS))
    rules = (
        "fp16: fp32 less 5 points; causal: uncut less 8 points; several threads: 95 % of one thread's share"
    )
    return f"{with_floor - missed} of {with_floor} reach their floor ({rules}).\n"


def _count(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _share_with_floor(row: dict | None) -> str:
    if row is None:
        return ""
    share, floor = row["peers"][peers.OURS]["share_percent"], row["floor_percent"]
    if floor is None:
        return f"{share:.1f}"
    return f"[{'green' if share >= floor else 'red'}]{share:.1f}[/] (≥ {floor:.0f})"


def _details(results: list[dict], wide: bool) -> Table:
    others = [name for name in results[0]["peers"] if name != peers.OURS]
    title = (
        "Every measurement: milliseconds, share of the limit in %, and how many times faster than the peer"
    )
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1) if wide else (0, 1, 0, 0)
    )
    for heading in ("B,N,S,D", "mask", "dtype", "threads" if wide else "t", ""):
        table.add_column(heading, no_wrap=True)
    for heading in ("ms", "GFLOP/s", "share", "roofline") if wide else ("ms", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
        table.add_column("faster, 95 % interval" if wide else "faster", justify="right", no_wrap=True)
    table.add_column("rounds", justify="right", no_wrap=True)
    for row in results:
        table.add_row(*_detail_cells(row, others, wide))
    return table


def _detail_cells(row: dict, others: list[str], wide: bool) -> list[str]:
    ours = row["peers"][peers.OURS]
    direction = row["direction"] if wide else {"forward": "fwd", "backward": "bwd"}[row["direction"]]
    cells = [
        row["cell"],
        MASKS[row["mask"]],
        row["dtype"],
        str(row["threads"]),
        direction,
    ]
    cells += [f"{ours['seconds'] * 1e3:.3g}", *([f"{ours['gflops']:.0f}"] if wide else [])]
    cells += [f"{ours['share_percent']:.1f}", *([f"{ours['roofline_percent']:.1f}"] if wide else [])]
    for name in others:
        peer = row["peers"][name]
        ratio, low, high = peer["ratio"]
        interval = f" \\[{low:.3g}, {high:.3g}]" if wide else ""
        cells += [f"{peer['share_percent']:.1f}{_mark(peer)}", f"{ratio:.3g}x{interval}"]
    rounds = f"{row['rounds'] - row['discarded']} of {row['rounds']}"
    return [*cells, rounds + ("" if row["steady"] else "!")]


def _mark(peer: dict) -> str:
    if peer["sampled_heads"] is None:
        return ""
    return "¹" if peer["once"] else "ˢ"


def _notes(report: dict) -> list[str]:
    results, notes = report["results"], []
    cut = {(tuple(r["shape"]), tuple(r["whole_shape"])) for r in results if r["shape"] != r["whole_shape"]}
    if cut:
        parts = ", ".join(f"{_brackets(shape)} for {_brackets(whole)}" for shape, whole in sorted(cut))
        notes.append(f"Heads were cut to save time; the work per head is the same: {parts}.")
    marks = {_mark(peer) for row in results for peer in row["peers"].values()}
    if "ˢ" in marks:
        notes.append("ˢ slow peer: timed on as many heads as there are threads, and scaled to all.")
    if "¹" in marks:
        notes.append(
            "¹ very slow peer: timed once, on as many heads as there are threads, and scaled to all."
        )
    if any(not r["steady"] for r in results):
        notes.append(
            "! other work shares this machine: in most rounds the limit moved more than 5 %, or a thread was "
            "without its CPU for 5 % of the time. All rounds count, and the shares are too low."
        )
    if any(peers.TORCH_INTEL in r["peers"] for r in results):
        notes.append(
            f"{peers.TORCH_INTEL}: a second process whose MKL is told that it runs on an Intel CPU, so that "
            "it chooses by instruction set alone."
        )
    worst = max((error for r in results for error in r["errors"].values()), default=0.0)
    notes.append(
        "Useful work: 4 D operations per visible pair forward, 10 D backward. One head of every cell was "
        f"compared with float64 before timing; largest error {worst:.1e} of the largest value. "
        f"{report['seconds']:.0f} s in all."
    )
    notes.append(
        "Roofline: the time that the useful work takes at the limit, or that moving every tensor once takes at the bandwidth "
        "measured for so many bytes, whichever is longer."
    )
    return [note.replace("[", "\\[") for note in notes]


def _brackets(shape) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
