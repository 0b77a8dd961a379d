"""goals.py: what is aimed at, as a table: which measurements a goal is about, its floor, and its target."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from fusedattn.bench import peers
from fusedattn.bench.cells import Cell, parse

# What is measured of a cell.
SHARE = "share of the limit, %"
ROOFLINE = "share of the roofline, %"
TORCH = "times torch as it comes"
BEST = "times the best other peer"
STEP = "times torch, forward and backward"
BEST_STEP = "times the best other peer, forward and backward"
SCALED = "% of one thread's share"
COST = "% more time per visible pair"  # of a feature; less is better

SMALLEST_GRID = 40  # measurements that a mean over everything needs
FORWARD, BACKWARD, BOTH = ("forward",), ("backward",), ("forward", "backward")
_FP32, _BF16, _FP16, _ALL = ("fp32",), ("bf16",), ("fp16",), ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Goal:
    """One line of the table: the median of `of` over cells, dtypes and directions, which shall be at least `target`.

    A COST shall be at most that; instead of cells it names a feature and what that is compared with. No cells: the
    geometric mean over everything measured, where that is a grid. narrow: (floor, target) of the lane with 256-bit vectors.
    """

    name: str
    of: str
    cells: tuple[str, ...]
    dtypes: tuple[str, ...]
    directions: tuple[str, ...]
    floor: float | None
    target: float
    threads: int = 1
    narrow: tuple[float, float] | None = None

    def bounds(self, lane: str) -> tuple[float | None, float]:
        return self.narrow if self.narrow and lane == "avx2" else (self.floor, self.target)


# One head measures what many do, in less time. Sources: prototypes of a hundred lines, and what each peer reached.
_LARGE, _MIDDLE = ("1,1,4096,128",), ("1,4,2048,64",)
_UNCUT = _LARGE + _MIDDLE
_LONG = ("1,1,4096,128:causal", "1,4,2048,64:causal", "1,4:1,2048,128:causal")
_SHORT = ("1,4,512,64:causal", "1,4,512,128:causal")
_DENSE = (88, 93)  # of 256-bit float32 vectors

LIMITS = (
    Goal("forward float32, D=128", SHARE, _LARGE, _FP32, FORWARD, 90, 94, narrow=_DENSE),
    Goal("forward float32, D=64", SHARE, _MIDDLE, _FP32, FORWARD, 88, 92, narrow=_DENSE),
    Goal("forward bfloat16, D=128", SHARE, _LARGE, _BF16, FORWARD, 86, 90),
    Goal("forward bfloat16, D=64", SHARE, _MIDDLE, _BF16, FORWARD, 80, 86),
    Goal("forward float16", SHARE, _UNCUT, _FP16, FORWARD, 87, 93),
    Goal("forward float32, causal, S=4096, D=128", SHARE, ("1,1,4096,128:causal",), _FP32, FORWARD, 88, 92),
    Goal("forward bfloat16, causal, S=4096, D=128", SHARE, ("1,1,4096,128:causal",), _BF16, FORWARD, 84, 88),
    Goal("forward float32, causal, S=512, D=64", SHARE, ("1,4,512,64:causal",), _FP32, FORWARD, 75, 82),
    Goal("forward bfloat16, causal, S=512, D=64", SHARE, ("1,4,512,64:causal",), _BF16, FORWARD, 68, 75),
    Goal("backward float32", SHARE, _UNCUT, _FP32, BACKWARD, 91, 94, narrow=_DENSE),
    Goal("backward bfloat16, D=128", SHARE, _LARGE, _BF16, BACKWARD, 90, 92),
    Goal("backward bfloat16, D=64", SHARE, _MIDDLE, _BF16, BACKWARD, 87, 90),
    Goal("backward float16", SHARE, _UNCUT, _FP16, BACKWARD, 89, 94),
    Goal("backward float32, causal, S=2048, D=64", SHARE, ("1,4,2048,64:causal",), _FP32, BACKWARD, 85, 90),
    Goal("backward bfloat16, causal, S=2048, D=64", SHARE, ("1,4,2048,64:causal",), _BF16, BACKWARD, 80, 86),
    Goal("forward, D=256", SHARE, ("1,1,2048,256",), ("fp32", "bf16"), FORWARD, 86, 90),
    Goal("backward, D=256", SHARE, ("1,1,2048,256",), ("fp32", "bf16"), BACKWARD, 83, 87),
    Goal("two threads, several heads", SCALED, ("1,2,4096,128", "1,4,2048,64"), ("fp32", "bf16"), BOTH, 95, 100, threads=2),
    Goal("two threads, one head, backward", SCALED, _LARGE, ("fp32", "bf16"), BACKWARD, 95, 98, threads=2),
    Goal("decoding, a row per head", ROOFLINE, ("1,32:8,1x4096,128", "1,32:8,1x32768,128"), ("fp32", "bf16"), FORWARD, None, 85),
    Goal("decoding, 8 rows per head", ROOFLINE, ("1,8,8x4096,128", "1,8,8x32768,128"), ("fp32", "bf16"), FORWARD, None, 85),
)

PEERS = (
    *(Goal(f"float32 {what}", of, cells, _FP32, directions, None, target) for what, directions, cells, targets in (
        ("forward, uncut", FORWARD, _UNCUT, (2.3, 1.1)),
        ("forward, causal, long", FORWARD, _LONG, (2.8, 1.25)),
        ("forward, causal, S=512", FORWARD, _SHORT, (4.5, 2.3)),
        ("backward, uncut", BACKWARD, _UNCUT, (2.4, 1.1)),
        ("backward, causal", BACKWARD, _LONG, (2.8, 1.3)),
    ) for of, target in zip((TORCH, BEST), targets)),
    *(Goal(f"bfloat16 {what}", of, cells, _BF16, directions, None, target) for what, directions, cells, targets in (
        ("forward, uncut", FORWARD, _UNCUT, (4.5, 1.2)),
        ("forward, causal, long", FORWARD, _LONG, (5, 1.4)),
        ("forward, causal, S=512", FORWARD, _SHORT, (8, 2.5)),
        ("backward, uncut", BACKWARD, _UNCUT, (2.7, 1.35)),
        ("backward, causal", BACKWARD, _LONG, (3.1, 1.5)),
    ) for of, target in zip((TORCH, BEST), targets)),
    *(Goal(f"float16 {direction}", of, _UNCUT, _FP16, (direction,), None, target) for direction, targets in (
        ("forward", (3.2, 1.12)),
        ("backward", (22, 22)),
    ) for of, target in zip((TORCH, BEST), targets)),
    *(Goal("band of 512, S=4096, training step", of, ("1,4,4096,64:band",), ("fp32", "bf16"), BOTH, None, target)
      for of, target in ((STEP, 15), (BEST_STEP, 8))),
    *(Goal("dropout 0.1, S=4096, training step", of, ("1,4,4096,64:dropout",), ("fp32", "bf16"), BOTH, None, target)
      for of, target in ((STEP, 6.5), (BEST_STEP, 5))),
    *(Goal("short: Swin, ViT, BERT", of, ("16,4,49,32", "1,16,197,64", "4,4,384,64:padding"), ("fp32", "bf16"), BOTH, None, target)
      for of, target in ((TORCH, 2.5), (BEST, 1.5))),
    Goal("[1,8,64,64]", TORCH, ("1,8,64,64",), ("fp32", "bf16"), BOTH, None, 1.6),
    *(Goal("everything measured, geometric mean", of, (), _ALL, BOTH, None, target) for of, target in ((TORCH, 5), (BEST, 2))),
)  # fmt: skip

COSTS = (
    *(Goal(f"{feature}, over causal", COST, (feature, "causal"), ("fp32", "bf16"), BOTH, 15, 8)
      for feature in ("window of 512", "causal with a prefix of S/4", "packed, lengths S/2, S/4, ...")),
    Goal("16k tokens packed (Zipf), over a call each", COST, ("packed, 16k by Zipf", "a call each"), ("fp32", "bf16"), BOTH, None, 5),
    Goal("mask bytes that hide nothing", COST, ("mask bytes that hide nothing", "plain"), ("fp32", "bf16"), BOTH, 6, 3),
    Goal("dropout 0.1, forward", COST, ("dropout 0.1", "plain"), ("fp32", "bf16"), FORWARD, 14, 8),
    Goal("dropout 0.1, backward", COST, ("dropout 0.1", "plain"), ("fp32", "bf16"), BACKWARD, 8, 5),
)  # fmt: skip
GOALS = LIMITS + PEERS + COSTS


def jobs(cpus: int) -> list[tuple[Cell, str]]:
    """Every cell and direction that a goal is about and that `cpus` CPUs can run, each once."""
    possible = [goal for goal in GOALS if goal.of != COST and goal.threads <= cpus]
    found = [(cell, direction) for goal in possible for text in goal.cells
             for cell in parse(text, goal.dtypes, goal.threads) for direction in goal.directions]  # fmt: skip
    return list(dict.fromkeys(found))


def features() -> set[str]:
    """The features that a goal is about."""
    return {name for goal in COSTS for name in goal.cells}


def judge(report: dict) -> list[dict]:
    """Every goal of which something was measured, with its bounds, what was measured, and whether that suffices.

    "mark" is "target", "floor" (reached) or "missed". "possible": of a ratio, the one that the whole machine would give,
    since peers use a part of it too.
    """
    lines = []
    for goal in GOALS:
        about = [] if goal.of == COST else _about(goal, report["results"])
        values = _costs(goal, report) if goal.of == COST else _numbers(_value(goal.of, row, report["results"]) for row in about)
        if values:
            floor, target = goal.bounds(report["machine"]["lane"])
            middle = statistics.median if goal.cells else statistics.geometric_mean
            possible = _numbers(_possible(goal.of, row) for row in about)
            lines.append({"goal": goal.name, "of": goal.of, "floor": floor, "target": target, "measured": middle(values),
                          "worst": max(values) if goal.of == COST else min(values), "values": len(values),
                          "possible": middle(possible) if possible else None,
                          "mark": _mark(goal.of, middle(values), floor, target)})  # fmt: skip
    return lines


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mark(of: str, measured: float, floor: float | None, target: float) -> str:
    reaches = (lambda bound: measured <= bound) if of == COST else (lambda bound: measured >= bound)
    if reaches(target):
        return "target"
    return "floor" if floor is not None and reaches(floor) else "missed"


def _about(goal: Goal, rows: list[dict]) -> list[dict]:
    """The measurements that a goal is about."""
    if not goal.cells and len(rows) < SMALLEST_GRID:
        return []
    about = [row for row in rows if _is_about(goal, row)]
    return _steps(about) if goal.of in (STEP, BEST_STEP) else about


def _is_about(goal: Goal, row: dict) -> bool:
    named = row["name"] in goal.cells or not goal.cells
    return named and row["dtype"] in goal.dtypes and row["direction"] in goal.directions and row["threads"] == goal.threads


def _value(of: str, row: dict, rows: list[dict]) -> float | None:
    own = row["peers"][peers.OURS]
    if of == SHARE:
        return own["share_percent"]
    if of == ROOFLINE:
        return own["roofline_percent"]
    if of == SCALED:
        alone = [r for r in rows if r["threads"] == 1 and all(r[key] == row[key] for key in ("dtype", "direction", "mask")) and r["shape"][2:] == row["shape"][2:]]
        return 100 * own["share_percent"] / alone[0]["peers"][peers.OURS]["share_percent"] if alone else None
    peer = _peer(of, row)
    return row["peers"][peer]["seconds"] / own["seconds"] if peer else None


def _peer(of: str, row: dict) -> str | None:
    """The peer that a ratio is taken with: torch as it comes, or the fastest of the others; None if it was not timed.

    Where torch comes at its best, so that there is no second one, it is one of the others too.
    """
    left_out = (peers.OURS, peers.TORCH if peers.TORCH_INTEL in row["peers"] else None)
    wanted = [peers.TORCH] if of in (TORCH, STEP) else [name for name in row["peers"] if name not in left_out]
    timed = [name for name in wanted if row["peers"].get(name, {}).get("seconds")]
    return min(timed, key=lambda name: row["peers"][name]["seconds"], default=None)


def _possible(of: str, row: dict) -> float | None:
    peer = _peer(of, row) if of in (TORCH, BEST) else None
    return 100 / row["peers"][peer]["share_percent"] if peer else None


def _steps(rows: list[dict]) -> list[dict]:
    """Forwards with their backwards added, where there are both."""
    sums = []
    for forward in rows:
        for backward in rows:
            same = all(forward[key] == backward[key] for key in ("name", "dtype", "threads"))
            if same and (forward["direction"], backward["direction"]) == BOTH:
                pairs = {name: (peer["seconds"], backward["peers"].get(name, {}).get("seconds")) for name, peer in forward["peers"].items()}
                sums.append({"peers": {name: {"seconds": sum(pair) if all(pair) else None} for name, pair in pairs.items()}})
    return sums


def _costs(goal: Goal, report: dict) -> list[float]:
    """Percent of time per visible pair by which a feature exceeds the one it is compared with."""
    feature, base = goal.cells
    found = []
    for row in report.get("costs", []):
        cost = row["cost"]
        if row["dtype"] in goal.dtypes and row["direction"] in goal.directions and cost.get(feature) and cost.get(base):
            found.append(100 * (cost[feature][0] / cost[base][0] - 1))
    return found

