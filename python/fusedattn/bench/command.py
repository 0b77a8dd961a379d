"""command.py: what `fusedattn bench` does once its options are read: measure, keep, show, draw."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from fusedattn import info
from fusedattn.bench import costs, goals, grids, report, session, stages
from fusedattn.bench import peers as peer_list

_COSTS_SHARE = 0.2  # of the budget, where cells are measured too

Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Request:
    """The options of the command; cells and drawn as grids.select() reads them."""

    cells: list[str]
    drawn: list[str]
    dtypes: list[str]
    directions: tuple[str, ...]
    threads: int
    rounds: int
    budget: float
    costs: bool
    alone: bool
    peers: Path | None
    json_file: Path | None
    resume: bool
    plot: Path | None
    commit: str | None


def run(request: Request, tell: Tell) -> dict:
    """Measures what is asked for. Writes the JSON file after every measurement, and the chart at the end."""
    jobs = grids.select(request.cells, request.dtypes, request.threads, request.directions)
    check_file("--json", request.json_file)
    _check_plot(request.plot, bool(jobs))
    done_cells, done_costs = _done(request)
    if "goals" in request.cells and request.peers is None and not request.alone:
        wanted = goals.features()
    else:
        wanted = None if request.costs else set()
    share = 1.0 if not jobs else _COSTS_SHARE if wanted != set() else 0.0
    result = {"machine": info.collect(), "results": [], "goals": [], "seconds": 0.0}
    commit = request.commit or _commit()
    if wanted != set():
        result["costs"] = list(done_costs)

    def keep(partial: dict) -> None:
        result.update(partial)
        for row in result["results"]:
            row.setdefault("commit", commit)
        _write(request.json_file, result)

    if jobs:
        asked = session.Request(jobs, request.rounds, request.budget * (1 - share), done_cells, keep)
        keep(session.run(asked, peer_list.make(request.alone, request.peers), tell))
    if wanted != set():
        dtypes = [name for name in request.dtypes if name != "fp16"] if jobs else request.dtypes
        result["costs"] = costs.run(costs.Request(dtypes, request.threads, request.budget * share, wanted, done_costs), tell)
        result["goals"] = goals.judge(result)
        _write(request.json_file, result)
    if request.drawn:
        drawn = grids.select(request.drawn, request.dtypes, request.threads, request.directions)
        result["plans"] = [stages.of(*job) for job in drawn]
        _write(request.json_file, result)
    if request.plot is not None:
        from fusedattn.bench import chart

        chart.save(result, request.plot)
    return result


def check_file(option: str, path: Path | None) -> None:
    """ValueError for a file that cannot be written, before anything is measured."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise ValueError(f"{option} is {str(path)!r}; accepted is a file in a folder that exists")


def _check_plot(path: Path | None, cells: bool) -> None:
    if path is None:
        return
    from fusedattn.bench import chart

    if not cells:
        raise ValueError("--plot draws what cells reach; --costs alone has none")
    check_file("--plot", path)
    if path.suffix.removeprefix(".") not in chart.formats():
        raise ValueError(f"--plot is {str(path)!r}; accepted are files that end in .{', .'.join(chart.formats())}")


def show(result: dict, console: Console) -> None:
    """The tables of everything that was measured."""
    if result["results"]:
        report.show(result, console)
    if result.get("costs"):
        costs.show(result["costs"], console)
    stages.show(result.get("plans", []), console)


def _done(request: Request) -> tuple[tuple[dict, ...], tuple[dict, ...]]:
    """What an earlier run has measured on this machine and lane: cells and costs. Raises ValueError if it is another's."""
    if not request.resume:
        return (), ()
    if request.json_file is None:
        raise ValueError("--resume is given without --json, the file to go on with")
    if not request.json_file.exists():
        return (), ()
    kept, here = json.loads(request.json_file.read_text()), info.collect()
    for key in ("cpu", "lane", "version"):
        if kept["machine"][key] != here[key]:
            raise ValueError(f"--resume: {request.json_file} has results of {key} {kept['machine'][key]}, this is {here[key]}; name another file")
    return tuple(kept["results"]), tuple(kept.get("costs", ()))


def _commit() -> str | None:
    """The commit of the sources this runs from, or None for an installed package."""
    folder = Path(__file__).parent
    found = subprocess.run(["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() or None if "site-packages" not in folder.parts else None


def _write(path: Path | None, content: dict) -> None:
    if path is not None:
        path.write_text(as_text(content))


def as_text(content: dict) -> str:
    """JSON with a line for each measurement, six digits for each number, and no folder of this machine: results to keep and compare."""
    fields, machine = [], {name: value for name, value in content["machine"].items() if name != "library"}
    for name, value in _rounded(content | {"machine": machine}).items():
        lines = "[\n" + ",\n".join(map(json.dumps, value)) + "\n]" if isinstance(value, list) else json.dumps(value)
        fields.append(f"{json.dumps(name)}: {lines}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value
