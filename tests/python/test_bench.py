"""test_bench.py: the benchmark's arithmetic: visible pairs, floors, medians, and the formula."""

import dataclasses

import numpy as np
import pytest

from fusedattn import formula
from fusedattn.bench import cells, correct, floors
from fusedattn.bench.cells import Cell
from fusedattn.bench.measure import Entry, Measurement, measure
from fusedattn.bench.runner import Runner


@pytest.mark.parametrize("mask", ["none", "causal", "band"])
@pytest.mark.parametrize("length", [1, 49, 512, 700])
def test_visible_pairs_are_those_of_the_mask(mask, length):
    cell = Cell(1, 1, length, 8, mask=mask)
    visible = correct.visible_rows(cell, 0, length)
    assert cell.visible == (length**2 if visible is None else visible.sum())


def test_useful_work():
    assert Cell(2, 3, 100, 64).flops("forward") == 4 * 6 * 100**2 * 64
    assert Cell(2, 3, 100, 64).flops("backward") == 10 * 6 * 100**2 * 64


def test_a_cut_cell_keeps_its_work_per_head():
    cell = Cell(8, 16, 512, 64)
    small = cell.cut(1e9)
    assert small.whole == cell.shape and small.flops("forward") <= 1e9
    assert small.flops("forward") / (small.batch * small.heads) == cell.flops("forward") / 128
    assert cells.same_work(cell, small) and not cells.same_work(
        cell, dataclasses.replace(small, mask="causal")
    )


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,x", "1,2,3,0", "1,2,3,4:diagonal", "1,3:2,8,8", "1,2,0x3,4", "large"])
def test_cells_that_cannot_be_read_are_refused(text):
    with pytest.raises(ValueError, match="cell is .*accepted are headline, smoke, all"):
        cells.parse(text, ["fp32"], 1)


def test_cells_by_shape():
    assert cells.parse("1,2,3,4:causal", ["bf16"], 2) == [Cell(1, 2, 3, 4, "causal", "bf16", 2)]
    assert cells.parse("1,32:8,1x40,4", ["fp32"], 1) == [Cell(1, 32, 40, 4, kv_heads=8, rows=1)]
    assert cells.parse("1,2:2,40x40,4", ["fp32"], 1) == [Cell(1, 2, 40, 4)]
    for text in ("1,32:8,1x40,4", "1,32:8,40,4", "2,3,40,4"):
        assert cells.parse(text, ["fp32"], 1)[0].text() == text


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
    visible = correct.visible_rows(cell, 0, 60)
    np.testing.assert_allclose(got["out"][0], formula.forward(q, k, v, 8**-0.5, visible)[0], atol=1e-12)
    for name, want in zip(("dq", "dk", "dv"), formula.backward(q, k, v, d_out, 8**-0.5, visible)):
        np.testing.assert_allclose(got[name][0], want, atol=1e-12)


@pytest.mark.parametrize("mask", ["none", "causal", "band"])
def test_heads_of_a_group_share_a_key_head_and_rows_end_at_the_last_column(mask):
    cell = Cell(1, 6, 40, 8, mask=mask, kv_heads=2, rows=9)
    assert (cell.group, cell.q_shape, cell.kv_shape) == (3, (1, 6, 9, 8), (1, 2, 40, 8))
    visible = correct.visible_rows(cell, 0, 9)
    assert cell.visible == (9 * 40 if visible is None else visible.sum())
    assert visible is None or (visible[-1, -1] and not visible[-2, -1])
    runner = Runner("torch")
    runner.prepare(cell)
    inputs, outputs = runner.last_head(("forward", "backward"))
    assert inputs["q"].shape == (3, 9, 8) and inputs["k"].shape == outputs["dk"].shape == (1, 40, 8)
    correct.check("torch", cell, inputs, outputs, ("forward", "backward"))
    assert cell.sample().q_shape == (1, 3, 9, 8) and cell.sample().kv_shape == (1, 1, 40, 8)


def test_a_wrong_result_is_not_timed():
    cell = Cell(1, 1, 20, 4)
    inputs = dict(zip(("q", "k", "v", "d_out"), (x[None] for x in head(20, 20, 4, 4))))
    right = correct.expected(cell, *inputs.values(), ("forward",))
    correct.check("peer", cell, inputs, right, ("forward",))
    with pytest.raises(correct.WrongResult, match=r"peer on \[1,1,20,4\] none fp32: out is off"):
        correct.check("peer", cell, inputs, {"out": right["out"] * 1.001}, ("forward",))
    with pytest.raises(correct.WrongResult):
        correct.check("peer", cell, inputs, {"out": right["out"] * np.nan}, ("forward",))


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


def test_rounds_with_a_moving_limit_or_a_shared_cpu_are_discarded():
    limits = iter([100.0, 90.0] + [100.0] * 40)
    result = measure(Cell(1, 1, 10, 8), "forward", [Clockwork("ours", 1e-3)], lambda: next(limits), 0.0, 5)
    assert result.kept == [False, True, True]
    crowded = measure(Cell(1, 1, 10, 8), "forward", [Clockwork("ours", 1e-3, 0.5)], lambda: 100.0, 0.0, 5)
    assert not any(crowded.kept) and not crowded.steady


def row(length, dim, dtype, share, mask="none", threads=1, direction="forward"):
    return {
        "shape": [1, 2, length, dim],
        "square": True,
        "dtype": dtype,
        "direction": direction,
        "mask": mask,
        "threads": threads,
        "peers": {"ours": {"share_percent": share}},
    }


def test_floors():
    rows = [
        row(4096, 128, "fp32", 90),
        row(4096, 128, "fp16", 84),
        row(4096, 128, "fp32", 83, mask="causal"),
        row(4096, 128, "fp32", 86, threads=2),
        row(512, 64, "fp32", 10),
    ]
    floors.add(rows, "ours")
    assert [r["floor_percent"] for r in rows] == [85, 85, 82, pytest.approx(85.5), None]
    assert floors.missed(rows, "ours") == [rows[1]]
