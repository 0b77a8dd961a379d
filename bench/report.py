"""Tables and charts of docs/performance.md and performance_avx2.md from files of results: of the goals, and of the whole grid.

    python bench/report.py docs/performance.md bench/results/zen4-avx512-goals.json bench/results/zen4-avx512-grid-*.json

rewrites what stands between the page's markers, and the charts beside it, whose names end as the page's does. The files are what `fusedattn bench --json` writes, the grid's as
many as there are (they are committed in parts). Run it in an environment with fusedattn and matplotlib.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from fusedattn.bench import goals, peers
from fusedattn.bench.grids import DIRECTIONS

MARKS = {"target": "✔ target", "floor": "✔ floor", "missed": "✘"}
OTHERS = (peers.TORCH, peers.TORCH_INTEL, *peers.ELSEWHERE.values())
COLOURS = {"fp32": "C0", "bf16": "C1", "fp16": "C2"}


def table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ratio_of(row: dict, peer: str) -> float | None:
    """How many times faster than the peer, the median of the rounds' ratios; None where it was not timed."""
    ratio = row["peers"].get(peer, {}).get("ratio")
    return ratio[0] if ratio else None


def goal_table(report: dict) -> str:
    """Every goal beside what was measured, those missed first."""
    lines = sorted(goals.judge(report), key=lambda line: list(MARKS)[::-1].index(line["mark"]))
    rows = [
        [line["goal"], line["of"].removesuffix(", %"), *(_number(line[key], line["of"]) for key in ("floor", "target", "measured", "possible")), MARKS[line["mark"]]]
        for line in lines
    ]
    return table(["goal", "of", "floor", "target", "measured", "possible", ""], rows)


def _number(value: float | None, of: str) -> str:
    if value is None:
        return ""
    return f"{value + 0.0:.1f} %" if of.startswith(("share", "%")) else f"{value:.2f}×"


def loss_table(*reports: dict) -> str:
    """Cells in which a peer was faster, the worst first."""
    found = [(ratio, row, peer) for report in reports for row in report["results"] for peer in OTHERS if (ratio := ratio_of(row, peer)) is not None and ratio < 1]
    rows = [[f"[{row['name']}]", row["dtype"], row["direction"], str(row["threads"]), peer, f"{ratio:.2f}×"] for ratio, row, peer in sorted(found, key=lambda x: x[0])]
    return table(["cell", "type", "direction", "threads", "faster peer", "our speed over its"], rows)


def grid_table(report: dict) -> str:
    """Every measurement: share of the limit and of the roofline, speed over each peer."""
    names = [name for name in OTHERS if any(ratio_of(row, name) for row in report["results"])]
    rows = []
    for row in report["results"]:
        ours, ratios = row["peers"][peers.OURS], (ratio_of(row, name) for name in names)
        rows.append([f"[{row['name']}]" + (f", {row['threads']} threads" if row["threads"] > 1 else ""), row["dtype"], row["direction"],
                     f"{ours['share_percent']:.0f}{'' if row['steady'] else ' !'}", f"{ours['roofline_percent']:.0f}",
                     *(f"{ratio:.3g}×" if ratio else "" for ratio in ratios)])  # fmt: skip
    return table(["cell", "type", "direction", "share, %", "roofline, %", *names], rows)


def charts(report: dict, page: Path) -> None:
    """speed_peers.svg: how many times faster than each peer, a dot per cell; speed_limit.svg: the share of the limit by the size of a head."""
    ending = page.stem.removeprefix("performance")
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "fusedattn"
    from matplotlib import pyplot

    single = [row for row in report["results"] if row["threads"] == 1]
    names = [name for name in OTHERS if any(ratio_of(row, name) for row in single)]
    for kind, draw, height in (("peers", _draw_peers, 0.9 + 0.55 * len(names)), ("limit", _draw_limit, 3.6)):
        figure, axes = pyplot.subplots(1, 2, figsize=(11, height), sharey=True, layout="constrained")
        for axis, direction in zip(axes, DIRECTIONS):
            draw(axis, [row for row in single if row["direction"] == direction], names)
            axis.set_title(direction)
            axis.spines[["top", "right"]].set_visible(False)
        handles = [pyplot.Line2D([], [], marker="o", linestyle="", color=colour, label=dtype) for dtype, colour in COLOURS.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(page.with_name(f"speed_{kind}{ending}.svg"), metadata={"Date": None})
        pyplot.close(figure)


def _draw_peers(axis, rows: list[dict], names: list[str]) -> None:
    for number, (dtype, colour) in enumerate(COLOURS.items()):
        of_type = [row for row in rows if row["dtype"] == dtype]
        dots = [(ratio, place + (number - 1) * 0.2) for place, name in enumerate(names) for row in of_type if (ratio := ratio_of(row, name))]
        _dots(axis, dots, "o", colour)
    axis.axvline(1, color="black", linewidth=1)
    axis.set_xscale("log")
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel("times faster than the peer (left of the line it is faster)")


def _dots(axis, dots: list[tuple[float, float]], mark: str, colour: str) -> None:
    if dots:
        axis.plot(*zip(*dots), mark, color=colour, markersize=4, alpha=0.6)


def _draw_limit(axis, rows: list[dict], names: list[str]) -> None:
    for dtype, colour in COLOURS.items():
        for masked, mark in ((False, "o"), (True, "^")):
            some = [row for row in rows if row["dtype"] == dtype and (row["mask"] != "none") == masked]
            _dots(axis, [(row["flops"] / (row["shape"][0] * row["shape"][1]), row["peers"][peers.OURS]["share_percent"]) for row in some], mark, colour)
    axis.set_xscale("log")
    axis.set_ylim(0, 100)
    axis.set_xlabel("useful operations per head (triangles: masked)")
    axis.set_ylabel("% of the limit")


def fill(text: str, name: str, content: str) -> str:
    """`text` with `content` between the markers of this name. Raises ValueError if it has none."""
    pattern = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the page has no markers '<!-- {name}: begin -->' and '<!-- {name}: end -->'")
    return pattern.sub(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)


def page(text: str, of_goals: dict, of_grid: dict) -> str:
    for name, content in (("goals", goal_table(of_goals)), ("losses", loss_table(of_goals, of_grid)), ("grid", grid_table(of_grid))):
        text = fill(text, name, content)
    return text


def read(*files: Path) -> dict:
    """The results in some files as those of one run."""
    reports = [json.loads(file.read_text()) for file in files]
    return reports[0] | {"results": [row for report in reports for row in report["results"]]}


def main() -> None:
    if len(sys.argv) < 4 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    target, of_goals, *parts = map(Path, sys.argv[1:])
    of_goals, of_grid = read(of_goals), read(*parts)
    target.write_text(page(target.read_text(), of_goals, of_grid))
    charts(of_grid, target)


if __name__ == "__main__":
    main()
