"""flash-attn's own operators as ring attention calls them, and the forms of version 3."""

import inspect

import fusedattn
import golden
import pytest
import torch
from fusedattn.like import flash_attn
from fusedattn.like import flash_attn_interface as third
from fusedattn.like.flash_attn import flash_attn_interface as second
from test_like_flash_attn import bnsd, draw

SHAPE = (2, 4, 2, 33, 57, 40)
SLOPES = torch.tensor([0.3, 0.1, 0.02, 0.5])
RAW = dict(
    dropout_p=0.0, softmax_scale=0.2, causal=True, window_size_left=40, window_size_right=-1, softcap=1.5,
    alibi_slopes=SLOPES,
)  # fmt: skip


def test_the_signatures_are_visible():
    first = "q k v dropout_p softmax_scale causal window_size_left window_size_right softcap alibi_slopes"
    ends = "cu_seqlens_q cu_seqlens_k max_seqlen_q max_seqlen_k "
    saved = "dout q k v out softmax_lse dq dk dv "
    rest = "dropout_p softmax_scale causal window_size_left window_size_right softcap alibi_slopes "
    wanted = {
        "_flash_attn_forward": first + " return_softmax",
        "_flash_attn_varlen_forward": "q k v " + ends + rest + "return_softmax block_table leftpad_k seqused_k zero_tensors",
        "_flash_attn_backward": saved + rest + "deterministic rng_state",
        "_flash_attn_varlen_backward": saved + ends + rest + "deterministic rng_state zero_tensors",
    }  # fmt: skip
    for name, arguments in wanted.items():
        spec = inspect.getfullargspec(getattr(second, name))
        assert spec.args == arguments.split() and spec.varargs is None
        assert getattr(second, "_wrapped" + name) is getattr(second, name)
    assert inspect.getfullargspec(second._flash_attn_varlen_forward).defaults[:3] == (-1, -1, 0.0)


@pytest.mark.parametrize("dropout_p", [0.0, 0.25])
@pytest.mark.parametrize("packed", [False, True])
def test_forward_and_backward_are_those_of_autograd(packed, dropout_p):
    q, k, v, dout = draw(SHAPE)
    arguments, ends = dict(RAW, dropout_p=dropout_p), ()
    forward, backward = second._flash_attn_forward, second._flash_attn_backward
    if packed:
        q, k, v, dout = (t.flatten(0, 1) for t in (q, k, v, dout))
        ends = (torch.tensor([0, 33, 66]), torch.tensor([0, 57, 114]), 33, 57)
        forward, backward = second._flash_attn_varlen_forward, second._flash_attn_varlen_backward
    torch.manual_seed(3)
    out, lse, weights, state = forward(q, k, v, *ends, **arguments, return_softmax=dropout_p > 0)
    assert state.shape == (2,) and state.dtype == torch.int64 and (weights.numel() > 0) == (dropout_p > 0)
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    form = dict(dropout_p=dropout_p, softmax_scale=0.2, causal=True, window_size=(40, -1), softcap=1.5)
    form |= dict(alibi_slopes=SLOPES, return_attn_probs=True)
    torch.manual_seed(3)
    function = flash_attn.flash_attn_varlen_func if packed else flash_attn.flash_attn_func
    wanted, wanted_lse, _ = function(*leaves, *ends, **form)
    assert torch.equal(out, wanted) and torch.equal(lse, wanted_lse)
    into = [torch.full_like(t, float("nan")) for t in (q, k, v)]
    delta = backward(
        dout, q, k, v, out, lse, *into, *ends, **arguments, deterministic=False, rng_state=state
    )
    torch.testing.assert_close(delta, (dout * out).sum(-1).transpose(-1, -2))
    for got, want in zip(into, torch.autograd.grad(wanted, leaves, dout)):
        torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)
    only = torch.empty_like(k)
    backward(dout, q, k, v, out, lse, None, only, None, *ends, **arguments, deterministic=True, rng_state=state)
    assert torch.equal(only, into[1])


def test_a_ring_over_blocks_of_keys():
    """Partial results are merged by their log-sum-exps; every block's gradients come from the merged ones."""
    q, k, v, dout = draw((1, 4, 2, 24, 60, 16))
    arguments = dict(RAW, causal=False, window_size_left=-1, alibi_slopes=None, softcap=0.0)
    blocks = [slice(0, 25), slice(25, 60)]
    parts = [second._flash_attn_forward(q, k[:, b], v[:, b], **arguments, return_softmax=False)[:2] for b in blocks]
    out, row_max, row_sum = fusedattn.merge([(o, e, torch.ones_like(e)) for o, e in parts], layout="BSND")
    lse = row_max + row_sum.log()
    whole, whole_lse = second._flash_attn_forward(q, k, v, **arguments, return_softmax=False)[:2]
    torch.testing.assert_close(out, whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lse, whole_lse, atol=1e-5, rtol=1e-5)
    dq = torch.zeros_like(q)
    keys, values = torch.empty_like(k), torch.empty_like(v)
    for b in blocks:
        share, dk, dv = torch.empty_like(q), torch.empty_like(k[:, b]), torch.empty_like(v[:, b])
        second._flash_attn_backward(
            dout, q, k[:, b], v[:, b], out, lse, share, dk, dv, **arguments, deterministic=False
        )
        dq += share
        keys[:, b], values[:, b] = dk, dv
    for got, want in zip((dq, keys, values), golden.gradients(*bnsd(q, k, v, dout), scale=0.2)):
        golden.assert_close(got.transpose(1, 2), want, slack=4)


def test_rows_that_see_nothing_have_no_gradient():
    q, k, v, dout = draw((1, 2, 2, 9, 4, 8))
    arguments = dict(RAW, alibi_slopes=None, window_size_left=-1)
    out, lse, *_ = second._flash_attn_forward(q, k, v, **arguments, return_softmax=False)
    assert (lse[:, :, :5] == float("inf")).all() and (out[:, :5] == 0).all()
    into = [torch.full_like(t, float("nan")) for t in (q, k, v)]
    second._flash_attn_backward(dout, q, k, v, out, lse, *into, **arguments, deterministic=False)
    assert (into[0][:, :5] == 0).all() and all(torch.isfinite(t).all() for t in into)


def test_parts_of_packed_sequences():
    q, k, v, _ = (t.flatten(0, 1) for t in draw(SHAPE))
    ends, used, pads = (torch.tensor([0, 33, 66]), torch.tensor([0, 57, 114])), torch.tensor([20, 57]), [3, 9]
    arguments = dict(RAW, return_softmax=False, leftpad_k=torch.tensor(pads), seqused_k=used)
    out, lse, *_ = second._flash_attn_varlen_forward(q, k, v, *ends, 33, 57, **arguments)
    for b, (pad, length) in enumerate(zip(pads, used)):
        rows, keys = slice(33 * b, 33 * b + 33), slice(57 * b + pad, 57 * b + int(length))
        plain = {name: RAW[name] for name in RAW}
        one = second._flash_attn_forward(q[None, rows], k[None, keys], v[None, keys], **plain, return_softmax=False)
        assert torch.equal(out[rows], one[0][0]) and torch.equal(lse[:, rows], one[1][0])


def test_refusals():
    q, k, v, dout = draw(SHAPE)
    out, lse, *_ = second._flash_attn_forward(q, k, v, **RAW, return_softmax=False)
    saved = (dout, q, k, v, out, lse, None, None, None)
    with pytest.raises(RuntimeError, match="^_flash_attn_backward: rng_state is None; accepted is the tensor"):
        second._flash_attn_backward(*saved, **dict(RAW, dropout_p=0.5), deterministic=False)
    with pytest.raises(RuntimeError, match="rng_state is torch.float32 .* accepted is the int64 tensor"):
        second._flash_attn_backward(*saved, **RAW, deterministic=False, rng_state=torch.ones(2))
    for into, sentence in (
        (q[:, :3], r"dq is .*\(2, 3, 4, 40\) on cpu; accepted is torch.float32 \(2, 33, 4, 40\)"),
        (q.half(), "dq is torch.float16"),
        ([1.0], r"dq is \[1.0\]; accepted is"),
    ):
        with pytest.raises(RuntimeError, match=sentence):
            second._flash_attn_backward(dout, q, k, v, out, lse, into, None, None, **RAW, deterministic=False)
    with pytest.raises(RuntimeError, match=r"softmax_lse is None; accepted is torch.float32 \(2, 4, 33\)"):
        second._flash_attn_backward(dout, q, k, v, out, None, q, None, None, **RAW, deterministic=False)
    flat, pages = [t.flatten(0, 1) for t in (q, k, v)], golden.draw(6, 4, 2, 40)
    ends, k_ends, table = torch.tensor([0, 33, 66]), torch.tensor([0, 3, 8]), torch.tensor([[0, 1], [2, 3]])
    for changed, sentence in (
        (dict(cu_seqlens_q=ends * 2), "cu_seqlens_q ends with 132; accepted is at most the number of packed rows, 66"),
        (dict(cu_seqlens_q=ends + 1), "cu_seqlens_q begins with 1"),
        (dict(cu_seqlens_k=k_ends[:2]), "cu_seqlens_k is .* accepted is as many as in cu_seqlens_q, 3"),
        (dict(cu_seqlens_k=torch.tensor([0, 9, 10])), "cu_seqlens_k holds 9; accepted is 0 to 8"),
        (dict(seqused_k=torch.tensor([1, 9])), "seqused_k holds 9; accepted is 0 to 8"),
        (dict(seqused_k=torch.tensor([1])), "seqused_k is .* accepted is .2,., one for each"),
        (dict(leftpad_k=torch.tensor([1, -9])), "leftpad_k holds -9; accepted is 0 to 8"),
        (dict(block_table=table[:1]), "block_table is .* one row for each of 2 sequences"),
        (dict(v=pages[:5]), "v is .* accepted is k's shape but for the last dimension"),
        (dict(alibi_slopes=torch.ones(3, 4)), "alibi_slopes is .* accepted is .4,. or .2, 4."),
    ):  # fmt: skip
        given = dict(RAW, q=flat[0], k=pages, v=pages, cu_seqlens_q=ends, cu_seqlens_k=k_ends, block_table=table)
        with pytest.raises(RuntimeError, match=sentence):
            second._flash_attn_varlen_forward(max_seqlen_q=33, max_seqlen_k=5, **(given | changed))
    with pytest.raises(RuntimeError, match="^flash_attn_func: qv is .* accepted is None"):
        third.flash_attn_func(q, k, v, qv=q)
    with pytest.raises(RuntimeError, match="attention_chunk is 64; accepted is 0"):
        third.flash_attn_func(q, k, v, attention_chunk=64)
    with pytest.raises(RuntimeError, match="v_descale is .* accepted is None"):
        third.flash_attn_func(q, k, v, v_descale=lse)
    with pytest.raises(RuntimeError, match="learnable_sink is .* accepted is None or float32"):
        third.flash_attn_func(q, k, v, learnable_sink=torch.ones(4, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="cu_seqlens_q is given; accepted is None"):
        third.flash_attn_with_kvcache(q, k, v, cu_seqlens_q=torch.tensor([0, 1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_version_3_has_sinks_and_log_sum_exps(dtype):
    q, k, v, dout = draw(SHAPE, dtype)
    leaves, sink = [t.requires_grad_() for t in (q, k, v)], golden.draw(4, dtype=dtype).requires_grad_()
    out, lse = third.flash_attn_func(*leaves, causal=True, learnable_sink=sink, return_softmax_lse=True)
    seen = torch.from_numpy(fusedattn.causal().materialize(33, 57))
    wanted, row_max, row_sum = golden.attention(*bnsd(q, k, v), seen, sink=sink)
    golden.assert_close(out.transpose(1, 2), wanted, slack=2)
    torch.testing.assert_close(lse.double(), row_max + row_sum.log(), atol=1e-4, rtol=1e-4)
    gradients = torch.autograd.grad(out, (*leaves, sink), dout)
    for got, want in zip(gradients, golden.gradients(*bnsd(q, k, v, dout), seen, sink=sink), strict=True):
        golden.assert_close(got.transpose(1, 2) if got.dim() == 4 else got, want, slack=4)
    assert torch.equal(third.flash_attn_func(q, k, v), flash_attn.flash_attn_func(q, k, v))


def test_version_3_of_the_other_forms():
    q, k, v, _ = draw(SHAPE)
    ends = torch.tensor([0, 33, 66]), torch.tensor([0, 57, 114])
    flat = [t.flatten(0, 1) for t in (q, k, v)]
    used = torch.tensor([33, 12]), torch.tensor([50, 57])
    out = third.flash_attn_varlen_func(*flat, *ends, 33, 57, *used, causal=True)
    for b, (rows, keys) in enumerate(zip(*used)):
        one = third.flash_attn_func(q[b : b + 1, :rows], k[b : b + 1, :keys], v[b : b + 1, :keys], causal=True)
        assert torch.equal(out[33 * b : 33 * b + rows], one[0])
    assert (out[33 + 12 :] == 0).all()
    qkv = torch.cat((q[:, :33], k[:, :33], v[:, :33]), dim=2)
    wanted = third.flash_attn_func(q, k[:, :33], v[:, :33], softcap=1.0)
    assert torch.equal(third.flash_attn_qkvpacked_func(qkv, num_heads_q=4, softcap=1.0), wanted)
    wanted = flash_attn.flash_attn_with_kvcache(q, k, v, cache_seqlens=41, causal=True)
    assert torch.equal(third.flash_attn_with_kvcache(q, k, v, cache_seqlens=41, causal=True), wanted)
