"""test_bench.py: the benchmark's arithmetic: visible pairs, medians, goals, and the formula."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from fusedattn import formula
from fusedattn.bench import cells, command, correct, goals, grids, session, stages
from fusedattn.bench.cells import Cell
from fusedattn.bench.inputs import arrays, visible_rows
from fusedattn.bench.measure import Entry, Measurement, measure
from fusedattn.bench.peers import OURS, TORCH_INTEL, PeerError
from fusedattn.bench.rest import Rest
from fusedattn.bench.runner import Runner


@pytest.mark.parametrize("mask", ["none", "causal", "band"])
@pytest.mark.parametrize("length", [1, 49, 512, 700])
def test_visible_pairs_are_those_of_the_mask(mask, length):
    cell = Cell(1, 1, length, 8, mask=mask)
    visible = visible_rows(cell, 0, length)
    assert cell.visible() == (length**2 if visible is None else visible.sum())


def test_useful_work():
    assert Cell(2, 3, 100, 64).flops("forward") == 4 * 6 * 100**2 * 64
    assert Cell(2, 3, 100, 64).flops("backward") == 10 * 6 * 100**2 * 64


def test_a_padded_batch_sees_from_half_to_all_of_the_columns():
    cell = Cell(4, 3, 64, 8, mask="padding")
    seen = [visible_rows(cell, 0, 64, b).sum() for b in range(4)]
    assert seen == [64 * columns for columns in (32, 40, 48, 56)] == [cell.visible(b) for b in range(4)]
    assert cell.flops("forward") == 4 * 8 * 3 * sum(seen)


def test_a_cell_with_fewer_heads_has_the_first_heads_of_the_other():
    cell = Cell(2, 6, 20, 4, kv_heads=3)
    for name, x in arrays(cell.sample()).items():
        assert (x == arrays(cell)[name][:1, : x.shape[1]]).all()


def test_a_cut_cell_keeps_its_work_per_head():
    cell = Cell(8, 16, 512, 64)
    small = cell.cut(1e9)
    assert small.whole == cell.shape and small.flops("forward") <= 1e9
    assert small.flops("forward") / (small.batch * small.heads) == cell.flops("forward") / 128
    grouped = Cell(1, 32, 4096, 128, kv_heads=8).cut(1e9)
    assert (grouped.heads, grouped.kv_heads, grouped.whole) == (4, 1, (1, 32, 4096, 128))


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,x", "1,2,3,0", "1,2,3,4:diagonal", "1,3:2,8,8", "1,2,0x3,4", "large"])
def test_cells_that_cannot_be_read_are_refused(text):
    with pytest.raises(ValueError, match="shape is .*--cells takes goals and full"):
        cells.parse(text, ["fp32"], 1)


@pytest.mark.parametrize(("name", "short"), [("1,2,30,4", "1,2,8,4"), ("1,2,3x30,4", "1,2,3x8,4"), ("1,2,30x5,4", "1,2,8x5,4"), ("1,2,9x30,4", "1,2,8,4")])
def test_a_shortened_cell_keeps_its_form(name, short):
    assert cells.parse(name, ["fp32"], 1)[0].shortened(8).name() == short


def test_cells_by_shape():
    assert cells.parse("1,2,3,4:causal", ["bf16"], 2) == [Cell(1, 2, 3, 4, "causal", "bf16", 2)]
    assert cells.parse("1,32:8,1x40,4", ["fp32"], 1) == [Cell(1, 32, 40, 4, kv_heads=8, rows=1)]
    assert cells.parse("1,2:2,40x40,4", ["fp32"], 1) == [Cell(1, 2, 40, 4)]
    for text in ("1,32:8,1x40,4", "1,32:8,40,4", "2,3,40,4:padding", "2,3,40,4:dropout", "2,3,40,4:band:dropout"):
        assert cells.parse(text, ["fp32"], 1)[0].name() == text


def test_each_job_is_measured_once():
    jobs = grids.select(["1,2,3,4", "1,2,3,4", "1,2,3,4:causal"], ["fp32", "bf16"], 1, ("forward",))
    assert [(cell.name(), cell.dtype) for cell, _ in jobs] == [("1,2,3,4", "fp32"), ("1,2,3,4", "bf16"), ("1,2,3,4:causal", "fp32"), ("1,2,3,4:causal", "bf16")]
    full = grids.select(["full"], ["fp32"], 1, ("forward", "backward"))
    assert len(full) == len(set(full)) > 60 and all(direction == "forward" for cell, direction in full if cell.q_len in (1, 8))


def head(rows, columns, dim, dim_v, seed=0):
    generator = np.random.default_rng(seed)
    shapes = [(rows, dim), (columns, dim), (columns, dim_v), (rows, dim_v)]
    return [generator.standard_normal(shape) for shape in shapes]


def test_the_formula_has_the_gradients_of_its_own_forward():
    q, k, v, d_out = head(5, 7, 3, 4)
    visible = np.tril(np.ones((5, 7), bool), 1)
    gradients = formula.backward(q, k, v, d_out, 0.7, visible)
    step = 1e-6
    for tensor, gradient in zip((q, k, v), gradients):
        for at in np.ndindex(tensor.shape):
            values = []
            for change in (step, -step):
                tensor[at] += change
                values.append((formula.forward(q, k, v, 0.7, visible)[0] * d_out).sum())
                tensor[at] -= change
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(gradient[at], abs=1e-7)


def test_the_formula_gives_nothing_to_a_row_that_sees_nothing():
    q, k, v, d_out = head(3, 4, 2, 2)
    visible = np.array([[True] * 4, [False] * 4, [True] * 4])
    out, row_max, row_sum = formula.forward(q, k, v, 1.0, visible)
    assert (out[1] == 0).all() and row_max[1] == formula.LOWEST and row_sum[1] == formula.LARGEST
    dq, _, _ = formula.backward(q, k, v, d_out, 1.0, visible)
    assert (dq[1] == 0).all()


@pytest.mark.parametrize("mask", ["none", "causal", "band"])
def test_blocks_of_rows_add_up_to_the_whole(mask, monkeypatch):
    cell = Cell(1, 1, 60, 8, mask=mask)
    monkeypatch.setattr(correct, "ROWS", 25)
    q, k, v, d_out = head(60, 60, 8, 8)
    got = correct.expected(cell, *(x[None] for x in (q, k, v, d_out)), ("forward", "backward"))
    visible = visible_rows(cell, 0, 60)
    np.testing.assert_allclose(got["out"][0], formula.forward(q, k, v, 8**-0.5, visible)[0], atol=1e-12)
    for name, want in zip(("dq", "dk", "dv"), formula.backward(q, k, v, d_out, 8**-0.5, visible)):
        np.testing.assert_allclose(got[name][0], want, atol=1e-12)


@pytest.mark.parametrize("mask", ["none", "causal", "band"])
def test_heads_of_a_group_share_a_key_head_and_rows_end_at_the_last_column(mask):
    cell = Cell(1, 6, 40, 8, mask=mask, kv_heads=2, rows=9)
    assert (cell.group, cell.q_shape, cell.kv_shape) == (3, (1, 6, 9, 8), (1, 2, 40, 8))
    visible = visible_rows(cell, 0, 9)
    assert cell.visible() == (9 * 40 if visible is None else visible.sum())
    assert visible is None or (visible[-1, -1] and not visible[-2, -1])
    both = ("forward", "backward")
    runner = Runner("torch")
    runner.prepare(cell)
    outputs = runner.first_head(both)
    assert outputs["out"].shape == (3, 9, 8) and outputs["dk"].shape == (1, 40, 8)
    errors = correct.check("torch", cell, correct.first_head(cell, both), outputs)
    assert set(errors) == {"out", "dq", "dk", "dv"}
    assert cell.sample().q_shape == (1, 3, 9, 8) and cell.sample().kv_shape == (1, 1, 40, 8)


def test_a_wrong_result_is_not_timed():
    cell = Cell(1, 1, 20, 4)
    right = correct.first_head(cell, ("forward",))
    correct.check("peer", cell, right, right)
    with pytest.raises(correct.WrongResult, match=r"peer on \[1,1,20,4\] fp32: out is off"):
        correct.check("peer", cell, right, {"out": right["out"] * 1.001})
    with pytest.raises(correct.WrongResult):
        correct.check("peer", cell, right, {"out": right["out"] * np.nan})


def test_medians_over_the_steady_rounds():
    cell = Cell(1, 1, 1000, 64)
    seconds = cell.flops("forward") / 1e11  # 100 GFLOP/s
    ours = Entry("ours", seconds=[seconds, 2 * seconds, seconds, seconds, 9 * seconds])
    peer = Entry("peer", seconds=[2 * seconds, 4 * seconds, 3 * seconds, 2 * seconds, seconds])
    kept = [True, True, True, True, False]
    result = Measurement(cell, "forward", {"ours": ours, "peer": peer}, [200.0] * 5, kept)
    assert result.steady
    assert result.seconds("ours") == pytest.approx(seconds)
    assert result.share("ours") == pytest.approx(50)
    middle, low, high = result.ratio("peer", "ours")
    assert middle == pytest.approx(2) and low == pytest.approx(2) and 2 <= high <= 3


def test_a_restless_machine_counts_every_round_and_says_so():
    cell = Cell(1, 1, 100, 8)
    result = Measurement(
        cell, "forward", {"ours": Entry("ours", seconds=[1.0, 2.0, 3.0])}, [1.0] * 3, [False, True, False]
    )
    assert not result.steady
    assert result.seconds("ours") == 2.0


class Clockwork:
    """A peer whose calls take known times."""

    def __init__(self, name, seconds_per_head, cpu_share=1.0):
        self.name, self.rate, self.cpu_share, self.heads = name, seconds_per_head, cpu_share, []

    def prepare(self, cell):
        self.cell = cell

    def time(self, direction, calls):
        self.heads.append(self.cell.heads)
        return self.rate * self.cell.heads * self.cell.batch, self.cpu_share


def test_slow_peers_are_timed_on_one_head_and_very_slow_ones_once():
    fast, slow, crawling = Clockwork("fast", 0.01), Clockwork("slow", 0.5), Clockwork("crawling", 20.0)
    result = measure(Cell(1, 8, 100, 8), "forward", [fast, slow, crawling], lambda: 100.0, 0.05, 5)
    assert result.seconds("fast") == pytest.approx(0.08) and not result.entries["fast"].once
    assert result.seconds("slow") == pytest.approx(4.0) and set(slow.heads) == {1}
    assert result.seconds("crawling") == pytest.approx(160.0) and crawling.heads == [1]
    assert result.ratio("crawling", "fast")[0] == pytest.approx(2000)


def test_the_first_peer_is_timed_beside_each_of_the_others():
    turns = []

    class Uneven(Clockwork):
        def time(self, direction, calls):
            turns.append(self.name)
            return self.rate * (9 if turns.count("ours") % 3 == 0 else 1), 1.0

    peers = [Uneven(name, 1e-3) for name in ("ours", "a", "b")]
    result = measure(Cell(1, 1, 10, 8), "forward", peers, lambda: 100.0, 0.0, 5)
    assert turns[6:16] == ["ours", "a", "ours", "b", "ours", "ours", "b", "ours", "a", "ours"]  # after two calls each to warm up
    assert result.entries["ours"].seconds == [1e-3] * 3


def test_rounds_with_a_moving_limit_or_a_shared_cpu_are_discarded():
    limits = iter([100.0, 90.0] + [100.0] * 40)
    result = measure(Cell(1, 1, 10, 8), "forward", [Clockwork("ours", 1e-3)], lambda: next(limits), 0.0, 5)
    assert result.kept == [False, True, True]
    crowded = measure(Cell(1, 1, 10, 8), "forward", [Clockwork("ours", 1e-3, 0.5)], lambda: 100.0, 0.0, 5)
    assert not any(crowded.kept) and not crowded.steady


def test_rounds_on_cores_that_are_not_ours_alone_are_discarded():
    readings = iter([1.0, 0.5, 0.99, 0.98, 0.5, 1.0])
    rest = Rest(lambda: (next(readings),))
    result = measure(Cell(1, 1, 10, 8), "forward", [Clockwork("ours", 1e-3)], lambda: 100.0, 0.0, 5, rest)
    assert result.kept == [False, True, False] and result.readings == [(0.5,), (0.98,), (0.5,)] and not result.steady


def test_what_is_at_rest_by_the_best_reading_of_all_measurements():
    def measured(steady, threads, *rest):
        return {"steady": steady, "threads": threads, "rest": list(rest)}

    quiet, loud, shared, other = measured(True, 1, 0.7, 99.0), measured(True, 1, 0.65, 99.0), measured(True, 1, 0.7, 90.0), measured(True, 2, 0.6, 70.0)
    assert session.rested([loud, shared, quiet, other, measured(False, 1, 0.7, 99.0)]) == (quiet, other)
    assert session.rested([{"steady": True, "threads": 1}]) == ({"steady": True, "threads": 1},)


def test_rest_is_about_the_best_seen_of_every_reading():
    readings = iter([(0.70, 9.9), (0.66, 10.0), (0.71, 9.0), (0.71, 9.8), (0.69, 10.0), (0.66, 10.0), (0.66, 8.0), (0.70, 9.7)])
    rest = Rest(lambda: next(readings))
    assert [rest.wait(0.0) for _ in range(5)] == [True, False, False, True, True]
    assert rest.wait(60.0) and next(readings, None) is None


def test_rest_knows_an_earlier_best():
    readings = iter([(0.66, 9.0), (0.69, 10.0)])
    rest = Rest(lambda: next(readings), known=(0.71, 10.0))
    assert [rest.wait(0.0), rest.wait(0.0)] == [False, True]


def test_rest_does_not_believe_one_reading_in_many():
    readings = iter([(1.4,)] + [(0.7,)] * 30)
    rest = Rest(lambda: next(readings))
    assert [rest.wait(0.0) for _ in range(30)] == [True] + [False] * 10 + [True] * 19


class Failing(Clockwork):
    """A peer whose process ends in the middle of a cell."""

    def time(self, direction, calls):
        raise PeerError("the process ended")


def test_a_peer_that_fails_is_left_out_and_the_reason_kept():
    result = measure(Cell(1, 1, 10, 8), "forward", [Clockwork("ours", 1e-3), Failing("theirs", 1e-3)], lambda: 100.0, 0.0, 5)
    assert list(result.entries) == ["ours"] and result.refusals == {"theirs": "the process ended"}
    row = session.record(result, "ours", bandwidth=10.0)
    assert row["peers"]["theirs"] == {"refusal": "the process ended", "seconds": None}


def row(name, dtype, share, direction="forward", threads=1, **seconds):
    cell = cells.parse(name, [dtype], threads)[0]
    peers = {peer: {"seconds": value, "share_percent": share / value} for peer, value in seconds.items()}
    peers[OURS] = {"seconds": 1.0, "share_percent": share, "roofline_percent": share}
    return {"name": name, "shape": list(cell.shape), "mask": cell.mask, "dtype": dtype, "direction": direction, "threads": threads, "peers": peers}


def judged(rows, lane="avx512", costs=()):
    report = {"machine": {"lane": lane}, "results": rows, "costs": list(costs)}
    return {(line["goal"], line["of"]): line for line in goals.judge(report)}


def test_goals_of_the_limit_have_a_floor_and_a_target():
    rows = [row("1,1,4096,128", "fp32", 89.0), row("1,4,2048,64", "fp32", 88.5), row("1,1,4096,128", "bf16", 91.0)]
    marks = {goal: line["mark"] for (goal, of), line in judged(rows).items() if of == goals.SHARE}
    assert marks == {"forward float32, D=128": "missed", "forward float32, D=64": "floor", "forward bfloat16, D=128": "target"}
    narrow = judged(rows, lane="avx2")["forward float32, D=128", goals.SHARE]
    assert (narrow["floor"], narrow["target"], narrow["mark"]) == (88, 93, "floor")


def test_goals_of_peers_take_the_median_and_the_best_other():
    rows = [row("1,1,4096,128", "fp32", 80.0, torch=2.0, jax=9.0, **{TORCH_INTEL: 1.5}), row("1,4,2048,64", "fp32", 80.0, torch=0.8, **{TORCH_INTEL: 0.9})]
    lines = judged(rows)
    assert lines["float32 forward, uncut", goals.TORCH]["measured"] == pytest.approx(1.4)
    assert lines["float32 forward, uncut", goals.TORCH]["possible"] == pytest.approx(1.4 / 0.8)
    best = lines["float32 forward, uncut", goals.BEST]
    assert (best["measured"], best["worst"], best["mark"]) == (pytest.approx(1.2), 0.9, "target")


def test_torch_is_among_the_others_where_it_comes_at_its_best():
    assert judged([row("1,1,4096,128", "fp32", 80.0, torch=1.5, jax=9.0)])["float32 forward, uncut", goals.BEST]["measured"] == 1.5


def test_a_training_step_adds_both_directions():
    rows = [row("1,4,4096,64:band", "fp32", 80.0, direction, torch=seconds) for direction, seconds in (("forward", 10.0), ("backward", 30.0))]
    assert judged(rows)["band of 512, S=4096, training step", goals.STEP]["measured"] == 20.0


def test_several_threads_are_held_against_one():
    rows = [row("1,2,4096,128", "fp32", 76.0, threads=2), row("1,1,4096,128", "fp32", 80.0)]
    assert judged(rows)["two threads, several heads", goals.SCALED]["measured"] == pytest.approx(95)


def test_costs_are_held_against_what_they_are_compared_with():
    cost = {"dtype": "fp32", "direction": "forward", "cost": {"plain": [1.0, 1, 1], "causal": [1.1, 1, 1], "window of 512": [1.21, 1, 1]}}
    line = judged([], costs=[cost])["window of 512, over causal", goals.COST]
    assert line["measured"] == pytest.approx(10) and line["mark"] == "floor"


def test_every_goal_is_about_something_that_is_measured():
    names = {(cell.name(), cell.threads) for cell, _ in goals.jobs(cpus=2)}
    assert all((name, goal.threads) in names for goal in goals.GOALS if goal.of != goals.COST for name in goal.cells)
    assert not any(threads > 1 for _, threads in {(c.name(), c.threads) for c, _ in goals.jobs(cpus=1)})


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("1,1,8,8", ["████"] * 4),
        ("1,1,8,8:causal", ["▒···", "█▒··", "██▒·", "███▒"]),
        ("2,1,8,8:padding", ["██··"] * 4),
        ("1,1,4x8,8:causal", ["██▒·", "███▒"]),
    ],
)
def test_the_plan_is_drawn(name, picture):
    assert stages.draw(cells.parse(name, ["fp32"], 1)[0], [2, 2]) == picture


def test_a_chart_leaves_out_what_a_peer_refused(tmp_path):
    pytest.importorskip("matplotlib")
    from fusedattn.bench import chart

    results = [
        {"name": "1,1,16,64", "dtype": "fp32", "direction": "forward", "threads": 1, "peers": peers}
        for peers in ({"torch": {"refusal": "too wide", "seconds": None}}, {"torch": {"share_percent": 50.0}, "JAX": {"share_percent": 40.0}})
    ]
    chart.save({"machine": {"cpu": "a CPU", "lane": "avx2"}, "results": results}, tmp_path / "chart.svg")
    assert (tmp_path / "chart.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(("page", "machine"), [("performance", "zen4-avx512"), ("performance_avx2", "zen3-avx2")])
def test_the_pages_have_what_the_committed_results_say(page, machine):
    root = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location("report", root / "bench" / "report.py")
    report = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)
    of_goals, of_grid = (report.read(*sorted((root / "bench" / "results").glob(f"{machine}-{name}*.json"))) for name in ("goals", "grid"))
    text = (root / "docs" / f"{page}.md").read_text()
    assert report.page(text, of_goals, of_grid) == text
    assert json.loads(command.as_text(of_goals)) == of_goals
