"""fusedattn.like.xformers: every class of attn_bias against the formula in float64, gradients, dropout, merging."""

import inspect

import golden
import pytest
import torch
import xformers_cases as cases
from fusedattn import _native
from fusedattn.like import xformers
from fusedattn.like.xformers import attn_bias
from fusedattn.like.xformers.ops.fmha import biases

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BIASES = cases.biases(attn_bias)


@pytest.fixture(autouse=True)
def one_thread():
    """Calls this small only wait for other threads."""
    torch.set_num_threads(1)


def draw(name, dtype=torch.float32, heads=3):
    """q, k, v, dout in [B, M, H, K] as the class of this name takes them, and the class's object and formula."""
    bias, rows, columns = BIASES[name]
    batch = 1 if "Block" in name else 2
    sizes = (rows, 16), (columns, 16), (columns, 24), (rows, 24)
    tensors = [golden.draw(batch, n, heads, features, dtype=dtype) for n, features in sizes]
    formula = dict(seen=cases.seen(name, rows, columns))
    if name == "LowerTriangularMaskWithTensorBias":
        bias = attn_bias.LowerTriangularMask().add_bias(golden.draw(2, 3, rows, columns, dtype=dtype))
        formula["bias"] = bias._bias
    return *tensors, bias, formula


def bnsd(*tensors):
    return [t.transpose(1, 2) for t in tensors]


def assert_gradients(got, wanted, slack=4):
    assert len(got) == len(wanted)
    for name, one, other in zip(("dq", "dk", "dv", "db"), got, wanted):
        golden.assert_close(one.transpose(1, 2) if name != "db" else one, other, name, slack)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", cases.FORMULAS)
def test_every_class_against_the_formula(name, dtype):
    q, k, v, dout, bias, formula = draw(name, dtype)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    out = xformers.memory_efficient_attention(*leaves, bias)
    wanted, row_max, row_sum = golden.attention(*bnsd(q, k, v), **formula)
    golden.assert_close(*bnsd(out), wanted, "out", slack=2)
    same, lse = xformers.memory_efficient_attention_forward_requires_grad(q, k, v, bias)
    assert torch.equal(same, out) and lse.dtype == torch.float32 and not same.requires_grad
    unseen = ~formula["seen"].any(-1).expand(lse.shape)
    want_lse = (row_max + row_sum.log()).masked_fill(unseen, float("-inf"))
    torch.testing.assert_close(lse.double(), want_lse, rtol=1e-4, atol=1e-4)
    of_autograd = torch.autograd.grad(out, leaves, dout)
    by_hand = xformers.memory_efficient_attention_backward(dout, out.detach(), lse, q, k, v, bias)
    slack = 6 if dtype == torch.bfloat16 else 4
    wanted = golden.gradients(*bnsd(q, k, v, dout), **formula)[:3]
    assert_gradients(of_autograd, wanted, slack)
    assert_gradients(by_hand, wanted, slack)
    rounds_weights = dtype == torch.bfloat16 and _native.lane_chosen() == "avx512_bf16"
    for one, other in zip(of_autograd, by_hand, strict=True):
        # Statistics of another form move weights by an ulp of float32, and some of those over an edge between two bfloat16.
        atol = 2**-8 * other.abs().max().item() if rounds_weights else 1e-5
        assert one.shape == other.shape and torch.allclose(one, other, rtol=1e-2, atol=atol)



def test_every_class_of_the_table_is_there():
    assert biases.KINDS.keys() - {"NoneType"} == cases.FORMULAS.keys() == BIASES.keys()
    for name, (bias, *_) in BIASES.items():
        assert type(bias).__name__ == name


@pytest.mark.parametrize("name", cases.FORMULAS)
def test_materialize_is_the_formula(name):
    bias, rows, columns = BIASES[name]
    shape = (2, 3, rows, columns)
    shown = cases.seen(name, rows, columns).expand(shape)
    added = getattr(bias, "_bias", torch.zeros(shape))
    wanted = torch.where(shown, added, float("-inf"))
    assert torch.equal(bias.materialize(shape), wanted) and torch.equal(bias.to("cpu").materialize(shape), wanted)


@pytest.mark.parametrize("name", [name for name in cases.FORMULAS if "Block" in name])
def test_what_is_hidden_may_be_nan(name):
    q, k, v, dout, bias, formula = draw(name)
    hidden = ~formula["seen"].any(0)
    clean = [t.clone().requires_grad_() for t in (q, k, v)]
    dirty = [t.clone() for t in (q, k, v)]
    for tensor in dirty[1:]:
        tensor[0, hidden] = float("nan")
    dirty = [t.requires_grad_() for t in dirty]
    outs = [xformers.memory_efficient_attention(*leaves, bias) for leaves in (clean, dirty)]
    gradients = [torch.autograd.grad(out, leaves, dout) for out, leaves in zip(outs, (clean, dirty))]
    assert torch.equal(*outs)
    assert all(torch.equal(one, other) for one, other in zip(*gradients))
    assert (gradients[0][1][0, hidden] == 0).all()


def test_three_and_five_dimensions():
    q, k, v, dout = (golden.draw(4, rows, 3, 16) for rows in (9, 13, 13, 9))
    bias = golden.draw(4, 3, 9, 13).requires_grad_()
    leaves = [t.requires_grad_() for t in (q, k, v)]
    out = xformers.memory_efficient_attention(*leaves, bias)
    wanted = out, *torch.autograd.grad(out, (*leaves, bias), dout)
    flat = [t.transpose(1, 2).flatten(0, 1) for t in leaves]
    of_flat = xformers.memory_efficient_attention(*flat, bias.flatten(0, 1))
    got = of_flat.unflatten(0, (4, 3)).transpose(1, 2), *torch.autograd.grad(
        of_flat, (*leaves, bias), dout.transpose(1, 2).flatten(0, 1)
    )
    assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))
    grouped = [t.unsqueeze(3) for t in leaves]
    of_groups = xformers.memory_efficient_attention(*grouped, bias.unsqueeze(2))
    got = of_groups.squeeze(3), *torch.autograd.grad(of_groups, (*leaves, bias), dout.unsqueeze(3))
    assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))
    lse = xformers.memory_efficient_attention_forward_requires_grad(q, k, v)[1]
    of_flat = xformers.memory_efficient_attention_forward_requires_grad(*flat)
    assert of_flat[1].shape == (12, 1, 9) and torch.equal(of_flat[1].view(4, 3, 9), lse)
    assert xformers.memory_efficient_attention_partial(*grouped)[1].shape == (4, 3, 1, 9)
    of_flat = xformers.memory_efficient_attention_backward(of_flat[0], *of_flat, *flat)
    assert [t.shape for t in of_flat] == [t.shape for t in flat]


@pytest.mark.parametrize("name", ["LowerTriangularMask", "BlockDiagonalCausalMask", "PagedBlockDiagonalPaddedKeysMask"])
def test_shared_heads_are_those_that_are_expanded(name):
    """[B, M, G, H, K] and [B, M, H, K] with keys of stride 0, read once; the gradient is that of every head."""
    q, k, v, dout, bias, formula = draw(name, heads=4)
    k, v = (t[:, :, :2, None].expand(-1, -1, -1, 2, -1) for t in (k, v))
    own = [t.flatten(2, 3).contiguous().requires_grad_() for t in (k, v)]
    wanted = xformers.memory_efficient_attention(q, *own, bias)
    q5, dout5 = (t.unflatten(2, (2, 2)) for t in (q, dout))
    out, lse = xformers.memory_efficient_attention_forward_requires_grad(q5, k, v, bias)
    torch.testing.assert_close(out.flatten(2, 3), wanted, rtol=1e-5, atol=1e-6)
    assert out.shape == (*q5.shape[:-1], 24) and lse.shape == (len(q), 2, 2, q.shape[1])
    leaves = [t.requires_grad_() for t in (k, v)]
    gradients = torch.autograd.grad(xformers.memory_efficient_attention(q5, *leaves, bias), leaves, dout5)
    by_hand = xformers.memory_efficient_attention_backward(dout5, out, lse, q5, k, v, bias)
    for one, other, want in zip(gradients, by_hand[1:], torch.autograd.grad(wanted, own, dout), strict=True):
        torch.testing.assert_close(one.flatten(2, 3), want, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(other.flatten(2, 3), want, rtol=1e-4, atol=1e-6)
    one_head = [t[:, :, :1, 0].detach().expand(-1, -1, 4, -1) for t in (k, v)]
    shared = xformers.memory_efficient_attention(q, *one_head, bias)
    wanted = xformers.memory_efficient_attention(q, *(t.contiguous() for t in one_head), bias)
    torch.testing.assert_close(shared, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 9, 13), (1, 3, 9, 13), (2, 1, 1, 13), (1, 1, 9, 13), (2, 3, 9, 1)], ids=str)
def test_tensors_repeat_and_have_gradients(shape):
    q, k, v, dout = (golden.draw(2, rows, 3, 16) for rows in (9, 13, 13, 9))
    bias = golden.draw(*shape).requires_grad_()
    leaves = [t.requires_grad_() for t in (q, k, v)]
    out = xformers.memory_efficient_attention(*leaves, bias)
    golden.assert_close(*bnsd(out), golden.attention(*bnsd(q, k, v), bias=bias)[0], "out", slack=2)
    gradients = torch.autograd.grad(out, (*leaves, bias), dout)
    assert_gradients(gradients, golden.gradients(*bnsd(q, k, v, dout), bias=bias))
    aligned = torch.zeros(2, 3, 9, 16)[..., :13].copy_(bias.detach())  # rows padded in memory, as xFormers wants it
    assert torch.equal(xformers.memory_efficient_attention(*leaves, aligned), out)
    assert torch.equal(xformers.memory_efficient_attention(*leaves, bias.detach().expand(2, 3, 9, 13)), out)


@pytest.mark.parametrize("name", ["NoneType", "BlockDiagonalMask", "BlockDiagonalPaddedKeysMask", "BlockDiagonalGappyKeysMask"])
def test_dropout_drops_and_its_gradients_drop_the_same(name):
    if name == "NoneType":
        q, k, v, bias = *(golden.draw(2, 40, 3, 16) for _ in range(3)), None
    else:
        q, k, v, _, bias, _ = draw(name)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    torch.manual_seed(3)
    out = xformers.memory_efficient_attention(*leaves, bias, p=0.4)
    torch.manual_seed(3)
    assert torch.equal(xformers.memory_efficient_attention(*leaves, bias, p=0.4), out)
    assert not torch.equal(xformers.memory_efficient_attention(*leaves, bias, p=0.4), out)
    assert (xformers.memory_efficient_attention(*leaves, bias, p=1.0) == 0).all()
    dout = golden.draw(*out.shape)
    dv = torch.autograd.grad(out, leaves[2], dout)[0]  # out is linear in v: sum(dv * v) = sum(dout * out)
    torch.testing.assert_close((dv * v).sum(), (dout * out).sum(), rtol=1e-4, atol=1e-4)
    torch.manual_seed(3)
    moved = golden.draw(*q.shape) * 1e-2
    more = xformers.memory_efficient_attention(q.detach() + moved, k.detach(), v.detach(), bias, p=0.4)
    out = xformers.memory_efficient_attention(*leaves, bias, p=0.0)
    assert more.shape == out.shape


def test_output_dtype():
    q, k, v, dout = (golden.draw(2, 9, 3, 16, dtype=torch.bfloat16) for _ in range(4))
    wide = xformers.memory_efficient_attention(q, k, v, output_dtype=torch.float32)
    assert torch.equal(wide, xformers.memory_efficient_attention(*(t.float() for t in (q, k, v))))
    partial, lse = xformers.memory_efficient_attention_partial(q, k, v)
    assert torch.equal(partial, wide) and lse.shape == (2, 3, 9)
    narrow = xformers.memory_efficient_attention_partial(q, k, v, output_dtype=torch.bfloat16)[0]
    assert torch.equal(narrow, xformers.memory_efficient_attention(q, k, v))
    half = xformers.memory_efficient_attention(q.float(), k.float(), v.float(), output_dtype=torch.float16)
    assert torch.equal(half, wide.half())
    for gradient in xformers.memory_efficient_attention_backward(dout, wide, lse, q, k, v):
        assert gradient.dtype == torch.bfloat16


@pytest.mark.parametrize("stacked", [False, True])
def test_parts_of_keys_merge(stacked):
    """Out, lse, and the gradients of each part from what was merged; a part that shows nothing adds nothing."""
    q, k, v, dout = (golden.draw(2, rows, 4, 16) for rows in (9, 30, 30, 9))
    spans = [slice(0, 11), slice(11, 12), slice(12, 30)]
    given = [torch.zeros(2, 4, 9, 30) for _ in spans]
    given[1][:, :, :5] = float("-inf")
    whole = torch.cat([bias[..., span] for bias, span in zip(given, spans)], -1)
    parts = [
        xformers.memory_efficient_attention_partial(q, k[:, span], v[:, span], bias[..., span].contiguous())
        for bias, span in zip(given, spans)
    ]
    outs, lses = ([part[i] for part in parts] for i in (0, 1))
    assert (lses[1][:, :, :5] == float("-inf")).all()
    if stacked:
        outs, lses = torch.stack(outs), torch.stack(lses)
    out, lse = xformers.merge_attentions(outs, lses)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    wanted = xformers.memory_efficient_attention(*leaves, whole)
    want_lse = xformers.memory_efficient_attention_forward_requires_grad(*leaves, whole)[1]
    torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lse, want_lse, rtol=1e-5, atol=1e-5)
    dq = torch.zeros_like(q)
    for span, want in zip(spans, zip(*(g.split((11, 1, 18), 1) for g in torch.autograd.grad(wanted, leaves[1:], dout)))):
        part = xformers.memory_efficient_attention_backward(
            dout, out, lse, q, k[:, span], v[:, span], whole[..., span].contiguous()
        )
        dq += part[0]
        for got, one in zip(part[1:], want, strict=True):
            torch.testing.assert_close(got, one, rtol=1e-4, atol=1e-5)
    wanted = torch.autograd.grad(xformers.memory_efficient_attention(q, k, v, whole), q, dout)[0]
    torch.testing.assert_close(dq, wanted, rtol=1e-4, atol=1e-5)
    groups = [[t.unflatten(axis, (2, 2)) for t in parts] for parts, axis in ((outs, 2), (lses, 1))]
    of_groups = xformers.merge_attentions(*groups, output_dtype=torch.float16)
    assert torch.equal(of_groups[0], out.half().unflatten(2, (2, 2))) and torch.equal(of_groups[1].flatten(1, 2), lse)
    assert xformers.merge_attentions(outs, lses, write_lse=False)[1] is None


def test_merging_has_no_derivative():
    out, lse = golden.draw(1, 3, 2, 8).requires_grad_(), golden.draw(1, 2, 3)
    merged, _ = xformers.merge_attentions([out], [lse])
    torch.testing.assert_close(merged, out)
    with pytest.raises(NotImplementedError, match="Backward pass is not implemented for merge_attentions"):
        merged.sum().backward()
    with pytest.raises(ValueError, match="write_lse is False"):
        xformers.merge_attentions([out], [lse], write_lse=False)


@pytest.mark.parametrize("order", [[3, 0, 2, 1], [1, 0, 3, 2]])
def test_sequences_out_of_order(order):
    """Keys that lie apart but not in the order of the queries: one call of the core, rows moved and moved back."""
    starts = [cases.PADDING * b for b in order]
    bias = attn_bias.BlockDiagonalCausalWithOffsetGappyKeysMask.from_seqlens(cases.QUERIES, [*starts, 48], cases.KEYS)
    q, k, v, dout = (golden.draw(1, rows, 2, 16) for rows in (15, 48, 48, 15))
    leaves = [t.requires_grad_() for t in (q, k, v)]
    out = xformers.memory_efficient_attention(*leaves, bias)
    gradients = torch.autograd.grad(out, leaves, dout)
    moved = torch.cat([torch.arange(start, start + cases.PADDING) for start in starts])
    same = attn_bias.BlockDiagonalCausalWithOffsetPaddedKeysMask.from_seqlens(cases.QUERIES, cases.PADDING, cases.KEYS)
    wanted = xformers.memory_efficient_attention(q, k[:, moved], v[:, moved], same)
    assert torch.equal(out, wanted)
    for one, other in zip(gradients, torch.autograd.grad(wanted, leaves, dout), strict=True):
        assert torch.equal(one, other)
    out, lse = xformers.memory_efficient_attention_forward_requires_grad(q, k, v, bias)
    for one, other in zip(gradients, xformers.memory_efficient_attention_backward(dout, out, lse, q, k, v, bias)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["BlockDiagonalGappyKeysMask", "BlockDiagonalPaddedKeysMask", "LowerTriangularMask"])
def test_bits_do_not_depend_on_threads(name):
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        q, k, v, dout, bias, _ = draw(name)
        leaves = [t.requires_grad_() for t in (q, k, v)]
        out = xformers.memory_efficient_attention(*leaves, bias, p=0.2)
        results.append((out, *torch.autograd.grad(out, leaves, dout)))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("sizes", [(0, 3, 4), (2, 0, 4), (2, 3, 0)], ids=str)
def test_nothing_to_attend(sizes):
    batch, rows, columns = sizes
    leaves = [golden.draw(batch, n, 2, 8).requires_grad_() for n in (rows, columns, columns)]
    out = xformers.memory_efficient_attention(*leaves)
    assert out.shape == leaves[0].shape and (out == 0).all()
    assert all((g == 0).all() for g in torch.autograd.grad(out, leaves, out))
    lse = xformers.memory_efficient_attention_forward_requires_grad(*leaves)[1]
    assert lse.shape == (batch, 2, rows) and (lse == float("-inf")).all()


@pytest.mark.parametrize("name", ["LowerTriangularMask", "BlockDiagonalMask"])
def test_compiled(name):
    q, k, v, _, bias, _ = draw(name)

    def attend(q, k, v):
        made = bias if name == "BlockDiagonalMask" else attn_bias.LowerTriangularMask()
        return xformers.memory_efficient_attention(q, k, v, made)

    compiled = torch.compile(attend, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(q, k, v), attend(q, k, v))


def test_the_signatures_are_those_of_xformers():
    first, last = "(query, key, value, attn_bias=None, p=0.0, scale=None, *, op=None", ", output_dtype=None)"
    wanted = {
        "memory_efficient_attention": first + last,
        "memory_efficient_attention_forward": first + last,
        "memory_efficient_attention_forward_requires_grad": first + last,
        "memory_efficient_attention_partial": first + last,
        "memory_efficient_attention_backward": first.replace("(", "(grad, output, lse, ") + ")",
        "merge_attentions": "(attn_split, lse_split, write_lse=True, output_dtype=None)",
    }
    for name, signature in wanted.items():
        found = inspect.signature(getattr(xformers, name))
        bare = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
        assert str(inspect.Signature(bare)) == signature, name


@pytest.mark.parametrize("scale", [0.0, 0, -0.0])
def test_a_scale_of_0_gives_the_mean_of_the_values(scale):
    q, k, v = (torch.randn(1, 4, 2, 8) for _ in range(3))
    out = xformers.memory_efficient_attention(q, k, v, scale=scale)
    torch.testing.assert_close(out, v.mean(1, keepdim=True).expand_as(out))
