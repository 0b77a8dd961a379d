"""flash_attention_score against the formula: layouts, types, modes, masks, shifts, dropout, packed sequences."""

import mindspore
import numpy as np
import pytest
from fusedattn.like.mindspore import flash_attention_score
from golden import Case, assert_close, seen_by
from layouts import LAYOUTS, array, draw, folded, packed, rounded, tensor
from mindspore import Tensor

COMPRESSED = Tensor(np.triu(np.ones((2048, 2048), np.uint8), 1))
B, N, N2, SQ, SKV, D = 2, 4, 2, 24, 40, 32
SCALE = D**-0.5


def drawn(dtype="float32", q_len=SQ, kv_len=SKV, **more):
    q, k, v = draw(B, N, q_len, D, dtype=dtype), *(draw(B, N2, kv_len, D, dtype=dtype) for _ in range(2))
    return Case(q, k, v, SCALE, **more)


def check(case, layout="BNSD", dtype="float32", **given):
    tensors = (tensor(folded(part, layout), dtype) for part in (case.q, case.k, case.v))
    out = flash_attention_score(*tensors, N, input_layout=layout, scalar_value=SCALE, **given)
    assert str(out.dtype).lower() == dtype
    assert_close(array(out), dtype, folded(case.forward()[0], layout))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_types(layout, dtype):
    check(drawn(dtype), layout, dtype)


def test_layout_in_lower_case_and_as_default():
    case = drawn()
    tensors = [tensor(folded(part, "BSH")) for part in (case.q, case.k, case.v)]
    default = flash_attention_score(*tensors, N, scalar_value=SCALE)
    lower = flash_attention_score(*tensors, N, scalar_value=SCALE, input_layout="bsh")
    assert (default.asnumpy() == lower.asnumpy()).all()


def test_scale_defaults_to_one_and_has_another_name():
    q, k, v = (tensor(draw(1, 2, 8, 16)) for _ in range(3))
    plain = flash_attention_score(q, k, v, 2, input_layout="BNSD")
    assert (flash_attention_score(q, k, v, 2, input_layout="BNSD", scalar_value=1.0) == plain).all()
    half = flash_attention_score(q, k, v, 2, input_layout="BNSD", scalar_value=0.5)
    assert (flash_attention_score(q, k, v, 2, input_layout="BNSD", scale_value=0.5) == half).all()
    assert not (half == plain).all()
    with pytest.raises(TypeError, match="scale_value, another name of it"):
        flash_attention_score(q, k, v, 2, input_layout="BNSD", scalar_value=0.5, scale_value=0.5)


@pytest.mark.parametrize("heads", [(4, 4), (4, 1), (6, 3)])
def test_key_heads_are_shared(heads):
    many, few = heads
    q, k, v = draw(1, many, 20, 16), draw(1, few, 20, 16), draw(1, few, 20, 16)
    out = flash_attention_score(*(tensor(folded(t, "BSH")) for t in (q, k, v)), many)
    assert_close(array(out), "float32", folded(Case(q, k, v).forward()[0], "BSH"))


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("shape", [(SQ, SKV), (B, 1, SQ, SKV), (B, N, SQ, SKV)], ids=str)
@pytest.mark.parametrize("kind", [np.bool_, np.uint8])
def test_full_masks(shape, mode, kind):
    hidden = np.random.rand(*shape) < 0.4
    check(drawn(seen=~hidden), "BSND", attn_mask=Tensor(hidden.astype(kind)), sparse_mode=mode)


@pytest.mark.parametrize("tokens", [(5, 3), (2147483647, 0), (0, 2147483647), (-2, 6), (7, -3)])
def test_window_of_mode_0(tokens):
    pre, following = tokens
    hidden = np.random.rand(SQ, SKV) < 0.2
    seen = ~hidden & seen_by(0, SQ, SKV, pre, following)
    check(drawn(seen=seen), attn_mask=Tensor(hidden), pre_tokens=pre, next_tokens=following)


def test_mode_1_ignores_the_tokens():
    hidden = np.random.rand(SQ, SKV) < 0.4
    check(drawn(seen=~hidden), attn_mask=Tensor(hidden), sparse_mode=1, pre_tokens=1, next_tokens=1)


def test_mode_0_without_mask_hides_nothing():
    check(drawn(), pre_tokens=1, next_tokens=1)


@pytest.mark.parametrize("lengths", [(24, 40), (40, 24), (32, 32)])
@pytest.mark.parametrize("mode", [2, 3])
def test_causal_modes(mode, lengths):
    check(
        drawn(q_len=lengths[0], kv_len=lengths[1], seen=seen_by(mode, *lengths)),
        attn_mask=COMPRESSED,
        sparse_mode=mode,
    )


@pytest.mark.parametrize("tokens", [(4, 2), (30, 0), (2, 9)])
def test_band_of_mode_4(tokens):
    pre, following = tokens
    seen = seen_by(4, SQ, SKV, pre, following)
    check(drawn(seen=seen), "SBH", attn_mask=COMPRESSED, sparse_mode=4, pre_tokens=pre, next_tokens=following)


@pytest.mark.parametrize("heads", [1, N])
@pytest.mark.parametrize(
    "prefix", [(18, 30), [16, 40], Tensor([20, 21], mindspore.int64)], ids=["tuple", "list", "Tensor"]
)
def test_prefix_of_mode_5(prefix, heads):
    lengths = np.array(prefix.asnumpy() if isinstance(prefix, Tensor) else prefix).reshape(B, 1, 1, 1)
    seen = seen_by(3, SQ, SKV) | (np.arange(SKV) < lengths)
    mask = np.broadcast_to(~seen, (B, heads, SQ, SKV))
    check(drawn(seen=seen), attn_mask=Tensor(np.ascontiguousarray(mask)), sparse_mode=5, prefix=prefix)


def test_rows_that_see_nothing_are_zero():
    hidden = np.zeros((SQ, SKV), bool)
    hidden[3:5] = True
    check(drawn(seen=~hidden), attn_mask=Tensor(hidden))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("first", [1, B])
def test_shift_is_added_before_the_scale(first, dtype):
    shift = draw(first, N, SQ, SKV, dtype=dtype)
    check(drawn(dtype, before_scale=shift), dtype=dtype, real_shift=tensor(shift, dtype))


def test_shift_of_the_last_1024_rows():
    length, heads, dim = 1100, 2, 16
    q, k, v = (draw(1, heads, length, dim) for _ in range(3))
    row, column = np.indices((length, length))
    shift = rounded(-np.abs(row - column) * np.array([0.5, 0.25]).reshape(2, 1, 1), "float32")[None]
    out = flash_attention_score(
        *(tensor(part) for part in (q, k, v)),
        heads,
        real_shift=tensor(shift[:, :, -1024:]),
        attn_mask=COMPRESSED,
        sparse_mode=2,
        input_layout="BNSD",
        scalar_value=0.25,
    )
    case = Case(q, k, v, 0.25, seen=seen_by(2, length, length), before_scale=shift)
    assert_close(array(out), "float32", case.forward()[0])


def bits(shape, keep_prob=0.7):
    keeps = np.random.rand(*shape) < keep_prob
    return keeps, np.packbits(keeps.reshape(-1), bitorder="little")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dropout_bits(layout):
    keeps, packed_bits = bits((B, N, SQ, SKV))
    mask = Tensor(packed_bits.reshape(B, N, SQ, SKV // 8))
    check(drawn(factor=keeps / np.float32(0.7).astype(np.float64)), layout, drop_mask=mask, keep_prob=0.7)


def test_everything_at_once():
    keeps, packed_bits = bits((B, N, SQ, SKV))
    hidden, shift = np.random.rand(B, 1, SQ, SKV) < 0.3, draw(1, N, SQ, SKV, dtype="bfloat16")
    case = drawn("bfloat16", seen=~hidden, before_scale=shift, factor=keeps / 0.7)
    check(
        case,
        "BSH",
        "bfloat16",
        real_shift=tensor(shift, "bfloat16"),
        drop_mask=Tensor(packed_bits.reshape(B, N, SQ, SKV // 8)),
        attn_mask=Tensor(hidden),
        keep_prob=0.7,
        sparse_mode=1,
    )


Q_LENGTHS, KV_LENGTHS = (8, 0, 5, 16), (16, 3, 5, 24)


def sequences(**more):
    lengths = zip(Q_LENGTHS, KV_LENGTHS)
    return [
        Case(draw(1, N, q, D), draw(1, N2, kv, D), draw(1, N2, kv, D), SCALE, **more) for q, kv in lengths
    ]


def check_packed(cases, q_ends=(8, 8, 13, 29), kv_ends=(16, 19, 24, 48), **given):
    out = flash_attention_score(
        *(tensor(packed([getattr(case, name) for case in cases])) for name in "qkv"),
        N,
        input_layout="TND",
        actual_seq_qlen=q_ends,
        actual_seq_kvlen=kv_ends,
        scalar_value=SCALE,
        **given,
    )
    assert_close(array(out), "float32", packed([case.forward()[0] for case in cases]))


@pytest.mark.parametrize(
    "kind", [tuple, list, lambda ends: Tensor(ends, mindspore.int64)], ids=["tuple", "list", "Tensor"]
)
def test_packed_sequences(kind):
    check_packed(sequences(), kind((8, 8, 13, 29)), kind((16, 19, 24, 48)))


@pytest.mark.parametrize("mode", [2, 3])
def test_packed_causal_modes(mode):
    cases = sequences()
    for case, q_len, kv_len in zip(cases, Q_LENGTHS, KV_LENGTHS):
        case.seen = seen_by(mode, q_len, kv_len)
    check_packed(cases, attn_mask=COMPRESSED, sparse_mode=mode)


def test_packed_dropout():
    cases, drawn_bits = sequences(), []
    for case, q_len, kv_len in zip(cases, Q_LENGTHS, KV_LENGTHS):
        keeps, _ = bits((N, q_len, kv_len))
        case.factor = keeps[None] / np.float32(0.7).astype(np.float64)
        drawn_bits.append(keeps.reshape(-1))
    mask = np.packbits(np.concatenate(drawn_bits), bitorder="little")
    check_packed(cases, drop_mask=Tensor(mask), keep_prob=0.7)


@pytest.mark.parametrize("mode", [0, 1])
def test_packed_sequences_share_a_mask(mode):
    hidden, cases = np.random.rand(max(Q_LENGTHS), max(KV_LENGTHS)) < 0.3, sequences()
    for case, q_len, kv_len in zip(cases, Q_LENGTHS, KV_LENGTHS):
        case.seen = ~hidden[:q_len, :kv_len]
    check_packed(cases, attn_mask=Tensor(hidden), sparse_mode=mode)


def test_sizes_beyond_the_device():
    for dim in (1, 21, 768):
        q, k, v = draw(1, 2, 7, dim), draw(1, 1, 13, dim), draw(1, 1, 13, dim)
        out = flash_attention_score(
            *(tensor(part) for part in (q, k, v)), 2, input_layout="BNSD", scalar_value=0.1
        )
        assert_close(array(out), "float32", Case(q, k, v, 0.1).forward()[0])


def test_one_of_everything():
    """The smallest case of the device's own tests: one weight of 1."""
    q, k, v = (draw(1, 1, 1, 16, dtype="float16") for _ in range(3))
    q, k, v = (tensor(folded(part, "BSH"), "float16") for part in (q, k, v))
    assert (flash_attention_score(q, k, v, 1) == v).all()
    dq, dk, dv = mindspore.grad(
        lambda *t: flash_attention_score(*t, 1).astype(mindspore.float32).sum(), (0, 1, 2)
    )(q, k, v)
    assert not array(dq).any() and not array(dk).any() and (dv == 1).all()  # MindSpore's any() counts -0.0
