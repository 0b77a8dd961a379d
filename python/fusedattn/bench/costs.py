"""costs.py: what each feature costs: its time per visible pair over that of the first of them, in one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from fusedattn import _native, probe
from fusedattn.bench.cells import Cell
from fusedattn.bench.features import FEATURES, PLAIN, SEQUENCES, Feature
from fusedattn.bench.grids import DIRECTIONS
from fusedattn.bench.measure import Measurement, measure
from fusedattn.bench.runner import Kind, Runner
from fusedattn.bench.session import PROBE_SECONDS, best_reading, rest_of, rested

SHAPES = (((1, 4, 2048, 64), FEATURES), ((1, 2, 2048, 128), FEATURES), ((1, 1, 16384, 64), SEQUENCES))


class FeaturePeer:
    """One feature, timed as a peer of the others."""

    def __init__(self, feature: Feature):
        self.name = feature.name
        self._feature = feature
        self._runner = Runner(Kind(feature.attend, feature.arguments))

    def prepare(self, cell: Cell) -> None:
        """Takes the tensors of a cell; a packed feature gets gradients of the output in its own shape."""
        self._runner.prepare(cell, packed=self._feature.packed)

    def time(self, direction: str, calls: int) -> tuple[float, float]:
        return self._runner.time(direction, calls)


@dataclass(frozen=True)
class Request:
    """What to measure and for how long: every feature or `only` these, on every shape, in `budget` seconds.

    done: rows that an earlier run has measured, of which those that were not at rest are measured again if they are asked for.
    """

    dtypes: list[str]
    threads: int
    budget: float
    only: set[str] | None = None
    done: tuple[dict, ...] = ()


def run(request: Request, tell: Callable[[int, int, str], None]) -> list[dict]:
    """The rows of the request and all that are done. tell(done, total, text) as it goes on."""
    lane = _native.lane_chosen()
    threads, only = request.threads, request.only
    at_rest, rows = rested(request.done), {_identity(row): row for row in request.done}
    known = {_identity(row) for row in at_rest}
    wanted = [(Cell(*shape, dtype=dtype, threads=threads), [f for f in features if only is None or f.name in only], direction)
              for shape, features in SHAPES for dtype in request.dtypes for direction in DIRECTIONS]  # fmt: skip
    jobs = [job for job in wanted if _names(*job) not in known]
    rest = rest_of(lane, threads, best_reading(at_rest, threads))
    for number, (cell, features, direction) in enumerate(jobs):
        tell(number, len(jobs), f"features, {cell.label()} {cell.dtype} {direction}")
        peers = [FeaturePeer(feature) for feature in features]
        limit = lambda: probe.limit(cell.dtype, lane, cell.threads, PROBE_SECONDS)  # noqa: E731, B023
        rows[_names(cell, features, direction)] = record(measure(cell, direction, peers, limit, request.budget / len(jobs), most=40, rest=rest), features)
    asked = [_names(*job) for job in wanted]
    return [rows[names] for names in asked] + [row for names, row in rows.items() if names not in asked]


def _names(cell: Cell, features: list[Feature], direction: str) -> tuple:
    return cell.shape, cell.dtype, direction, cell.threads, tuple(feature.name for feature in features)


def _identity(row: dict) -> tuple:
    return tuple(row["shape"]), row["dtype"], row["direction"], row["threads"], tuple(row["cost"])


def record(result: Measurement, features: list[Feature]) -> dict:
    """Ratios of seconds per visible pair to the first feature's, with 95 % intervals."""
    cell, base = result.cell, features[0]
    rows = {}
    for feature in features:
        share = feature.visible(cell) / base.visible(cell)
        ratio = result.ratio(feature.name, base.name)
        rows[feature.name] = [value / share for value in ratio] if ratio else None
    return {
        "shape": list(cell.shape),
        "dtype": cell.dtype,
        "threads": cell.threads,
        "direction": result.direction,
        "rounds": len(result.kept),
        "discarded": result.kept.count(False),
        "steady": result.steady,
        "rest": result.reading(),
        "plain_share_percent": result.share(base.name) * base.visible(cell) / PLAIN.visible(cell),
        "cost": rows,
    }


def show(costs: list[dict], console: Console) -> None:
    """One line per feature, one column per shape, dtype and direction: percent over plain attention."""
    for direction in DIRECTIONS:
        columns = [row for row in costs if row["direction"] == direction]
        title = f"{direction.capitalize()}: time per visible pair over that of plain attention (of a call each)"
        table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
        table.add_column("")
        for row in columns:
            table.add_column(f"{row['shape']}\n{row['dtype']}", justify="right")
        table.add_row("plain, % of the limit", *(f"{row['plain_share_percent']:.0f} %" for row in columns))
        for feature in (*FEATURES[1:], *SEQUENCES[1:]):
            found = [row["cost"].get(feature.name) for row in columns]
            if any(found):
                table.add_row(feature.name, *(f"{100 * (cost[0] - 1):+.1f} %" if cost else "" for cost in found))
        console.print(table)
    discarded = sum(row["discarded"] for row in costs)
    rounds = sum(row["rounds"] for row in costs)
    console.print(f"{rounds} rounds; {discarded} in which the limit moved or the cores were not ours alone were left out.")
