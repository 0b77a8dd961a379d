"""Masks as values: their rule against a brute-force reading of it, meet, hash, pictures, refusals."""

import fusedattn
import golden
import numpy
import pytest
import torch
from fusedattn import Mask, causal, prefix, window
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


aligned = st.sampled_from(["bottom-right", "top-left"])
before = st.one_of(st.integers(0, 9), st.lists(st.integers(0, 9), min_size=2, max_size=2))
prefixes = st.builds(prefix, before)
from_the_left = st.builds(window, st.none(), edges, aligned)
joined = st.one_of(masks, prefixes, st.builds(lambda a, b: a | b, from_the_left, prefixes))


def shown_by(mask, q_len, kv_len):
    """[2, q_len, kv_len] by the rule, not by the mask's own reading of it."""
    i, j, shift = numpy.arange(q_len)[:, None], numpy.arange(kv_len), kv_len - q_len
    inside = numpy.ones((q_len, kv_len), bool)
    for band, diagonal in ((mask.top_left, i), (mask.bottom_right, i + shift)):
        inside &= (diagonal - j <= band.left) & (j - diagonal <= band.right)
    lengths = 0 if mask.prefix is None else mask.prefix
    return inside | (j < numpy.broadcast_to(lengths, 2)[:, None, None])


def as_two(seen):
    return numpy.broadcast_to(seen, (2, *seen.shape[-2:]))


@settings(max_examples=200, deadline=None)
@given(joined, joined, lengths, lengths)
def test_prefixes_join_and_meet_or_are_refused(a, b, q_len, kv_len):
    shown = [as_two(mask.materialize(q_len, kv_len)) for mask in (a, b)]
    for mask, seen in zip((a, b), shown):
        numpy.testing.assert_array_equal(seen, shown_by(mask, q_len, kv_len))
    for way, combine in ((lambda: a | b, numpy.logical_or), (lambda: a & b, numpy.logical_and)):
        try:
            both = way()
        except ValueError as refusal:
            assert "accepted are" in str(refusal)
            continue
        numpy.testing.assert_array_equal(as_two(both.materialize(q_len, kv_len)), combine(*shown))
        assert eval(str(both), vars(fusedattn).copy()) == both and hash(both) == hash(both)


@settings(max_examples=100, deadline=None)
@given(from_the_left, prefixes, prefixes)
def test_laws_of_the_prefix(band, a, b):
    assert a | b == b | a and a & b == b & a
    assert band | a == a | band and (band | a) | b == band | (a | b)
    assert a | a == a and a & a == a and a & Mask() == a and a | Mask() == Mask()
    assert (band | a) & (band | a) == band | a


@settings(max_examples=60, deadline=None)
@given(st.one_of(prefixes, st.builds(lambda a, b: a | b, from_the_left, prefixes)), lengths, lengths)
def test_attention_sees_what_the_mask_says(mask, q_len, kv_len):
    q, k = golden.draw(2, 2, q_len, 8), golden.draw(2, 1, kv_len, 8)
    seen = torch.from_numpy(as_two(mask.materialize(q_len, kv_len)).copy())[:, None]
    out, row_max, row_sum = fusedattn.attention(q, k, k, mask=mask, return_stats=True)
    wanted = golden.attention(q, k, k, seen)
    golden.assert_close(out, wanted[0])
    golden.assert_statistics(row_max, row_sum, *wanted[1:])


def test_forms_of_a_prefix():
    wanted = prefix([3, 4])
    for form in ((3, 4), numpy.array([3, 4], numpy.int32), torch.tensor([3, 4])):
        assert prefix(form) == wanted
    assert prefix(numpy.int64(3)) == prefix(torch.tensor(3)) == prefix(3)
    assert causal() | prefix(0) == Mask(bottom_right=(None, 0), prefix=0)


def test_names_and_pictures_of_a_prefix():
    assert str(prefix(3)) == "prefix(3)" and str(prefix([3, 4])) == "prefix([3, 4])"
    assert str(causal() & causal("top-left") | prefix(2)) == "causal() & causal(align='top-left') | prefix(2)"
    assert (causal() | prefix(2)).draw(3, 3) == "██░\n██░\n███"
    both = causal() | prefix([0, 2])
    assert both.draw(3, 3) == causal().draw(3, 3) and both.draw(3, 3, sequence=1) == "██░\n██░\n███"
    assert repr(prefix([1])).startswith("prefix([1])\n█░░░")
    with pytest.raises(ValueError, match="sequence is 2; accepted are 0 to 1"):
        both.draw(sequence=2)


def test_a_prefix_of_any_call():
    q, k = golden.draw(2, 2, 5, 8), golden.draw(2, 2, 7, 8)
    each = fusedattn.attention(q, k, k, mask=causal("top-left") | prefix([3, 3]))
    assert torch.equal(fusedattn.attention(q, k, k, mask=causal("top-left") | prefix(3)), each)
    padding = torch.arange(7) < torch.tensor([7, 4])[:, None]
    wanted = fusedattn.attention(q, k, k, mask=padding[:, None, None, :])
    assert torch.equal(fusedattn.attention(q, k, k, mask=prefix([70, 4])), wanted)


REFUSED = [
    (lambda: prefix(-1), ValueError, "prefix is -1; accepted are integers from 0 on"),
    (lambda: prefix([1, -1]), ValueError, r"prefix\[1\] is -1"),
    (lambda: prefix(1.5), TypeError, "prefix is 1.5; accepted is an integer, or one for each sequence"),
    (lambda: prefix("3"), TypeError, "prefix is '3'"),
    (lambda: prefix(True), TypeError, "prefix is True"),
    (lambda: prefix([1, 2.5]), TypeError, r"prefix\[1\] is 2.5"),
    (
        lambda: window(3, 0) | prefix(2),
        ValueError,
        "prefix is 2 beside a band whose left edge is 3; accepted",
    ),
    (lambda: Mask(top_left=(4, None), prefix=2), ValueError, "left edge is 4"),
    (lambda: causal() & prefix(2), ValueError, r"\(causal\(\)\) & \(prefix\(2\)\): no bands and prefix"),
    (lambda: window(1, 3) | window(3, 1), ValueError, "neither's bands show all"),
    (lambda: prefix([1, 2]) | prefix([1, 2, 3]), ValueError, "prefix has 2 and 3 lengths"),
    (lambda: causal() | 3, TypeError, "unsupported operand"),
]


@pytest.mark.parametrize(("make", "error", "sentence"), REFUSED, ids=[sentence for *_, sentence in REFUSED])
def test_refusals_of_a_prefix(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()


def test_a_prefix_for_other_sequences():
    q = torch.ones(2, 1, 3, 8)
    for door in (lambda t: t, lambda t: t.numpy()):
        with pytest.raises(ValueError, match=r"prefix has shape \(3,\); accepted is \(2,\)"):
            fusedattn.attention(*[door(q)] * 3, mask=prefix([1, 2, 3]))


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


def test_lengths_below_zero_are_refused():
    with pytest.raises(ValueError, match="^kv_len is -1; accepted are 0 and positive integers$"):
        causal().materialize(3, -1)
    with pytest.raises(ValueError, match="^q_len is -1; accepted are 0 and positive integers$"):
        causal().draw(-1, 3)
