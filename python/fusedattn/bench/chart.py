"""chart.py: the report as a picture, share of the limit by cell and peer. The only user of matplotlib."""

from __future__ import annotations

from pathlib import Path


def formats() -> list[str]:
    """Suffixes of the files that save() can write, without the dot."""
    from matplotlib.backend_bases import FigureCanvasBase

    return sorted(FigureCanvasBase.get_supported_filetypes())


def save(report: dict, path: Path) -> None:
    """Writes a panel of bars for forward and one for backward. The suffix of `path` chooses the format."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    directions = list(dict.fromkeys(row["direction"] for row in report["results"]))
    rows = max(sum(r["direction"] == d for r in report["results"]) for d in directions)
    figure, axes = pyplot.subplots(
        1,
        len(directions),
        figsize=(6.5 * len(directions), 1.6 + 0.42 * rows),
        squeeze=False,
        layout="constrained",
    )
    for axis, direction in zip(axes[0], directions):
        _panel(axis, [r for r in report["results"] if r["direction"] == direction], direction)
    machine = report["machine"]
    figure.suptitle(f"Share of the limit of {machine['cpu']}, lane {machine['lane']}")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _panel(axis, results: list[dict], direction: str) -> None:
    names = list(dict.fromkeys(name for row in results for name in row["peers"]))
    height = 0.8 / len(names)
    for index, name in enumerate(names):
        shares = [row["peers"].get(name, {}).get("share_percent") or 0 for row in results]
        places = [number + (index - (len(names) - 1) / 2) * height for number in range(len(results))]
        axis.barh(places, shares, height, label=name, color=f"C{index}")
    axis.set_yticks(range(len(results)), [_label(row) for row in results], fontsize=8)
    axis.set_ylim(len(results) - 0.4, -0.6)
    axis.set_xlim(0, 100)
    axis.set_xlabel("useful operations per second, % of the measured limit")
    axis.set_title(direction)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", alpha=0.3)


def _label(row: dict) -> str:
    threads = f" {row['threads']} threads" if row["threads"] > 1 else ""
    return f"{row['name']} {row['dtype']}{threads}"
