"""Dropout: the mask of a seed, whose seed governs a call, and what is refused."""

import fusedattn
import golden
import numpy
import pytest
import torch
from fusedattn import causal, dropout_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from sides import draw_qkv, run

SHAPE = (2, 4, 2, 33, 57, 16, 16)


def philox_7(counter, key):
    """Philox4x32 with 7 rounds, in Python's integers: 4 words of 4 and 2 words."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(7):
        left, right = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1 = (right >> 32) ^ c1 ^ k0, right & 0xFFFFFFFF
        c2, c3 = (left >> 32) ^ c3 ^ k1, left & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def kept_by_the_rule(element, keep_prob, seed, offset):
    block, low = element // 8, 0xFFFFFFFF
    words = philox_7((block & low, block >> 32, offset & low, offset >> 32), (seed & low, seed >> 32))
    u = words[element % 8 // 2] >> 16 * (element % 2) & 0xFFFF
    return u < int(numpy.float32(keep_prob) * numpy.float64(65536) + 0.5)


words_64 = st.integers(0, 2**64 - 1)


@settings(max_examples=60, deadline=None)
@given(words_64, words_64, st.floats(0, 1, exclude_max=True), st.integers(0, 70))
def test_the_mask_is_its_rule(seed, offset, dropout_p, count):
    found = dropout_mask((count,), dropout_p, seed, offset)
    wanted = [kept_by_the_rule(e, 1 - dropout_p, seed, offset) for e in range(count)]
    assert found.dtype == bool and found.tolist() == wanted


def test_the_mask_is_flat_in_its_shape():
    flat = dropout_mask((2 * 3 * 5 * 7,), 0.4, 11)
    numpy.testing.assert_array_equal(dropout_mask((2, 3, 5, 7), 0.4, 11).ravel(), flat)
    numpy.testing.assert_array_equal(dropout_mask((50,), 0.4, 11), flat[:50])
    assert dropout_mask((0, 4), 0.4, 1).shape == (0, 4)


@pytest.mark.parametrize("dropout_p", [0.1, 0.5, 0.9])
def test_as_many_are_kept_as_asked(dropout_p):
    kept = dropout_mask((4, 250, 1000), dropout_p, 2)
    assert abs(kept.mean() - (1 - dropout_p)) < 4 * (dropout_p * (1 - dropout_p) / kept.size) ** 0.5 + 2**-16
    assert abs(numpy.corrcoef(kept[0].ravel(), kept[1].ravel())[0, 1]) < 0.01


def test_equal_seeds_and_others():
    tensors = draw_qkv(SHAPE)
    first = run(*tensors, dropout_p=0.3, dropout_seed=4)
    for same in (4, numpy.int64(4), torch.tensor(4), (4, 0)):
        again = run(*tensors, dropout_p=0.3, dropout_seed=same)
        assert all(torch.equal(a, b) for a, b in zip(again, first, strict=True))
    for other in (5, (4, 1), 4 + 2**40, -4):
        assert not torch.equal(run(*tensors, dropout_p=0.3, dropout_seed=other)[0], first[0])
    assert torch.equal(*(run(*tensors, dropout_p=0.3, dropout_seed=seed)[0] for seed in (2**64 - 4, -4)))


def test_torchs_seed_governs():
    q, k, v, _ = draw_qkv(SHAPE)

    def three():
        torch.manual_seed(8)
        return [fusedattn.attention(q, k, v, dropout_p=0.3) for _ in range(3)]

    once, again = three(), three()
    assert all(torch.equal(a, b) for a, b in zip(once, again))
    assert not torch.equal(once[0], once[1]) and not torch.equal(once[1], once[2])


def test_nothing_is_drawn_without_need():
    q, k, v, _ = draw_qkv(SHAPE)
    state = torch.get_rng_state()
    wanted = fusedattn.attention(q, k, v)
    for arguments in (dict(dropout_p=0), dict(dropout_p=0.0, dropout_seed=3)):
        assert torch.equal(fusedattn.attention(q, k, v, **arguments), wanted)
    fusedattn.attention(q, k, v, dropout_p=0.5, dropout_seed=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_backward_drops_the_same():
    """sum(out * d_out) is linear in v: its gradient gives the very output."""
    q, k, v, d_out = draw_qkv(SHAPE)
    v.requires_grad_()
    out = fusedattn.attention(q, k, v, dropout_p=0.4)
    (gradient,) = torch.autograd.grad(out, v, d_out)
    torch.testing.assert_close((gradient * v).sum(), (out * d_out).sum(), rtol=1e-4, atol=1e-4)


def test_under_checkpointing():
    tensors = draw_qkv(SHAPE)
    leaves = [t.requires_grad_() for t in tensors[:3]]

    def attend(q, k, v):
        return fusedattn.attention(q, k, v, dropout_p=0.4)

    torch.manual_seed(3)
    wanted = torch.autograd.grad(attend(*leaves), leaves, tensors[3])
    torch.manual_seed(3)
    out = torch.utils.checkpoint.checkpoint(attend, *leaves, use_reentrant=False)
    for a, b in zip(torch.autograd.grad(out, leaves, tensors[3]), wanted):
        assert torch.equal(a, b)


def test_rows_whose_probabilities_are_all_dropped():
    q, k, v, d_out = draw_qkv((1, 2, 2, 200, 2, 8, 8))
    out, _, row_sum, *_ = run(q, k, v, d_out, dropout_p=0.9, dropout_seed=1)
    dropped = ~torch.from_numpy(dropout_mask((1, 2, 200, 2), 0.9, 1)).any(-1)
    assert dropped.any() and (out[dropped] == 0).all() and (row_sum >= 1).all()


def test_statistics_are_those_of_all():
    tensors = draw_qkv(SHAPE)
    for a, b in zip(run(*tensors, dropout_p=0.5, mask=causal())[1:3], run(*tensors, mask=causal())[1:3]):
        assert torch.equal(a, b)


REFUSED = [
    (dict(dropout_p=1.0), ValueError, "dropout_p is 1.0; accepted are numbers from 0 .* to below 1"),
    (dict(dropout_p=-0.1), ValueError, "dropout_p is -0.1"),
    (dict(dropout_p=float("nan")), ValueError, "dropout_p is nan"),
    (dict(dropout_p="0.1"), TypeError, "dropout_p is '0.1'; accepted is a number"),
    (dict(dropout_p=True), TypeError, "dropout_p is True"),
    (dict(dropout_p=None), TypeError, "dropout_p is None"),
    (
        dict(dropout_p=0.5, dropout_seed=1.5),
        TypeError,
        "dropout_seed is 1.5; accepted is an integer",
    ),
    (dict(dropout_p=0.5, dropout_seed=2**64), ValueError, "dropout_seed is 18446744073709551616; .* within 64"),
    (dict(dropout_seed="a"), TypeError, "dropout_seed is 'a'"),
    (
        dict(dropout_p=0.5, dropout_seed=(1, 2, 3)),
        TypeError,
        r"dropout_seed is \(1, 2, 3\); .*\(seed, offset\)",
    ),
    (dict(dropout_p=0.5, dropout_seed=(1, "b")), TypeError, r"dropout_seed\[1\] is 'b'"),
]


@pytest.mark.parametrize("door", [lambda t: t, lambda t: t.numpy()], ids=["torch", "numpy"])
@pytest.mark.parametrize(("given", "error", "sentence"), REFUSED, ids=[r[-1] for r in REFUSED])
def test_refusals(door, given, error, sentence):
    q, k, v, _ = (door(t) for t in draw_qkv(SHAPE))
    with pytest.raises(error, match=sentence):
        fusedattn.attention(q, k, v, **given)


def test_arrays_need_a_seed():
    q, k, v, _ = (t.numpy() for t in draw_qkv(SHAPE))
    with pytest.raises(ValueError, match="dropout_seed is None; accepted with NumPy arrays is an integer"):
        fusedattn.attention(q, k, v, dropout_p=0.1)


def test_masks_that_are_refused():
    with pytest.raises(ValueError, match=r"shape\[1\] is -2"):
        dropout_mask((3, -2), 0.1, 0)
    with pytest.raises(ValueError, match="dropout_p is 1.5"):
        dropout_mask((3,), 1.5, 0)
    with pytest.raises(TypeError, match="seed is None"):
        dropout_mask((3,), 0.5, None)
    with pytest.raises(TypeError, match="^offset is 'x'; accepted is an integer$"):
        dropout_mask((3,), 0.5, 1, "x")
    with pytest.raises(ValueError, match="^seed is 18446744073709551616; accepted is an integer within"):
        dropout_mask((3,), 0.5, 2**64)
    for shape in ((2**40, 2**40), (0, 2**62, 4)):
        with pytest.raises(ValueError, match=r"shape is \(.*\); accepted are at most 2\^63 - 1 elements"):
            dropout_mask(shape, 0.5, 1)


def test_the_mean_of_many_draws_is_the_attention_without():
    q, k, v, _ = draw_qkv((1, 2, 2, 5, 9, 16, 16))
    many = [t.repeat(1500, 1, 1, 1) for t in (q, k, v)]
    draws = [fusedattn.attention(*many, dropout_p=0.3, dropout_seed=s) for s in (1, 2)]
    mean = torch.stack(draws).unflatten(1, (1500, -1)).mean(dim=(0, 1))
    assert (mean - golden.attention(q, k, v)[0]).abs().max() < 0.05
