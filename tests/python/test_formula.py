"""The float64 formulas themselves: finite differences on tiny sizes, and one formula by the other."""

import itertools

import golden
import numpy
import pytest
import torch
from fusedattn import _native, check_cases, checks, formula
from hypothesis import given, settings
from hypothesis import strategies as st

STEP = 1e-6
NAMES = ("softcap", "bias", "slopes", "sink", "keep", "seen")


def draw_terms(names, q_len=3, kv_len=4):
    """Terms of golden.attention for 2 heads."""
    made = dict(
        softcap=0.4,
        bias=golden.draw(2, q_len, kv_len).double(),
        slopes=torch.rand(2).double(),
        sink=golden.draw(2).double(),
        keep=(torch.rand(1, 2, q_len, kv_len) > 0.3) / 0.7,
        seen=torch.rand(q_len, kv_len) > 0.3,
    )
    return {name: made[name] for name in names}


def draw_tensors(q_len=3, kv_len=4):
    shapes = (1, 2, q_len, 5), (1, 1, kv_len, 5), (1, 1, kv_len, 3), (1, 2, q_len, 3)
    return [golden.draw(*shape).double() for shape in shapes]


def subsets():
    return itertools.chain.from_iterable(itertools.combinations(NAMES, n) for n in range(len(NAMES) + 1))


@pytest.mark.parametrize("names", list(subsets()), ids=str)
def test_gradients_are_finite_differences(names):
    q, k, v, d_out = draw_tensors()
    terms = draw_terms(names)
    inputs = {"q": q, "k": k, "v": v} | {name: terms[name] for name in ("bias", "sink") if name in terms}
    gradients = golden.gradients(q, k, v, d_out, **terms)

    def loss(changed):
        given = terms | {name: changed[name] for name in changed if name in terms}
        return (golden.attention(changed["q"], changed["k"], changed["v"], **given)[0] * d_out).sum()

    for (name, value), gradient in zip(inputs.items(), gradients, strict=True):
        for index in numpy.ndindex(*value.shape):
            ends = []
            for sign in (1, -1):
                moved = value.clone()
                moved[index] += sign * STEP
                ends.append(loss(inputs | {name: moved}))
            slope = (ends[0] - ends[1]) / (2 * STEP)
            torch.testing.assert_close(gradient[index], slope, rtol=1e-6, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(NAMES)), st.integers(0, 4), st.integers(0, 5), st.booleans(), st.booleans())
def test_the_formula_of_the_checks_is_torchs(names, q_len, kv_len, top_left, square_root):
    tensors, terms = draw_tensors(q_len, kv_len), draw_terms(names, q_len, kv_len)
    q, k, v, d_out = tensors
    slopes = terms.get("slopes")
    aligned = dict(top_left=top_left, square_root=square_root) if slopes is not None else {}
    wanted = golden.attention(q, k, v, scale=0.4, **terms, **aligned)
    gradients = dict(zip("qkv", golden.gradients(q, k, v, d_out, scale=0.4, **terms, **aligned)))
    found = {name: 0 for name in "kv"}
    for head in range(2):
        arrays = [q[0, head].numpy(), k[0, 0].numpy(), v[0, 0].numpy()]
        added = terms["bias"][head].numpy() if "bias" in terms else 0.0
        if slopes is not None:
            added = added + formula.alibi(float(slopes[head]), q_len, kv_len, top_left, square_root)
        own = formula.Terms(
            visible=terms["seen"].numpy() if "seen" in terms else None,
            added=added,
            sink=float(terms["sink"][head]) if "sink" in terms else None,
            kept=terms["keep"][0, head].numpy() if "keep" in terms else 1.0,
            softcap=terms.get("softcap", 0.0),
        )
        for got, want in zip(formula.forward(*arrays, 0.4, own), wanted, strict=True):
            numpy.testing.assert_allclose(got, want[0, head].numpy(), rtol=1e-12, atol=1e-14)
        dq, dk, dv = formula.backward(*arrays, d_out[0, head].numpy(), 0.4, own)
        numpy.testing.assert_allclose(dq, gradients["q"][0, head].numpy(), rtol=1e-10, atol=1e-13)
        found = {"k": found["k"] + dk, "v": found["v"] + dv}
    for name in "kv":
        numpy.testing.assert_allclose(found[name], gradients[name][0, 0].numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["bias", "sink"])
def test_score_gradients_are_those_of_bias_and_sink(name):
    q, k, v, d_out = draw_tensors()
    terms = draw_terms(("bias", "sink", "keep"))
    wanted = dict(zip(("bias", "sink"), golden.gradients(q, k, v, d_out, **terms)[3:]))[name]
    for head in range(2):
        kept = terms["keep"][0, head].numpy()
        own = formula.Terms(None, terms["bias"][head].numpy(), float(terms["sink"][head]), kept)
        arrays = [t.numpy() for t in (q[0, head], k[0, 0], v[0, 0], d_out[0, head])]
        found = formula.score_gradients(*arrays, 5**-0.5, own)
        found = found[:, :-1] if name == "bias" else found[:, -1].sum()
        numpy.testing.assert_allclose(found, wanted[head].numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("case", check_cases.CASES, ids=lambda case: case.name)
def test_every_case_says_how_its_sequences_lie(case):
    tensors = check_cases.inputs(case, "fp32")
    every = check_cases.sequences(case)
    assert [seq.index for seq in every] == list(range(len(every)))
    for seq, kept in zip(every, check_cases.kept(case), strict=True):
        assert check_cases.visible(case, tensors, seq).shape == seq.lengths
        assert len(kept) == case.heads[0] and (kept[0].shape == seq.lengths or not case.dropout)


@pytest.mark.parametrize("damage", ["d_bias", "d_sink"])
def test_checks_find_a_wrong_gradient(monkeypatch, damage):
    original = checks._computed

    def damaged(*arguments):
        result = original(*arguments)
        result[damage].flat[1] += 0.5
        return result

    monkeypatch.setattr(checks, "_computed", damaged)
    monkeypatch.setattr(checks, "CASES", checks.CASES[-1:])
    failed = {outcome.tensor for outcome in checks.run([_native.lane_chosen()]) if not outcome.passed}
    assert failed == {damage}
