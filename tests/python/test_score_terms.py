"""Bias, ALiBi, sink and dropout on torch tensors, forward and backward, against the formula in float64."""

import itertools

import fusedattn
import golden
import pytest
import torch
from fusedattn import Mask, causal, prefix, window
from sides import check, draw_qkv, run
from test_guard_pages import Guarded

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [  # B, N, Nk, Sq, Skv, D, Dv
    (2, 4, 2, 33, 57, 64, 64),
    (1, 3, 1, 1, 129, 40, 24),
    (1, 2, 2, 65, 1, 1, 1),
    (1, 2, 1, 130, 257, 128, 96),
]
SHAPE = SHAPES[0]
MASKS = [None, causal(), window(9, 4, align="top-left"), causal() | prefix(20)]


def seen_of(mask, shape):
    if mask is None:
        return None
    seen = torch.from_numpy(mask.materialize(shape[3], shape[4]))
    return seen[:, None] if seen.dim() == 3 else seen


def everything(shape, dtype=torch.float32, sequences=True):
    B, N, _, Sq, Skv, *_ = shape
    slopes = torch.rand(B, N) if sequences else torch.rand(N)
    return dict(
        softcap=0.7, bias=golden.draw(B, N, Sq, Skv, dtype=dtype), slopes=slopes, sink=golden.draw(N),
        dropout=(0.2, 77),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("term", ["softcap", "bias", "slopes", "sink", "dropout", "all"])
def test_against_the_formula(term, mask, shape, dtype):
    terms = everything(shape, dtype)
    terms = terms if term == "all" else {term: terms[term]}
    check(*draw_qkv(shape, dtype), seen_of(mask, shape), mask, **terms)


@pytest.mark.parametrize(
    "pair", list(itertools.combinations(["softcap", "bias", "slopes", "sink", "dropout"], 2)), ids=str
)
def test_pairs(pair):
    terms = everything(SHAPE)
    check(*draw_qkv(SHAPE), seen_of(causal(), SHAPE), causal(), **{name: terms[name] for name in pair})


FORMS = [*itertools.product([1, 2], [1, 4], [1, 33]), (4, 33), (1, 33), (4, 1), (1, 1), (33,), (1,)]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_bias_broadcasts_and_its_gradient_sums(form):
    check(*draw_qkv(SHAPE), bias=golden.draw(*form, 57))
    check(
        *draw_qkv(SHAPE), seen_of(causal(), SHAPE), causal(), bias=golden.draw(*form, 57), sink=torch.ones(4)
    )


@pytest.mark.parametrize("bias_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_bias_of_another_dtype(dtype, bias_dtype):
    for form in ((2, 4, 33), (1, 4, 1)):
        bias = golden.draw(*form, 57, dtype=bias_dtype)
        check(*draw_qkv(SHAPE, dtype), bias=bias)
        assert run(*draw_qkv(SHAPE, dtype), bias=bias)[-1].dtype == bias_dtype


def test_views_of_a_bias():
    tensors = draw_qkv(SHAPE)
    wide = golden.draw(2, 4, 40, 90)
    check(*tensors, bias=wide[:, :, 3:36, 20:77])
    check(*tensors, bias=golden.draw(2, 33, 4, 57).transpose(1, 2))
    turned = golden.draw(57, 33).t()
    check(*tensors, bias=turned)
    relative = golden.draw(33 + 57 - 1)
    check(*tensors, bias=relative.as_strided((33, 57), (1, 1)))
    check(*tensors, bias=golden.draw(4, 1, 57).expand(2, 4, 33, 57))


def test_an_expanded_bias_has_a_gradient_per_element():
    q, k, v, d_out = draw_qkv(SHAPE)
    row = golden.draw(4, 1, 57).requires_grad_()
    whole = row.expand(2, 4, 33, 57)
    out = fusedattn.attention(q, k, v, bias=whole)
    d_whole, d_row = torch.autograd.grad(out, (whole, row), d_out)
    wanted = golden.gradients(q, k, v, d_out, bias=whole)[-1]
    golden.assert_close(d_whole, wanted, "expanded", slack=2)
    golden.assert_close(d_row, wanted.sum((0, 2)).unsqueeze(1), "row", slack=4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_minus_infinity_hides(dtype):
    tensors = draw_qkv(SHAPE, dtype)
    shown = torch.rand(33, 57) > 0.4
    shown[5] = False
    hides = torch.zeros(33, 57).masked_fill(~shown, float("-inf"))
    out, row_max, row_sum, *gradients = run(*tensors, bias=hides)
    wanted = run(*tensors, mask=shown)
    golden.assert_close(out, wanted[0].double(), "out")
    golden.assert_statistics(row_max, row_sum, *(t.double() for t in wanted[1:3]))
    assert (out[:, :, 5] == 0).all() and (gradients[0][:, :, 5] == 0).all()
    for got, want in zip(gradients, wanted[3:]):
        golden.assert_close(got, want.double(), slack=2)
    assert (gradients[3][~shown] == 0).all()


def test_the_lowest_number_hides_like_torch():
    """Padding written as the lowest float32: a row of nothing else averages the values, as torch's does."""
    q, k, v, d_out = draw_qkv((1, 2, 2, 9, 30, 16, 16))
    bias = torch.zeros(9, 30)
    bias[:, 20:] = golden.LOWEST
    bias[3] = golden.LOWEST
    check(q, k, v, d_out, bias=bias)


def test_a_hidden_bias_may_hold_anything():
    q, k, v, d_out = draw_qkv(SHAPE)
    seen = seen_of(causal(), SHAPE)
    bias = golden.draw(33, 57)
    wanted = run(q, k, v, d_out, mask=causal(), bias=bias)
    for value in (float("nan"), float("inf")):
        got = run(q, k, v, d_out, mask=causal(), bias=bias.masked_fill(~seen, value))
        assert all(torch.equal(a, b) for a, b in zip(got, wanted))


@pytest.mark.parametrize("square_root", [False, True])
@pytest.mark.parametrize("align", ["bottom-right", "top-left"])
@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("lengths", [(33, 57), (57, 33), (129, 200)], ids=str)
def test_alibi(lengths, mask, align, square_root):
    shape = (2, 4, 2, *lengths, 24, 40)
    for slopes in (torch.rand(4), torch.rand(2, 4), torch.rand(1).expand(4), torch.rand(4, 2).t()):
        terms = dict(slopes=slopes, align=align, square_root=square_root)
        check(*draw_qkv(shape), seen_of(mask, shape), mask, **terms)


def test_slopes_alone_align_to_the_bottom_right():
    q, k, v, _ = draw_qkv(SHAPE)
    slopes = torch.rand(4)
    wanted = fusedattn.attention(q, k, v, alibi=fusedattn.Alibi(slopes))
    assert torch.equal(fusedattn.attention(q, k, v, alibi=slopes), wanted)
    bias = golden.scores(torch.zeros(2, 4, 33, 8), torch.zeros(2, 2, 57, 8), slopes=slopes).float()
    torch.testing.assert_close(fusedattn.attention(q, k, v, bias=bias), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [-30.0, 0.0, 30.0, float("-inf")])
def test_sinks_of_any_size(value):
    q, k, v, d_out = draw_qkv(SHAPE)
    sink = torch.full((4,), value)
    if value == float("-inf"):
        wanted = fusedattn.attention(q, k, v, return_stats=True)
        got = fusedattn.attention(q, k, v, sink=sink, return_stats=True)
        for a, b in zip(got, wanted):
            torch.testing.assert_close(a, b)
    else:
        check(q, k, v, d_out, sink=sink)


def test_a_sink_of_rows_that_see_nothing():
    shape = (1, 2, 1, 6, 4, 8, 8)
    shown = torch.ones(6, 4, dtype=torch.bool)
    shown[2] = False
    sink = torch.tensor([0.5, -2.0])
    check(*draw_qkv(shape), shown, shown, sink=sink)
    out, row_max, row_sum, *_ = run(*draw_qkv(shape), mask=causal(), sink=sink)
    assert (out[:, :, :2] == 0).all() and (row_sum[:, :, :2] == 1).all()
    assert torch.equal(row_max[0, :, 0], sink)


@pytest.mark.parametrize("needed", list(itertools.product([True, False], repeat=5)), ids=str)
def test_only_the_gradients_asked_for(needed):
    q, k, v, d_out = draw_qkv(SHAPE)
    given = [q, k, v, golden.draw(4, 1, 57), golden.draw(4)]
    leaves = [t.requires_grad_(need) for t, need in zip(given, needed)]
    out = fusedattn.attention(*leaves[:3], bias=leaves[3], sink=leaves[4])
    assert out.requires_grad == any(needed)
    if any(needed):
        out.backward(d_out)
    wanted = golden.gradients(q, k, v, d_out, bias=given[3], sink=given[4])
    for leaf, need, want in zip(leaves, needed, wanted):
        assert (leaf.grad is not None) == need
        if need:
            golden.assert_close(leaf.grad, want, slack=4)


@pytest.mark.parametrize(
    "shape", [(0, 2, 1, 3, 4, 8, 8), (2, 2, 1, 0, 4, 8, 8), (2, 2, 1, 3, 0, 8, 8)], ids=str
)
def test_zero_lengths(shape):
    check(*draw_qkv(shape), **everything(shape))


def test_what_is_not_finite_stays_where_it_is_seen():
    q, k, v, d_out = draw_qkv(SHAPE)
    wanted = run(q, k, v, d_out, bias=torch.zeros(33, 57))
    bias = torch.zeros(33, 57)
    bias[4, 9] = float("nan")
    out, _, _, dq, _, _, d_bias = run(q, k, v, d_out, bias=bias)
    others = torch.arange(33) != 4
    assert out[:, :, 4].isnan().all() and torch.equal(out[:, :, others], wanted[0][:, :, others])
    assert dq[:, :, 4].isnan().all() and torch.equal(dq[:, :, others], wanted[3][:, :, others])
    assert torch.equal(d_bias[others], wanted[6][others])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("sizes", [(33, 57), (1, 1), (5, 7), (70, 130)], ids=str)
def test_terms_are_not_read_past_their_end(sizes, dtype):
    tensors = draw_qkv((2, 2, 1, *sizes, 24, 16), dtype)
    plain = golden.draw(2, 1, *sizes, dtype=dtype), torch.rand(2, 2), golden.draw(2)
    guarded = [Guarded(t) for t in plain]
    try:
        results = [
            run(*tensors, bias=bias, alibi=slopes, sink=sink, dropout_p=0.3, dropout_seed=1)
            for bias, slopes, sink in (plain, [guard.tensor for guard in guarded])
        ]
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    finally:
        for guard in guarded:
            guard.open()


@pytest.mark.parametrize("layout", ["BSND", "SBND", "BSH", "SBH"])
def test_layouts_give_the_same_bits(layout):
    tensors, terms = draw_qkv(SHAPE), everything(SHAPE)
    arguments = dict(bias=terms["bias"], alibi=terms["slopes"], sink=terms["sink"], dropout_p=0.3)
    arguments |= dict(mask=causal() | prefix([3, 9]), dropout_seed=5)
    order = (0, 2, 1, 3) if layout[0] == "B" else (2, 0, 1, 3)
    wanted = run(*tensors, **arguments)
    laid = [t.permute(order).contiguous() for t in tensors]
    if layout.endswith("H"):
        laid, arguments["heads"] = [t.flatten(2) for t in laid], 4
    got = run(*laid, layout=layout, **arguments)
    for index, (a, b) in enumerate(zip(got, wanted, strict=True)):
        b = b.permute(order) if index in (0, 3, 4, 5) else b
        assert torch.equal(a.view(b.shape), b), index


@pytest.mark.parametrize("mask", [None, causal() | prefix([40, 7])], ids=str)
@pytest.mark.parametrize("form", [(2, 4, 150), (1, 4, 150), (2, 1, 1), (1, 1, 150)], ids=str)
def test_any_number_of_threads(form, mask):
    shape = (2, 4, 2, 150, 300, 32, 24)
    tensors, terms = draw_qkv(shape), everything(shape)
    arguments = dict(bias=golden.draw(*form, 300), alibi=terms["slopes"], sink=terms["sink"], mask=mask)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(run(*tensors, dropout_p=0.1, dropout_seed=3, **arguments))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_terms_leave_no_trace_in_later_calls():
    tensors, terms = draw_qkv(SHAPE), everything(SHAPE)
    before = run(*tensors)
    run(*tensors, bias=terms["bias"], alibi=terms["slopes"], sink=terms["sink"], mask=causal() | prefix(3))
    run(*tensors, dropout_p=0.5)
    assert all(torch.equal(a, b) for a, b in zip(run(*tensors, mask=Mask()), before))


def test_a_mask_beside_a_bias():
    tensors = draw_qkv(SHAPE)
    shown = torch.rand(2, 1, 33, 57) > 0.3
    check(*tensors, shown, shown, **everything(SHAPE))
