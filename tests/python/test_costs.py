"""test_costs.py: what features cost: the pairs that each is divided by, and the division."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console

from fusedattn import Mask
from fusedattn.bench import costs
from fusedattn.bench.cells import BAND, Cell
from fusedattn.bench.features import FEATURES, PLAIN, SEQUENCES
from fusedattn.bench.measure import Entry, Measurement

CELL = Cell(1, 2, 1024, 8)


def visible(arguments, length):
    """Pairs that these arguments of attention() leave visible, counted one by one."""
    if "lengths" in arguments:
        return sum(n * n for n in arguments["lengths"])
    if "cu_seqlens_q" in arguments:
        assert arguments["cu_seqlens_q"] == arguments["cu_seqlens_k"] and arguments["cu_seqlens_q"][-1] == length
        return sum(n * n for n in np.diff(arguments["cu_seqlens_q"]))
    mask = arguments.get("mask")
    if mask is None:
        return length**2
    return int(np.asarray(mask.materialize(length, length) if isinstance(mask, Mask) else mask).sum())


@pytest.mark.parametrize("feature", FEATURES + SEQUENCES, ids=lambda feature: feature.name)
def test_a_feature_counts_the_pairs_that_it_leaves_visible(feature):
    counted = visible(feature.arguments(CELL), CELL.length)
    if "here and there" in feature.name:  # divided by all pairs: its hidden ones are computed as well
        assert feature.visible(CELL) == PLAIN.visible(CELL) and counted == pytest.approx(0.9 * CELL.length**2, rel=0.01)
    else:
        assert feature.visible(CELL) == counted


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("feature", FEATURES + SEQUENCES, ids=lambda feature: feature.name)
def test_a_feature_runs(feature, direction):
    peer = costs.FeaturePeer(feature)
    peer.prepare(Cell(1, 2, BAND + 128, 8))
    seconds, _ = peer.time(direction, 1)
    assert seconds > 0


def test_a_cost_is_time_per_visible_pair_over_plain():
    seconds = {feature.name: feature.visible(CELL) / PLAIN.visible(CELL) for feature in FEATURES}
    seconds["sink"] *= 1.25
    entries = {name: Entry(name, seconds=[value] * 3) for name, value in seconds.items()}
    row = costs.record(Measurement(CELL, "forward", entries, [100.0] * 3, [True] * 3), FEATURES)
    assert row["rounds"] == 3 and row["discarded"] == 0
    for name, cost in row["cost"].items():
        assert cost == pytest.approx([1.25 if name == "sink" else 1.0] * 3), name


def test_the_table_shows_percent_over_plain():
    cost = {feature.name: [1.07, 1.05, 1.09] for feature in FEATURES}
    rows = [
        {"shape": [1, 2, 1024, 8], "dtype": "fp32", "direction": direction, "rounds": 5, "discarded": 1,
         "plain_share_percent": 81.2, "cost": cost}
        for direction in ("forward", "backward")
    ]  # fmt: skip
    console = Console(record=True, width=100)
    costs.show(rows, console)
    text = console.export_text()
    assert text.count("+7.0 %") == 2 * (len(FEATURES) - 1) and "81 %" in text and "10 rounds; 2" in text


def test_what_is_known_is_not_measured_again(monkeypatch):
    measured = []

    def instant(cell, direction, peers, *_, **__):
        measured.append((cell.shape, direction))
        return Measurement(cell, direction, {peer.name: Entry(peer.name, seconds=[1.0] * 3) for peer in peers}, [100.0] * 3, [True] * 3)

    monkeypatch.setattr(costs, "measure", instant)
    request = costs.Request(["fp32"], 1, 1.0)
    rows = costs.run(request, lambda *_: None)
    assert len(rows) == len(measured) == 2 * len(costs.SHAPES)
    again = costs.run(dataclasses.replace(request, done=tuple(rows[1:])), lambda *_: None)
    assert again == rows and measured[len(rows) :] == measured[:1]
