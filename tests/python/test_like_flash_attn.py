"""fusedattn.like.flash_attn: padded and packed attention against the formula in float64, gradients, refusals."""

import inspect

import golden
import pytest
import torch
from fusedattn import window
from fusedattn.like import flash_attn
from fusedattn.like.flash_attn import bert_padding, flash_attn_interface
from fusedattn.like.flash_attn.arguments import RULES
from hypothesis import given, settings
from hypothesis import strategies as st

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(2, 4, 2, 33, 57, 40), (1, 3, 1, 1, 129, 64), (2, 2, 2, 70, 45, 24)]  # B, N, Nk, Sq, Skv, D
FORMS = {
    "plain": {},
    "causal": dict(causal=True),
    "window": dict(window_size=(9, 4)),
    "window, tensors": dict(window_size=torch.tensor([5, -1]), causal=True),
    "alibi, softcap": dict(alibi_slopes=torch.tensor([0.3, 0.1, 0.02, 0.5]), softcap=1.5),
    "scale": dict(softmax_scale=0.3, softcap=-1.0, deterministic=True),
}


def draw(shape, dtype=torch.float32):
    """q, k, v, dout as flash-attn lays them."""
    B, N, Nk, Sq, Skv, D = shape
    sizes = (B, Sq, N, D), (B, Skv, Nk, D), (B, Skv, Nk, D), (B, Sq, N, D)
    return [golden.draw(*size, dtype=dtype) for size in sizes]


def formula_of(form, heads, q_len, kv_len):
    """Keywords of golden for those of flash-attn."""
    left, right = (int(edge) for edge in form.get("window_size", (-1, -1)))
    mask = window(None if left < 0 else left, 0 if form.get("causal") else None if right < 0 else right)
    slopes = form.get("alibi_slopes")
    return dict(
        seen=torch.from_numpy(mask.materialize(q_len, kv_len)),
        scale=form.get("softmax_scale"),
        softcap=max(form.get("softcap", 0.0), 0.0),
        slopes=None if slopes is None else slopes[..., :heads],
    )


def own(form, heads):
    slopes = form.get("alibi_slopes")
    return form if slopes is None else dict(form, alibi_slopes=slopes[:heads])


def bnsd(*tensors):
    return [t.transpose(1, 2) for t in tensors]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_against_the_formula(form, shape, dtype):
    q, k, v, dout = draw(shape, dtype)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    formula = formula_of(FORMS[form], shape[1], shape[3], shape[4])
    out, lse, weights = flash_attn.flash_attn_func(
        *leaves, **own(FORMS[form], shape[1]), return_attn_probs=True
    )
    gradients = torch.autograd.grad(out, leaves, dout)
    wanted, row_max, row_sum = golden.attention(*bnsd(q, k, v), **formula)
    golden.assert_close(*bnsd(out, wanted)[:1], wanted, "out", slack=2)
    seen = row_sum < golden.LARGEST
    torch.testing.assert_close(lse[seen].double(), (row_max + row_sum.log())[seen], rtol=1e-4, atol=1e-4)
    assert (lse[~seen] == float("inf")).all() and (out.transpose(1, 2)[~seen] == 0).all()
    assert weights.shape == (0,) and lse.dtype == torch.float32 and out.dtype == dtype
    wanted = golden.gradients(*bnsd(q, k, v, dout), **formula)
    for name, got, want in zip(("dq", "dk", "dv"), gradients, wanted, strict=True):
        golden.assert_close(got.transpose(1, 2), want, name, slack=4)


def test_packed_tensors_are_the_same_bits():
    q, k, v, dout = draw((2, 3, 3, 40, 40, 32))
    form = dict(causal=True, softcap=2.0)
    qkv, kv = torch.stack((q, k, v), 2).requires_grad_(), torch.stack((k, v), 2).requires_grad_()
    leaves = [t.requires_grad_() for t in (q, k, v)]
    out = flash_attn.flash_attn_func(*leaves, **form)
    of_qkv = flash_attn.flash_attn_qkvpacked_func(qkv, **form)
    of_kv = flash_attn.flash_attn_kvpacked_func(q, kv, **form)
    assert torch.equal(out, of_qkv) and torch.equal(out, of_kv)
    wanted = torch.autograd.grad(out, leaves, dout)
    assert torch.equal(torch.autograd.grad(of_qkv, qkv, dout)[0], torch.stack(wanted, 2))
    assert torch.equal(torch.autograd.grad(of_kv, kv, dout)[0], torch.stack(wanted[1:], 2))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_packed_sequences_are_separate_calls(data):
    lengths = data.draw(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 25)), min_size=1, max_size=4))
    form = dict(
        causal=data.draw(st.booleans()),
        window_size=data.draw(st.tuples(st.integers(-1, 9), st.integers(-1, 9))),
        softcap=data.draw(st.sampled_from([0.0, 0.8])),
    )
    slopes = torch.rand(len(lengths), 4) if data.draw(st.booleans()) else None
    q, k, v = (golden.draw(sum(n[side] for n in lengths), heads, 16) for side, heads in ((0, 4), (1, 2), (1, 2)))
    ends = [torch.tensor([0, *(n[side] for n in lengths)]).cumsum(0).int() for side in (0, 1)]
    most = [max(n[side] for n in lengths) for side in (0, 1)]
    out, lse, _ = flash_attn.flash_attn_varlen_func(
        q, k, v, *ends, *most, **form, alibi_slopes=slopes, return_attn_probs=True
    )
    begin = [0, 0]
    for b, (rows, columns) in enumerate(lengths):
        mine, theirs = (slice(first, first + n) for first, n in zip(begin, (rows, columns)))
        own_slopes = None if slopes is None else slopes[b]
        one, one_lse, _ = flash_attn.flash_attn_func(
            q[None, mine], k[None, theirs], v[None, theirs], **form, alibi_slopes=own_slopes, return_attn_probs=True
        )  # fmt: skip
        assert torch.equal(out[mine], one[0]) and torch.equal(lse[:, mine], one_lse[0])
        begin = [mine.stop, theirs.stop]


def test_packed_forms_of_sequences_are_the_same_bits():
    q, k, v = (golden.draw(50, 3, 16) for _ in range(3))
    ends = torch.tensor([0, 11, 50], dtype=torch.int32)
    out = flash_attn.flash_attn_varlen_func(q, k, v, ends, ends, 39, 39, causal=True)
    of_kv = flash_attn.flash_attn_varlen_kvpacked_func(
        q, torch.stack((k, v), 1), ends, ends, 39, 39, causal=True
    )
    of_qkv = flash_attn.flash_attn_varlen_qkvpacked_func(torch.stack((q, k, v), 1), ends, 39, causal=True)
    assert torch.equal(out, of_kv) and torch.equal(out, of_qkv)


def test_unpad_attend_pad():
    q, k, v, dout = draw((3, 2, 2, 12, 12, 16))
    mask = torch.arange(12) < torch.tensor([[12], [5], [1]])
    leaves = [t.requires_grad_() for t in (q, k, v)]
    packed = [bert_padding.unpad_input(t, mask) for t in leaves]
    ends, longest = packed[0][2], packed[0][3]
    assert ends.tolist() == [0, 12, 17, 18] and longest == 12 and packed[0][4].tolist() == [12, 5, 1]
    out = flash_attn.flash_attn_varlen_func(*(p[0] for p in packed), ends, ends, longest, longest)
    out = bert_padding.pad_input(out, packed[0][1], 3, 12)
    gradients = torch.autograd.grad(out, leaves, dout)
    for b, length in enumerate((12, 5, 1)):
        one = [t.detach()[b : b + 1, :length].requires_grad_() for t in leaves]
        wanted = flash_attn.flash_attn_func(*one)
        assert torch.equal(out[b : b + 1, :length], wanted) and (out[b, length:] == 0).all()
        of_one = torch.autograd.grad(wanted, one, dout[b : b + 1, :length])
        for got, want in zip(gradients, of_one, strict=True):
            assert torch.equal(got[b, :length], want[0]) and (got[b, length:] == 0).all()


def test_several_sequences_in_a_row_are_unpadded():
    lengths = torch.tensor([[2, 3, 0, 0, 0, 0], [3, 2, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0]])
    hidden = golden.draw(3, 6, 2)
    packed, indices, ends, longest = bert_padding.unpad_input_for_concatenated_sequences(hidden, lengths)
    assert ends.tolist() == [0, 2, 5, 8, 10, 16] and longest == 6
    assert torch.equal(packed, torch.cat((hidden[0, :5], hidden[1, :5], hidden[2])))
    assert torch.equal(bert_padding.pad_input(packed, indices, 3, 6)[1, :5], hidden[1, :5])
    packed, _, ends, longest, used = bert_padding.unpad_input(hidden, lengths > 5, lengths == 3)
    assert ends.tolist() == [0, 1, 2, 3] and longest == 1 and used.tolist() == [0, 0, 1]
    assert torch.equal(bert_padding.index_first_axis_residual(hidden, indices[:2])[0], hidden[[0, 1]])


@pytest.mark.parametrize("packed", [False, True])
def test_dropout_is_what_s_dmask_shows(packed):
    q, k, v, dout = draw((2, 4, 2, 30, 300, 16))
    leaves = [t.requires_grad_() for t in (q, k, v)]
    form = dict(dropout_p=0.3, causal=True, softcap=1.0, return_attn_probs=True)
    torch.manual_seed(5)
    if packed:
        flat, ends = [t.flatten(0, 1) for t in leaves], [torch.tensor([0, n, 2 * n]) for n in (30, 300)]
        out, lse, weights = flash_attn.flash_attn_varlen_func(*flat, *ends, 30, 300, **form)
        out, lse = out.view(2, 30, 4, 16), lse.view(4, 2, 30).transpose(0, 1)
    else:
        out, lse, weights = flash_attn.flash_attn_func(*leaves, **form)
    assert weights.shape == (2, 4, 128, 384)
    weights = weights[:, :, :30, :300]
    formula = formula_of(form, 4, 30, 300)
    keep = (weights >= 0).double() / (1 - 0.3)
    wanted, row_max, row_sum = golden.attention(*bnsd(q, k, v), **formula, keep=keep)
    golden.assert_close(out.transpose(1, 2), wanted, "out", slack=2)
    scores = golden.scores(*bnsd(q, k), softcap=1.0).masked_fill(~formula["seen"], float("-inf"))
    torch.testing.assert_close(weights.abs().double(), (scores - row_max.unsqueeze(-1)).exp(), rtol=1e-4, atol=1e-6)
    share = (weights < 0).sum() / formula["seen"].expand(weights.shape).sum()
    assert abs(share - 0.3) < 0.02
    gradients = torch.autograd.grad(out, leaves, dout)
    for got, want in zip(gradients, golden.gradients(*bnsd(q, k, v, dout), **formula, keep=keep)):
        golden.assert_close(got.transpose(1, 2), want, slack=4)
    torch.manual_seed(5)
    again = flash_attn.flash_attn_func(q, k, v, **form)[0]
    assert torch.equal(again, out)


def test_compiled():
    q, k, v, _ = draw(SHAPES[0])
    slopes = torch.rand(4)

    def attend(q, k, v):
        return flash_attn.flash_attn_func(q, k, v, causal=True, softcap=2.0, alibi_slopes=slopes)

    compiled = torch.compile(attend, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(q, k, v), attend(q, k, v))


Q, KV = golden.draw(1, 4, 2, 8), golden.draw(1, 4, 2, 8)
WRONG = [
    (dict(q=Q.double()), r"q is torch.float64 \(1, 4, 2, 8\) on cpu; accepted is float16, bfloat16 or"),
    (dict(k=KV.half()), "k is torch.float16 .* accepted is q's dtype, torch.float32"),
    (dict(q=Q[0]), r"q is .*\(4, 2, 8\) on cpu; accepted is \(batch_size, seqlen, nheads, headdim\)"),
    (dict(q=Q.to("meta")), "q is .* on meta; accepted is .* on the CPU"),
    (dict(q=[1.0]), r"q is \[1.0\]; accepted is"),
    (dict(v=KV[:, :3]), "v has 2 heads and 3 rows"),
    (dict(k=golden.draw(1, 4, 3, 8), v=golden.draw(1, 4, 3, 8)), "q has 2 heads; accepted is a multiple of k's number, 3"),
    (dict(dropout_p=1.0), "dropout_p is 1.0; accepted is a number from 0 to below 1"),
    (dict(softmax_scale=float("inf")), "softmax_scale is inf; accepted is None"),
    (dict(softmax_scale="1"), "softmax_scale is '1'; accepted is None"),
    (dict(window_size=3), "window_size is 3; accepted is a pair"),
    (dict(window_size=(float("inf"), 0)), "window_size is .inf, 0.; accepted is a pair"),
    (dict(window_size=(1, 2, 3)), r"window_size is \(1, 2, 3\); accepted is a pair"),
    (dict(softcap=None), "softcap is None; accepted is a finite number"),
    (dict(softcap=float("nan")), "softcap is nan"),
    (dict(alibi_slopes=torch.ones(2).half()), "alibi_slopes is torch.float16 .*accepted is None or float32"),
    (dict(alibi_slopes=torch.ones(3)), r"alibi_slopes is .*\(3,\) on cpu; accepted is \(2,\) or \(1, 2\)"),
    (dict(alibi_slopes=torch.ones(2, requires_grad=True)), "alibi requires grad"),
]


@pytest.mark.parametrize("changed, sentence", WRONG, ids=[sentence[:40] for _, sentence in WRONG])
def test_refusals_name_the_function_and_the_argument(changed, sentence):
    arguments = dict(q=Q, k=KV, v=KV) | changed
    with pytest.raises(RuntimeError, match="^flash_attn_func: .*" + sentence):
        flash_attn.flash_attn_func(**arguments)


def test_refusals_of_the_other_functions():
    ends = torch.tensor([0, 4], dtype=torch.int32)
    flat = KV[0]
    for call, sentence in (
        (lambda: flash_attn.flash_attn_qkvpacked_func(KV.unsqueeze(2)), "_qkvpacked_func: qkv has shape .* is 3 in"),
        (lambda: flash_attn.flash_attn_kvpacked_func(Q, KV), "kv is .* is .batch_size, seqlen, 2, nheads_k"),
        (lambda: flash_attn.flash_attn_varlen_func(flat, flat, flat, [0, 4], ends, 4, 4), "cu_seqlens_q is .0, 4.;"),
        (lambda: flash_attn.flash_attn_varlen_func(flat, flat, flat, ends, ends + 1, 4, 4), "cu_seqlens_k begins with 1"),
        (lambda: flash_attn.flash_attn_varlen_func(flat, flat, flat, ends, ends * 2, 4, 8), "cu_seqlens_k ends with 8"),
        (lambda: flash_attn.flash_attn_varlen_qkvpacked_func(flat, ends, 4), "qkv is .*total, 3, nheads, headdim"),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match=sentence):
            call()


def test_the_signatures_are_those_of_flash_attn():
    last = "causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False, "
    last += "return_attn_probs=False"
    first = "dropout_p=0.0, softmax_scale=None, " + last
    ends = "cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, "
    wanted = {
        "flash_attn_func": "q, k, v, " + first,
        "flash_attn_kvpacked_func": "q, kv, " + first,
        "flash_attn_qkvpacked_func": "qkv, " + first,
        "flash_attn_varlen_func": "q, k, v, " + ends + first + ", block_table=None",
        "flash_attn_varlen_kvpacked_func": "q, kv, " + ends + first,
        "flash_attn_varlen_qkvpacked_func": "qkv, cu_seqlens, max_seqlen, " + first,
    }
    for name, signature in wanted.items():
        assert str(inspect.signature(getattr(flash_attn, name))) == f"({signature})"
        assert getattr(flash_attn_interface, name) is getattr(flash_attn, name)


def test_every_rule_is_an_argument():
    from fusedattn.like import flash_attn_interface as third
    from fusedattn.like.flash_attn import raw

    functions = [f for module in (flash_attn, raw, third) for f in vars(module).values() if inspect.isfunction(f)]
    arguments = {name for function in functions for name in inspect.signature(function).parameters}
    assert {rule.argument for rule in RULES} <= arguments
