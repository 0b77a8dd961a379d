"""fusedattn.attention on torch tensors, forward and backward, against the formula in float64."""

import itertools

import fusedattn
import golden
import pytest
import torch
from fusedattn import Mask, causal, problem, window

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [  # B, N, Nk, Sq, Skv, D, Dv
    (2, 4, 2, 33, 57, 64, 64),
    (1, 3, 1, 1, 129, 40, 24),
    (1, 2, 2, 65, 1, 1, 1),
    (2, 2, 1, 17, 70, 80, 96),
    (1, 2, 1, 130, 257, 128, 128),
    (1, 1, 1, 5, 7, 768, 767),
]
MASKS = [
    Mask(),
    causal(),
    causal(align="top-left"),
    window(3, 0),
    window(2, 5, align="top-left"),
    window(-2, 5),
    window(40, None) & causal(align="top-left"),
    window(-10, 3),
]


def draw_qkv(shape, dtype):
    B, N, Nk, Sq, Skv, D, Dv = shape
    q, k = golden.draw(B, N, Sq, D, dtype=dtype), golden.draw(B, Nk, Skv, D, dtype=dtype)
    return q, k, golden.draw(B, Nk, Skv, Dv, dtype=dtype), golden.draw(B, N, Sq, Dv, dtype=dtype)


def check(q, k, v, d_out, seen, scale=None, **arguments):
    """Forward, statistics and gradients of BNSD tensors against the formula."""
    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
    got = fusedattn.attention(*leaves, scale=scale, return_stats=True, **arguments)
    out, row_max, row_sum = golden.attention(q, k, v, seen, scale)
    golden.assert_close(got[0], out, "out")
    golden.assert_statistics(*got[1:], row_max, row_sum)
    assert not got[1].requires_grad and not got[2].requires_grad
    found = torch.autograd.grad(got[0], leaves, d_out)
    for name, gradient, wanted in zip(
        ("dq", "dk", "dv"), found, golden.gradients(q, k, v, d_out, seen, scale)
    ):
        golden.assert_close(gradient, wanted, name, slack=2)


def of(mask, shape):
    return torch.from_numpy(mask.materialize(shape[3], shape[4]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_against_the_formula(shape, dtype, mask):
    check(*draw_qkv(shape, dtype), of(mask, shape), mask=mask)


@pytest.mark.parametrize("scale", [0.0, -0.3, 2.5])
def test_scale(scale):
    check(*draw_qkv(SHAPES[0], torch.float32), None, scale=scale)


@pytest.mark.parametrize("form", list(itertools.product([1, 2], [1, 4], [1, 33])), ids=str)
def test_bool_masks_broadcast(form):
    shape = SHAPES[0]
    shown = torch.rand(*form, shape[4]) > 0.4
    check(*draw_qkv(shape, torch.float32), shown, mask=shown)


def test_bool_masks_of_lower_rank_and_views():
    shape = SHAPES[0]
    tensors = draw_qkv(shape, torch.float32)
    shown = torch.rand(shape[3], shape[4]) > 0.4
    check(*tensors, shown, mask=shown)
    wide = torch.rand(2, 1, 40, 90) > 0.4
    check(*tensors, wide[:, :, 3:36, 20:77], mask=wide[:, :, 3:36, 20:77])
    check(*tensors, shown.expand(2, 4, -1, -1), mask=shown.expand(2, 4, -1, -1))
    turned = shown.t().contiguous().t()
    check(*tensors, shown, mask=turned)
    check(*tensors, shown, mask=shown.to(torch.uint8))


def test_rows_that_see_nothing():
    q, k, v, d_out = draw_qkv((1, 2, 1, 6, 4, 8, 8), torch.float32)
    shown = torch.ones(6, 4, dtype=torch.bool)
    shown[2] = False
    check(q, k, v, d_out, shown, mask=shown)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    out = fusedattn.attention(*leaves, mask=causal())
    gradients = torch.autograd.grad(out, leaves, d_out)
    assert (out[:, :, :2] == 0).all() and (gradients[0][:, :, :2] == 0).all()


ORDERS = {"BNSD": (0, 1, 2, 3), "BSND": (0, 2, 1, 3), "SBND": (2, 0, 1, 3)}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["BSND", "SBND", "BSH", "SBH"])
def test_layouts_give_the_same_bits(layout, dtype):
    q, k, v, d_out = draw_qkv(SHAPES[0], dtype)
    order = ORDERS[{"BSH": "BSND", "SBH": "SBND"}.get(layout, layout)]
    wanted = run_in("BNSD", q, k, v, d_out, mask=causal())
    laid = [t.permute(order).contiguous() for t in (q, k, v, d_out)]
    heads = None
    if layout.endswith("H"):
        laid, heads = [t.flatten(2) for t in laid], 4
    out, row_max, row_sum, *gradients = run_in(layout, *laid, mask=causal(), heads=heads)
    assert out.is_contiguous()
    for got, want in zip((out, *gradients), (wanted[0], *wanted[3:])):
        assert torch.equal(got.view(want.permute(order).shape), want.permute(order))
    assert torch.equal(row_max, wanted[1]) and torch.equal(row_sum, wanted[2])


def run_in(layout, q, k, v, d_out, **arguments):
    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
    results = fusedattn.attention(*leaves, layout=layout, return_stats=True, **arguments)
    return *(r.detach() for r in results), *torch.autograd.grad(results[0], leaves, d_out)


def test_strided_views_give_the_same_bits(capfd, monkeypatch):
    monkeypatch.setattr(problem, "verbose", lambda: True)
    q, k, v, d_out = draw_qkv(SHAPES[0], torch.float32)
    wanted = run_in("BNSD", q, k, v, d_out)
    capfd.readouterr()
    views = [torch.cat([t, t], dim=-1)[..., : t.shape[-1]] for t in (q, k, v)]
    views[0] = views[0].transpose(0, 2).contiguous().transpose(0, 2)
    views[1] = torch.stack([views[1]] * 3, dim=2)[:, :, 1]
    for got, want in zip(run_in("BNSD", *views, d_out), wanted):
        assert torch.equal(got, want)
    assert "fusedattn,copy," not in capfd.readouterr().err


def test_expanded_heads_and_batches():
    q, k, v, d_out = draw_qkv((3, 2, 2, 9, 11, 16, 16), torch.float32)
    k = k[:1, :1].expand(3, 2, -1, -1)
    check(q, k, v, d_out, None)


def test_a_gradient_that_is_expanded():
    q, k, v, _ = draw_qkv(SHAPES[0], torch.float32)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    found = torch.autograd.grad(fusedattn.attention(*leaves).sum(), leaves)
    ones = torch.ones(2, 4, 33, 64)
    for got, want in zip(found, golden.gradients(q, k, v, ones)):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)


def test_a_last_dimension_that_is_not_contiguous_is_copied_and_told(capfd, monkeypatch):
    monkeypatch.setattr(problem, "verbose", lambda: True)
    q, k, v, d_out = draw_qkv(SHAPES[0], torch.float32)
    wanted = run_in("BNSD", q, k, v, d_out)
    turned = k.transpose(2, 3).contiguous().transpose(2, 3)
    for got, want in zip(run_in("BNSD", q, turned, v, d_out), wanted):
        assert torch.equal(got, want)
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("fusedattn,copy,")]
    assert told and all(line.startswith("fusedattn,copy,k,2x2x57x64,") for line in told)


@pytest.mark.parametrize("needed", list(itertools.product([True, False], repeat=3)), ids=str)
def test_only_the_gradients_asked_for(needed):
    q, k, v, d_out = draw_qkv(SHAPES[0], torch.float32)
    leaves = [t.requires_grad_(need) for t, need in zip((q, k, v), needed)]
    out = fusedattn.attention(*leaves)
    assert out.requires_grad == any(needed)
    if any(needed):
        out.backward(d_out)
    for leaf, need, wanted in zip(leaves, needed, golden.gradients(q, k, v, d_out)):
        assert (leaf.grad is not None) == need
        if need:
            golden.assert_close(leaf.grad, wanted, slack=2)


@pytest.mark.parametrize(
    "shape", [(0, 2, 1, 3, 4, 8, 8), (2, 2, 1, 0, 4, 8, 8), (2, 2, 1, 3, 0, 8, 8)], ids=str
)
def test_zero_lengths(shape):
    check(*draw_qkv(shape, torch.float32), None)


def test_no_grad_and_inference_mode():
    q, k, v, _ = draw_qkv(SHAPES[0], torch.float32)
    wanted = fusedattn.attention(q, k, v)
    q.requires_grad_()
    with torch.no_grad():
        assert not fusedattn.attention(q, k, v).requires_grad
    with torch.inference_mode():
        assert torch.equal(fusedattn.attention(q, k, v), wanted)


def tensors(**changes):
    made = dict(q=torch.ones(1, 4, 3, 8), k=torch.ones(1, 2, 5, 8), v=torch.ones(1, 2, 5, 8))
    return made | changes


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        (dict(q="words"), TypeError, "q is a str"),
        (dict(k=[1.0]), TypeError, "k is a list"),
        (dict(q=torch.ones(4, 3, 8)), ValueError, r"q has shape \(4, 3, 8\).*4 dimensions"),
        (dict(k=torch.ones(1, 2, 5, 9)), ValueError, "k has 9 features per head.*8"),
        (dict(k=torch.ones(2, 2, 5, 8)), ValueError, "k has 2 sequences.*1"),
        (dict(v=torch.ones(1, 2, 6, 8)), ValueError, "v has 2 heads and 6 rows"),
        (dict(k=torch.ones(1, 3, 5, 8), v=torch.ones(1, 3, 5, 8)), ValueError, "heads.*4.*3|4.*heads.*3"),
        (dict(k=torch.ones(1, 2, 5, 8).half()), ValueError, "k has dtype torch.float16.*float32"),
        (dict.fromkeys("qkv", torch.ones(1, 1, 2, 8).double()), ValueError, "q has dtype torch.float64"),
        (dict.fromkeys("qkv", torch.ones(1, 1, 2, 1537)), ValueError, "1537.*1536"),
        (dict(layout="BDNS"), ValueError, "layout is 'BDNS'; accepted are BNSD"),
        (dict(layout="TND"), ValueError, "cu_seqlens_q is None"),
        (dict(cu_seqlens_q=[0, 1]), ValueError, "cu_seqlens_q is given with layout 'BNSD'"),
        (dict(layout="BSH"), ValueError, "heads is None"),
        (dict(heads=3), ValueError, "heads is 3.*4 heads"),
        (dict(mask=torch.ones(3, 4, dtype=torch.bool)), ValueError, r"mask has shape \(3, 4\)"),
        (dict(mask=torch.ones(3, 5)), ValueError, "mask is torch.float32"),
        (dict(mask="causal"), (TypeError, ValueError), "mask is a str, 'causal'; accepted are a Mask"),
        (dict(scale=float("nan")), ValueError, "scale"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_refusals(given, error, sentence):
    arguments = tensors(**given)
    with pytest.raises(error, match=sentence):
        fusedattn.attention(arguments.pop("q"), arguments.pop("k"), arguments.pop("v"), **arguments)
