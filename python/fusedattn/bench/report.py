"""report.py: the benchmark's report as tables on a terminal, from the dictionaries that --json writes."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fusedattn.bench import goals, peers

WIDE = 150  # columns of a terminal that has room for work rates and intervals
MANY = 2  # more peers than this have a column each, of how many times faster, and no interval
_MARKS = {"target": "[green]✔ target[/]", "floor": "[yellow]✔ floor[/]", "missed": "[red]✘[/]"}
_UNITS = {goals.SHARE: "%", goals.ROOFLINE: "%", goals.SCALED: "%", goals.COST: "%"}  # others are factors


def show(report: dict, console: Console) -> None:
    """Prints the machine, every goal beside what was measured, every measurement, and the notes they need."""
    console.print(_machine_line(report["machine"], report["results"]))
    if report["goals"]:
        console.print(_goals(report["goals"]))
        console.print(_verdict(report["goals"]))
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


def _goals(lines: list[dict]) -> Table:
    table = Table(title="Goals", box=box.SIMPLE_HEAD, title_justify="left")
    for heading, justify in (("", "left"), ("of", "left"), ("floor", "right"), ("target", "right"), ("measured", "right"),
                             ("worst", "right"), ("possible", "right"), ("", "left")):  # fmt: skip
        table.add_column(heading, justify=justify)
    for line in lines:
        numbers = (_number(line[key], line["of"]) for key in ("floor", "target", "measured", "worst", "possible"))
        table.add_row(escape(line["goal"]), line["of"].removesuffix(", %"), *numbers, _MARKS[line["mark"]])
    return table


def _number(value: float | None, of: str) -> str:
    if value is None:
        return ""
    return f"{value:.1f} %" if of in _UNITS else f"{value:.3g}x"


def _verdict(lines: list[dict]) -> str:
    count = {mark: sum(line["mark"] == mark for line in lines) for mark in _MARKS}
    below = sum(line["mark"] == "missed" and line["floor"] is not None for line in lines)
    return (
        f"{count['target']} of {len(lines)} goals reach their target, {count['floor']} only their floor, {count['missed']} neither "
        f"({below} of these have a floor). Medians where a goal is about several measurements. Possible: the ratio that the whole machine would "
        "give, by what the peer uses of it.\n"
    )


def _count(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _details(results: list[dict], wide: bool) -> Table:
    others = list(dict.fromkeys(name for row in results for name in row["peers"] if name != peers.OURS))
    title = "Every measurement: milliseconds, share of the limit in %" + (", and how many times faster than the peer" if others else "")
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1) if wide else (0, 1, 0, 0)
    )
    for heading in ("B,N,S,D", "dtype", "threads" if wide else "t", ""):
        table.add_column(heading, no_wrap=True)
    for heading in ("ms", "GFLOP/s", "share", "roofline") if wide else ("ms", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in others:
        if len(others) > MANY:
            table.add_column(name, justify="right")
            continue
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
        row["name"].replace(":dropout", " dropout"),
        row["dtype"],
        str(row["threads"]),
        direction,
    ]
    cells += [f"{ours['seconds'] * 1e3:.3g}", *([f"{ours['gflops']:.0f}"] if wide else [])]
    cells += [f"{ours['share_percent']:.1f}", *([f"{ours['roofline_percent']:.1f}"] if wide else [])]
    for name in others:
        peer = row["peers"].get(name)
        if not peer or not peer["seconds"]:
            cells += [""] if len(others) > MANY else ["", ""]
            continue
        if len(others) > MANY:
            cells.append(f"{peer['ratio'][0]:.3g}x{_mark(peer)}")
            continue
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
    marks = {_mark(peer) for row in results for peer in row["peers"].values() if peer["seconds"]}
    failed = {(name, peer["refusal"]) for row in results for name, peer in row["peers"].items() if peer.get("refusal")}
    notes += [f"{name} is not timed where: {why}." for name, why in sorted(failed)]
    if "ˢ" in marks:
        notes.append("ˢ slow peer: timed on as many heads as there are threads, and scaled to all.")
    if "¹" in marks:
        notes.append(
            "¹ very slow peer: timed once, on as many heads as there are threads, and scaled to all."
        )
    if any(not r["steady"] for r in results):
        notes.append(
            "! other work shares this machine: fewer than three rounds were undisturbed (the limit moved less than 5 %, every "
            "thread had its CPU for 95 % of the time). So all rounds count, and the shares may be too low."
        )
    if any(peers.TORCH_INTEL in r["peers"] for r in results):
        notes.append(
            f"{peers.TORCH_INTEL}: a second process whose MKL is told that it runs on an Intel CPU, so that "
            "it chooses by instruction set alone."
        )
    worst = max((error for r in results for error in r["errors"].values()), default=0.0)
    notes.append(
        "Useful work: 4 D operations per visible pair forward, 10 D backward. One head of every result was "
        f"compared with float64 before timing, dropout aside; largest error {worst:.1e} of the largest value. "
        f"{report['seconds']:.0f} s in all."
    )
    notes.append(
        "Roofline: the time that the useful work takes at the limit, or that moving every tensor once takes at the bandwidth "
        "measured for so many bytes, whichever is longer."
    )
    return [note.replace("[", "\\[") for note in notes]


def _brackets(shape) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
