"""Masks as values: their rule against a brute-force reading of it, meet, hash, pictures, refusals."""

import fusedattn
import numpy
import pytest
from fusedattn import Mask, causal, window
from hypothesis import given, settings
from hypothesis import strategies as st

edges = st.one_of(st.none(), st.integers(-9, 9))
masks = st.builds(window, edges, edges, st.sampled_from(["bottom-right", "top-left"]))
lengths = st.integers(0, 9)


@settings(max_examples=100, deadline=None)
@given(edges, edges, st.booleans(), lengths, lengths)
def test_window_is_its_rule(left, right, bottom_right, q_len, kv_len):
    seen = window(left, right, "bottom-right" if bottom_right else "top-left").materialize(q_len, kv_len)
    assert seen.shape == (q_len, kv_len) and seen.dtype == bool
    for i in range(q_len):
        for j in range(kv_len):
            distance = j - i - (kv_len - q_len if bottom_right else 0)
            wanted = (left is None or distance >= -left) and (right is None or distance <= right)
            assert seen[i, j] == wanted


@settings(max_examples=100, deadline=None)
@given(masks, masks, masks, lengths, lengths)
def test_meet_shows_what_both_show(a, b, c, q_len, kv_len):
    both = (a & b).materialize(q_len, kv_len)
    numpy.testing.assert_array_equal(both, a.materialize(q_len, kv_len) & b.materialize(q_len, kv_len))
    assert a & b == b & a and hash(a & b) == hash(b & a)
    assert (a & b) & c == a & (b & c)
    assert a & a == a and a & Mask() == a


def test_causal_is_bottom_right_unless_asked():
    numpy.testing.assert_array_equal(causal().materialize(2, 4), numpy.tri(2, 4, 2, dtype=bool))
    numpy.testing.assert_array_equal(causal(align="top-left").materialize(2, 4), numpy.tri(2, 4, dtype=bool))


def test_a_mask_is_immutable():
    with pytest.raises(AttributeError):
        causal().top_left = None
    assert {causal(): 1}[window(None, 0)] == 1


def test_names_and_picture():
    assert str(causal()) == "causal()"
    assert str(window(3, 0)) == "window(3, 0)"
    assert str(causal("top-left") & window(None, 2)) == "window(None, 2) & causal(align='top-left')"
    assert str(Mask()) == "window(None, None)"
    assert repr(window(1, 0, align="top-left")).splitlines()[:3] == [
        "window(1, 0, align='top-left')",
        "█░░░░░░░░░",
        "██░░░░░░░░",
    ]
    assert causal().draw(2, 3) == "██░\n███"


def test_a_name_evaluates_to_its_mask():
    for mask in (causal(), window(-2, 5), causal("top-left") & window(3, None), Mask()):
        assert eval(str(mask), vars(fusedattn).copy()) == mask


def test_refusals():
    with pytest.raises(ValueError, match="align is 'centre'"):
        causal(align="centre")
    with pytest.raises(TypeError, match="left is 1.5"):
        window(1.5, 0)
    with pytest.raises(ValueError, match="right is"):
        window(0, 2**63)
    with pytest.raises(TypeError):
        causal() & 3
