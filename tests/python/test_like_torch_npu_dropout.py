"""Dropout: the caller's bits and generated ones, the stream, seeds, and that both directions agree."""

import numpy
import pytest
import torch
from ascend_calls import COMPRESSED, LAYOUTS, check, check_by_hand, laid, run
from ascend_golden import draw, lengths
from fusedattn.like.torch_npu import _npu_dropout_gen_mask, npu_fusion_attention, npu_fusion_attention_v3
from test_like_torch_npu_modes import DTYPES, packed, padded


def philox_bits(count, keep_prob, seed, offset):
    """bool [count]: the stream as the contract defines it, in plain integers of numpy."""
    e = numpy.arange(count, dtype=numpy.uint64)
    low = numpy.uint64(0xFFFFFFFF)
    block = e // numpy.uint64(8)
    c = [block & low, block >> numpy.uint64(32)]
    c += [numpy.full(count, word, numpy.uint64) for word in (offset & 0xFFFFFFFF, offset >> 32)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(7):
        high0, low0 = (lambda p: (p >> numpy.uint64(32), p & low))(c[0] * numpy.uint64(0xD2511F53))
        high1, low1 = (lambda p: (p >> numpy.uint64(32), p & low))(c[2] * numpy.uint64(0xCD9E8D57))
        c = [high1 ^ c[1] ^ numpy.uint64(k0), low1, high0 ^ c[3] ^ numpy.uint64(k1), low0]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    words = numpy.stack(c)[(e % numpy.uint64(8) // numpy.uint64(2)).astype(int), numpy.arange(count)]
    halves = (words >> (numpy.uint64(16) * (e % numpy.uint64(2)))) & numpy.uint64(0xFFFF)
    return halves < numpy.floor(float(numpy.float32(keep_prob)) * 65536 + 0.5)


def scores(case):
    if case.ends:
        return case.heads * sum(rows * columns for _, rows, _, columns in lengths(case))
    return case.query.shape[0] * case.heads * case.query.shape[2] * case.key.shape[2]


def generated(case, keep_prob, seed, offset=0):
    return _npu_dropout_gen_mask(case.query, [scores(case)], 1 - keep_prob, seed, offset)


@pytest.mark.parametrize("size", [[1], [7, 3], [128], [2, 4, 37, 53]], ids=str)
@pytest.mark.parametrize(
    ("keep_prob", "seed", "offset"), [(0.9, 2, 0), (0.5, 2**63 - 1, 7), (0.1, 123, 2**40 + 1)]
)
def test_the_stream(size, keep_prob, seed, offset):
    count = int(numpy.prod(size))
    bits = _npu_dropout_gen_mask(torch.empty(0), size, 1 - keep_prob, seed, offset)
    assert bits.dtype == torch.uint8 and bits.shape == ((count + 127) // 128 * 16,)
    found = numpy.unpackbits(bits.numpy(), bitorder="little").astype(bool)
    assert (found[:count] == philox_bits(count, keep_prob, seed, offset)).all() and not found[count:].any()


def test_the_stream_keeps_all_or_none():
    everything = _npu_dropout_gen_mask(torch.empty(0), [3, 7], 0.0, 1, 0, True, False)
    assert everything.tolist() == [255] * 3 + [0] * 13
    assert _npu_dropout_gen_mask(torch.empty(0), [3, 7], 1.0, 1, 0).tolist() == [0] * 16
    assert _npu_dropout_gen_mask(torch.empty(0), [0, 7], 0.5, 1, 0).shape == (0,)
    for p in (-0.1, 1.5, float("nan")):
        with pytest.raises(RuntimeError, match="p is"):
            _npu_dropout_gen_mask(torch.empty(0), [8], p, 1, 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bits_of_the_caller(layout, dtype):
    case = packed(dtype=dtype, tail=2) if layout == "TND" else padded(dtype=dtype)
    case.keep_prob = 0.8
    case.bits = torch.randint(0, 256, ((scores(case) + 7) // 8 + 5,), dtype=torch.uint8)
    outputs = check(case, layout)
    assert outputs[4:] == (0, 0, scores(case))


@pytest.mark.parametrize("mode", [0, 1, 2, 3, 4])
def test_bits_count_what_masks_hide(mode):
    mask = torch.rand(37, 53) > 0.5 if mode < 2 else COMPRESSED
    case = padded(sparse_mode=mode, mask=mask, pre=12, next=7, keep_prob=0.7)
    case.bits = torch.randint(0, 256, (scores(case) // 8 + 1,), dtype=torch.uint8)
    check(case)


def test_bits_may_have_any_shape_and_strides():
    case = padded(Skv=56, keep_prob=0.5)
    bits = torch.randint(0, 256, (2, 4, 37, 7), dtype=torch.uint8)
    case.bits = bits
    wanted = run(case)[0]
    case.bits = bits.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert torch.equal(run(case)[0][0], wanted[0])


def test_kept_bits_divide_by_keep_prob():
    case = padded()
    plain = run(case)[0]
    case.keep_prob, case.bits = 0.5, torch.full((scores(case) // 8 + 1,), 255, dtype=torch.uint8)
    kept = run(case)[0]
    torch.testing.assert_close(kept[0], plain[0] * 2, rtol=1e-6, atol=1e-6)
    assert torch.equal(kept[1], plain[1]) and torch.equal(kept[2], plain[2])


def test_bits_with_keep_prob_one():
    case = padded()
    case.bits = torch.randint(0, 256, (scores(case) // 8 + 1,), dtype=torch.uint8)
    check(case)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", [None, 3])
def test_generated_bits(mode, layout, dtype):
    """Those of _npu_dropout_gen_mask, in both directions; the gradient by hand takes the seed that came back."""
    words = dict(sparse_mode=mode, mask=COMPRESSED) if mode else {}
    case = packed(dtype=dtype, **words) if layout == "TND" else padded(dtype=dtype, **words)
    case.keep_prob = 0.9
    outputs, leaves = run(case, layout, seed=2, offset=40)
    assert outputs[4:] == (2, 40, scores(case))
    out = outputs[0]
    dy = draw(*out.shape, dtype=dtype)
    found = torch.autograd.grad(out, [*leaves.values()], dy)
    case.bits = generated(case, 0.9, 2, 40)
    with_bits, bit_leaves = run(case, layout)
    assert all(map(torch.equal, outputs[:3], with_bits[:3]))
    assert all(map(torch.equal, found, torch.autograd.grad(with_bits[0], [*bit_leaves.values()], dy)))
    check(case, layout)


def test_gradients_by_hand_draw_the_same_bits():
    for layout in ("BSH", "TND"):
        case = packed() if layout == "TND" else padded()
        case.keep_prob = 0.6
        outputs, leaves = run(case, layout)
        assert outputs[4] != 0 and outputs[5] == 0
        case.bits = generated(case, 0.6, *outputs[4:6])
        check(case, layout)
        case.bits = None
        dy = draw(*outputs[0].shape)
        found = dict(zip(leaves, torch.autograd.grad(outputs[0], [*leaves.values()], dy)))
        check_by_hand(case, layout, outputs, leaves, dy, found)


def test_torchs_seed_governs():
    q, k, v = (draw(1, 2, 16, 8) for _ in range(3))

    def call():
        return npu_fusion_attention(q, k, v, 2, "BNSD", keep_prob=0.5)

    torch.manual_seed(7)
    first, second = call(), call()
    torch.manual_seed(7)
    again = call()
    assert first[4:6] == again[4:6] and torch.equal(first[0], again[0])
    assert first[4] != second[4] and not torch.equal(first[0], second[0])
    with torch.random.fork_rng():
        state = torch.get_rng_state()
        npu_fusion_attention(q, k, v, 2, "BNSD")
        npu_fusion_attention(q, k, v, 2, "BNSD", keep_prob=0.5, seed=3)
        npu_fusion_attention(q, k, v, 2, "BNSD", keep_prob=0.5, offset=3)
        assert torch.equal(state, torch.get_rng_state())


def test_version_3_returns_tensors():
    q, k, v = (draw(1, 2, 16, 8) for _ in range(3))
    torch.manual_seed(7)
    wanted = npu_fusion_attention(q, k, v, 2, "BNSD", keep_prob=0.5)
    torch.manual_seed(7)
    *outputs, seed, offset = npu_fusion_attention_v3(q, k, v, 2, "BNSD", keep_prob=0.5)
    assert seed.dtype == offset.dtype == torch.int64 and seed.shape == offset.shape == (1,)
    assert (seed.item(), offset.item()) == wanted[4:6] and torch.equal(outputs[0], wanted[0])


def test_as_many_are_kept_as_asked():
    for keep_prob in (0.1, 0.5, 0.9):
        bits = _npu_dropout_gen_mask(torch.empty(0), [1 << 18], 1 - keep_prob, 5, 0)
        kept = numpy.unpackbits(bits.numpy()).mean()
        assert abs(kept - keep_prob) < 5 * (keep_prob * (1 - keep_prob) / (1 << 18)) ** 0.5


def test_probabilities_that_keep_none():
    q, k, v = (draw(1, 2, 16, 8) for _ in range(3))
    out, row_max, row_sum, *_ = npu_fusion_attention(q, k, v, 2, "BNSD", keep_prob=2.0**-18, seed=1)
    plain = npu_fusion_attention(q, k, v, 2, "BNSD")
    assert not out.any() and torch.equal(row_max, plain[1]) and torch.equal(row_sum, plain[2])


def test_dropout_does_not_depend_on_the_layout():
    case = padded(keep_prob=0.5)
    wanted = run(case, seed=9)[0]
    got = run(case, "SBH", seed=9)[0]
    assert torch.equal(got[0], laid(wanted[0], "SBH"))
