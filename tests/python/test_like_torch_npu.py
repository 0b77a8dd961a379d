"""npu_fusion_attention against the formula in float64: layouts, modes, packed sequences, refusals."""

import inspect
import itertools

import golden
import pytest
import torch
from fusedattn.like.torch_npu import npu_fusion_attention

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
COMPRESSED = torch.triu(torch.ones(2048, 2048), diagonal=1).bool()
ORDERS = {"BNSD": (0, 1, 2, 3), "BSND": (0, 2, 1, 3), "BSH": (0, 2, 1, 3), "SBH": (2, 0, 1, 3)}


def draw(B=2, N1=4, N2=2, Sq=37, Skv=53, D=40, Dv=24, dtype=torch.float32):
    shapes = (B, N1, Sq, D), (B, N2, Skv, D), (B, N2, Skv, Dv), (B, N1, Sq, Dv)
    return [golden.draw(*shape, dtype=dtype) for shape in shapes]


def laid(t, layout):
    """A BNSD tensor in another layout."""
    t = t.permute(ORDERS[layout]).contiguous()
    return t.flatten(2) if layout in ("BSH", "SBH") else t


def unlaid(t, layout, heads):
    """Back to BNSD."""
    t = t.unflatten(2, (heads, -1)) if layout in ("BSH", "SBH") else t
    return t.permute([ORDERS[layout].index(axis) for axis in range(4)])


def band(Sq, Skv, pre=None, following=None, shift=0):
    """True where -pre <= column - row - shift <= following."""
    distance = torch.arange(Skv) - torch.arange(Sq).unsqueeze(1) - shift
    seen = torch.ones(Sq, Skv, dtype=torch.bool)
    if pre is not None:
        seen &= distance >= -pre
    if following is not None:
        seen &= distance <= following
    return seen


def check(tensors, seen, layout="BNSD", **arguments):
    """All outputs and gradients of one call on BNSD tensors against the formula; returns the outputs."""
    q, k, v, d_out = tensors
    (B, N1, Sq, _), (_, N2, Skv, _) = q.shape, k.shape
    scale = arguments.setdefault("scale", 0.3)
    leaves = [laid(t, layout).requires_grad_() for t in (q, k, v)]
    outputs = npu_fusion_attention(*leaves, N1, layout, **arguments)
    out, softmax_max, softmax_sum, softmax_out, seed, offset, numels = outputs
    wanted, row_max, row_sum = golden.attention(q, k, v, seen, scale)
    assert out.dtype == q.dtype and out.is_contiguous()
    golden.assert_close(unlaid(out, layout, N1), wanted, "attention_out")
    for statistic in (softmax_max, softmax_sum):
        assert statistic.shape == (B, N1, Sq, 8) and statistic.is_contiguous() and not statistic.requires_grad
        assert (statistic == statistic[..., :1]).all()
    if Skv:
        golden.assert_statistics(softmax_max[..., 0], softmax_sum[..., 0], row_max, row_sum)
    assert softmax_out.shape == (0,) and softmax_out.dtype == q.dtype
    assert (seed, offset, numels) == (0, 0, B * N1 * Sq * Skv)
    found = torch.autograd.grad(out, leaves, laid(d_out, layout))
    heads = N1, N2, N2
    for gradient, count, want in zip(found, heads, golden.gradients(q, k, v, d_out, seen, scale)):
        golden.assert_close(unlaid(gradient, layout, count), want, "gradient", slack=2)
    return outputs


def test_the_signature():
    found = inspect.signature(npu_fusion_attention)
    assert str(found) == (
        "(query, key, value, head_num, input_layout, pse=None, padding_mask=None, atten_mask=None, scale=1.0,"
        " keep_prob=1.0, pre_tockens=2147483647, next_tockens=2147483647, inner_precise=0, prefix=None, "
        "actual_seq_qlen=None, actual_seq_kvlen=None, sparse_mode=0, gen_mask_parallel=True, sync=False, "
        "softmax_layout='', sink=None, dropout_mask=None, seed=0, offset=0)"
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ORDERS)
@pytest.mark.parametrize("masked", [False, True])
def test_layouts(layout, dtype, masked):
    seen = torch.rand(37, 53) > 0.3 if masked else None
    check(draw(dtype=dtype), seen, layout, atten_mask=~seen if masked else None)


def test_layouts_give_the_same_bits():
    q, k, v, _ = draw()
    wanted = npu_fusion_attention(q, k, v, 4, "BNSD")
    for layout in ORDERS:
        got = npu_fusion_attention(*(laid(t, layout) for t in (q, k, v)), 4, layout.lower())
        assert torch.equal(unlaid(got[0], layout, 4), wanted[0])
        assert torch.equal(got[1], wanted[1]) and torch.equal(got[2], wanted[2])


def test_scale_is_one_unless_given():
    q, k, v, _ = draw()
    golden.assert_close(npu_fusion_attention(q, k, v, 4, "BNSD")[0], golden.attention(q, k, v, scale=1.0)[0])


@pytest.mark.parametrize("mode", range(7))
def test_without_a_mask_nothing_is_masked(mode):
    check(draw(), None, sparse_mode=mode, pre_tockens=-5, next_tockens=-7)


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("form", [(), (1, 1), (2, 1), (2, 4)], ids=str)
@pytest.mark.parametrize("kind", [torch.bool, torch.uint8], ids=str)
def test_full_masks(mode, form, kind):
    masked = torch.rand(*form, 37, 53) > 0.6
    check(draw(), ~masked, atten_mask=masked.to(kind), sparse_mode=mode)


def test_any_nonzero_byte_masks():
    masked = torch.randint(0, 256, (37, 53), dtype=torch.uint8) * (torch.rand(37, 53) > 0.5)
    check(draw(), masked == 0, atten_mask=masked)


@pytest.mark.parametrize(("pre", "following"), [(5, 3), (2147483647, 0), (-2, 9), (30, -4), (0, 0), (-3, 3)])
def test_mode_0_is_mask_and_window(pre, following):
    masked = torch.rand(37, 53) > 0.6
    seen = ~masked & band(37, 53, pre, following)
    check(draw(), seen, atten_mask=masked, pre_tockens=pre, next_tockens=following)


@pytest.mark.parametrize("lengths", [(37, 53), (53, 37), (40, 40)], ids=str)
@pytest.mark.parametrize("mask", [COMPRESSED, COMPRESSED.byte(), COMPRESSED[None, None], ~COMPRESSED])
def test_modes_2_and_3_ignore_what_the_compressed_mask_holds(lengths, mask):
    Sq, Skv = lengths
    tensors = draw(Sq=Sq, Skv=Skv)
    check(tensors, band(Sq, Skv, None, 0), atten_mask=mask, sparse_mode=2, pre_tockens=-9)
    check(tensors, band(Sq, Skv, None, 0, Skv - Sq), atten_mask=mask, sparse_mode=3, next_tockens=-9)


@pytest.mark.parametrize("lengths", [(37, 53), (53, 37)], ids=str)
@pytest.mark.parametrize(
    ("pre", "following"), [(5, 3), (2147483647, 0), (2, 2147483647), (8, -3), (-3, 8), (0, 0)]
)
def test_mode_4(lengths, pre, following):
    Sq, Skv = lengths
    seen = band(Sq, Skv, pre, following, Skv - Sq)
    left, right = pre - (Skv - Sq), following + Skv - Sq
    arguments = dict(atten_mask=COMPRESSED, sparse_mode=4, pre_tockens=pre, next_tockens=following)
    if (
        left < 0
        and not (right >= -left and -left < Skv)
        or right < 0
        and not (-right <= left and -right < Sq)
    ):
        with pytest.raises(RuntimeError, match="pre_tockens"):
            check(draw(Sq=Sq, Skv=Skv), seen, **arguments)
    else:
        check(draw(Sq=Sq, Skv=Skv), seen, **arguments)


def test_tokens_beyond_32_bits_are_clamped_with_a_warning():
    masked = torch.zeros(37, 53, dtype=torch.bool)
    with pytest.warns(UserWarning, match="pre_tockens is 4294967296"):
        check(draw(), None, atten_mask=masked, pre_tockens=2**32)


def test_positional_arguments_and_reserved_ones():
    q, k, v, _ = draw()
    masked = torch.rand(37, 53) > 0.6
    plain = npu_fusion_attention(q, k, v, 4, "BNSD", atten_mask=masked, scale=0.5)
    full = npu_fusion_attention(
        q, k, v, 4, "BNSD", None, None, masked, 0.5, 1.0, 2147483647, 2147483647, 3, None, None, None, 0,
        False, True, "", None, None, 7, 9,
    )  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(plain[:4], full[:4]))
    assert full[4:] == (7, 9, 2 * 4 * 37 * 53)


def test_empty_tensors():
    for sizes in (dict(B=0), dict(Sq=0)):
        check(draw(**sizes), None)
    *_, numels = outputs = check(draw(Skv=0), None)
    assert all((t == 0).all() for t in outputs[:3]) and numels == 0
    query = torch.ones(2, 4, 3, 8, requires_grad=True)
    none = torch.ones(2, 0, 5, 8)
    outputs = npu_fusion_attention(query, none, none, 4, "BNSD")
    outputs[0].sum().backward()
    assert outputs[0].shape == (2, 4, 3, 8) and all((t == 0).all() for t in (*outputs[:3], query.grad))


# --- TND --------------------------------------------------------------------------------
Q_ENDS, KV_ENDS = [5, 5, 42, 43, 43, 60], [7, 19, 60, 60, 63, 90]


def draw_packed(dtype=torch.float32, tail=0):
    shapes = (60 + tail, 4, 32), (90 + tail, 2, 32), (90 + tail, 2, 24), (60 + tail, 4, 24)
    return [golden.draw(*shape, dtype=dtype) for shape in shapes]


def sequences(q_ends=Q_ENDS, kv_ends=KV_ENDS):
    """(rows, columns) slices of every sequence."""
    pairs = [itertools.pairwise([0, *ends]) for ends in (q_ends, kv_ends)]
    return [(slice(*rows), slice(*columns)) for rows, columns in zip(*pairs)]


def check_packed(tensors, rule=lambda Sq, Skv: None, **arguments):
    """A packed call against the formula; rule gives what a sequence of these lengths sees."""
    q, k, v, d_out = tensors
    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
    lists = dict(actual_seq_qlen=Q_ENDS, actual_seq_kvlen=KV_ENDS) | arguments
    out, softmax_max, softmax_sum, *_, numels = npu_fusion_attention(*leaves, 4, "TND", scale=0.3, **lists)
    dq, dk, dv = torch.autograd.grad(out, leaves, d_out)
    assert softmax_max.shape == softmax_sum.shape == (len(q), 4, 8)
    for rows, columns in sequences():
        one = [t[where].transpose(0, 1)[None] for t, where in zip((q, k, v), (rows, columns, columns))]
        Sq, Skv = one[0].shape[2], one[1].shape[2]
        seen, d_one = rule(Sq, Skv), d_out[rows].transpose(0, 1)[None]
        wanted, row_max, row_sum = golden.attention(*one, seen, 0.3)
        golden.assert_close(out[rows].transpose(0, 1)[None], wanted, "attention_out")
        found = [t[where].transpose(0, 1)[None] for t, where in zip((dq, dk, dv), (rows, columns, columns))]
        for gradient, want in zip(found, golden.gradients(*one, d_one, seen, 0.3)):
            golden.assert_close(gradient, want, "gradient", slack=2)
        if arguments.get("softmax_layout") == "TND":
            got = [s[rows].permute(1, 0, 2) for s in (softmax_max, softmax_sum)]
        else:
            block = slice(rows.start * 32, rows.stop * 32)
            got = [s.flatten()[block].view(4, Sq, 8) for s in (softmax_max, softmax_sum)]
        assert all((s == s[..., :1]).all() for s in got)
        if Skv:
            golden.assert_statistics(got[0][None, ..., 0], got[1][None, ..., 0], row_max, row_sum)
        else:
            assert (got[0] == 0).all() and (got[1] == 0).all()
    assert numels == 4 * sum((r.stop - r.start) * (c.stop - c.start) for r, c in sequences())
    return out, softmax_max, softmax_sum, dq, dk, dv


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("softmax_layout", ["", "TND"])
def test_packed(dtype, softmax_layout):
    check_packed(draw_packed(dtype), softmax_layout=softmax_layout)


def test_packed_sparse_modes():
    tensors = draw_packed()
    check_packed(tensors, lambda Sq, Skv: band(Sq, Skv, None, 0), atten_mask=COMPRESSED, sparse_mode=2)
    check_packed(
        tensors, lambda Sq, Skv: band(Sq, Skv, None, 0, Skv - Sq), atten_mask=COMPRESSED, sparse_mode=3
    )
    window = dict(sparse_mode=4, pre_tockens=6, next_tockens=2)
    check_packed(tensors, lambda Sq, Skv: band(Sq, Skv, 6, 2, Skv - Sq), atten_mask=COMPRESSED, **window)


@pytest.mark.parametrize("form", [(), (1, 1)], ids=str)
def test_packed_full_masks_are_local(form):
    masked = torch.rand(37, 41) > 0.6
    for mode in (0, 1):
        check_packed(
            draw_packed(),
            lambda Sq, Skv: ~masked[:Sq, :Skv],
            atten_mask=masked.view(*form, 37, 41),
            sparse_mode=mode,
        )
    seen = ~masked & band(37, 41, 20, 4)
    tokens = dict(pre_tockens=20, next_tockens=4)
    check_packed(draw_packed(), lambda Sq, Skv: seen[:Sq, :Skv], atten_mask=masked, **tokens)


def test_packed_tails_are_zero():
    out, row_max, row_sum, dq, dk, dv = check_packed(draw_packed(tail=3))
    for t in (
        out[60:],
        row_max.flatten()[60 * 32 :],
        row_sum.flatten()[60 * 32 :],
        dq[60:],
        dk[90:],
        dv[90:],
    ):
        assert (t == 0).all()


def test_trailing_decreases_are_empty_sequences():
    tensors = draw_packed()
    padded = dict(actual_seq_qlen=[*Q_ENDS, 0, 0], actual_seq_kvlen=(*KV_ENDS, 0, 0))
    for a, b in zip(check_packed(tensors, **padded), check_packed(tensors)):
        assert torch.equal(a, b)


def test_default_statistics_are_blockwise():
    """Two sequences of 2 and 3 rows, two heads: the (sequence, head, row) order of the device's memory."""
    q, k = torch.arange(10.0).view(5, 2, 1), torch.ones(5, 2, 1)
    ends = dict(actual_seq_qlen=[2, 5], actual_seq_kvlen=[2, 5])
    blockwise = npu_fusion_attention(q, k, k, 2, "TND", **ends)[1]
    assert blockwise.flatten()[::8].tolist() == [0, 2, 1, 3, 4, 6, 8, 5, 7, 9]
    by_token = npu_fusion_attention(q, k, k, 2, "TND", softmax_layout="TND", **ends)[1]
    assert torch.equal(by_token[..., 0], q[..., 0])


def test_one_packed_sequence_is_the_padded_call():
    q, k, v, _ = draw(B=1)
    wanted = npu_fusion_attention(q, k, v, 4, "BNSD", atten_mask=COMPRESSED, sparse_mode=3)
    rows = [t[0].transpose(0, 1).contiguous() for t in (q, k, v)]
    ends = dict(actual_seq_qlen=[37], actual_seq_kvlen=[53])
    got = npu_fusion_attention(*rows, 4, "TND", atten_mask=COMPRESSED, sparse_mode=3, **ends)
    assert torch.equal(got[0].transpose(0, 1)[None], wanted[0])
    assert torch.equal(got[1].flatten(), wanted[1].flatten()) and torch.equal(
        got[2].flatten(), wanted[2].flatten()
    )


@pytest.mark.parametrize("layout", ["BSH", "TND"])
def test_compiled(layout):
    def model(q, k, v):
        ends = dict(actual_seq_qlen=Q_ENDS, actual_seq_kvlen=KV_ENDS) if layout == "TND" else {}
        return npu_fusion_attention(q, k, v, 4, layout, atten_mask=COMPRESSED, sparse_mode=3, **ends)[:3]

    q, k, v, d_out = draw_packed() if layout == "TND" else [laid(t, "BSH") for t in draw()]
    leaves = [t.requires_grad_() for t in (q, k, v)]
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    got, wanted = compiled(*leaves), model(*leaves)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted))
    for a, b in zip(*(torch.autograd.grad(outputs[0], leaves, d_out) for outputs in (got, wanted))):
        assert torch.equal(a, b)
