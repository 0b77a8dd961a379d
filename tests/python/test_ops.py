"""The torch operators: opcheck, compile with fixed and dynamic lengths, export, transforms, derivatives."""

import subprocess
import sys

import fusedattn
import golden
import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from fusedattn import causal, window
from fusedattn.problem import Terms
from torch._subclasses import FakeTensorMode
from torch.library import opcheck


def operators():
    """The operators, which exist once a torch tensor has been seen."""
    q = torch.ones(1, 1, 1, 1)
    fusedattn.attention(q, q, q)
    return torch.ops.fusedattn


def draw_leaves(rows=5, columns=7):
    shapes = (2, 4, rows, 8), (2, 2, columns, 8), (2, 2, columns, 6)
    return [golden.draw(*shape).requires_grad_() for shape in shapes]


PLAIN = (Terms.of("BNSD", 0.3, causal()), draw_leaves, (None, None, None))
SAMPLES = {
    "causal": PLAIN,
    "bytes": (PLAIN[0], draw_leaves, (torch.ones(2, 1, 5, 7, dtype=torch.bool).tril(), None, None)),
    "hides": (Terms.of("BNSD", 0.3, nonzero_hides=True), draw_leaves, (torch.eye(5, 7).byte(), None, None)),
    "SBND": (
        Terms.of("SBND", 0.3, window(2, 1)),
        lambda: [t.detach().permute(2, 0, 1, 3).requires_grad_() for t in draw_leaves()],
        (None, None, None),
    ),
    "TND": (
        Terms.of("TND", 0.3, causal()),
        lambda: [t.detach()[0].transpose(0, 1).requires_grad_() for t in draw_leaves()],
        (None, torch.tensor([0, 2, 5]), torch.tensor([0, 3, 7])),
    ),
    "half": (
        Terms.of("BNSD", 0.3),
        lambda: [t.detach().half().requires_grad_() for t in draw_leaves()],
        (None, None, None),
    ),
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_opcheck_forward(sample):
    terms, draw, extra = SAMPLES[sample]
    opcheck(operators().forward.default, (*draw(), *extra, *terms))
    opcheck(operators().forward.default, (*(t.detach() for t in draw()), *extra, *terms))


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("needs", [[True, True, True], [False, True, False]], ids=str)
def test_opcheck_backward(sample, needs):
    terms, draw, extra = SAMPLES[sample]
    q, k, v = (t.detach() for t in draw())
    out, row_max, row_sum = operators().forward(q, k, v, *extra, *terms)
    d_out = golden.draw(*out.shape, dtype=out.dtype)
    arguments = (d_out, q, k, v, out, row_max, row_sum, *extra, *terms, needs)
    opcheck(operators().backward.default, arguments)


def by_formula(leaves, d_out, mask):
    seen = torch.from_numpy(mask.materialize(leaves[0].shape[2], leaves[1].shape[2]))
    return golden.attention(*leaves, seen), golden.gradients(*leaves, d_out, seen)


def test_the_operator_and_the_short_way_give_the_same_bits():
    leaves = draw_leaves()
    d_out = golden.draw(2, 4, 5, 6)
    short = fusedattn.attention(*leaves, mask=causal(), return_stats=True)
    long = operators().forward(*leaves, None, None, None, *Terms.of("BNSD", 8**-0.5, causal()))
    assert all(torch.equal(a, b) for a, b in zip(short, long))
    for a, b in zip(*(torch.autograd.grad(way[0], leaves, d_out) for way in (short, long))):
        assert torch.equal(a, b)


def test_compiled_with_dynamic_lengths():
    def model(q, k, v):
        return fusedattn.attention(
            q * 1, k, v, mask=causal() & window(q.shape[2] // 2, None), return_stats=True
        )

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows, columns in ((5, 7), (9, 7), (12, 30)):
        leaves = draw_leaves(rows, columns)
        d_out = golden.draw(2, 4, rows, 6)
        got, wanted = compiled(*leaves), model(*leaves)
        assert all(torch.equal(a, b) for a, b in zip(got, wanted))
        for a, b in zip(*(torch.autograd.grad(r[0], leaves, d_out) for r in (got, wanted))):
            assert torch.equal(a, b)


@pytest.mark.slow
def test_compiled_by_inductor():
    def model(q, k, v):
        q, k, v = (t.transpose(1, 2).flatten(2) * 2 for t in (q, k, v))
        return fusedattn.attention(q, k, v, layout="BSH", heads=4, mask=causal()).sin()

    leaves = draw_leaves()
    compiled = torch.compile(model, fullgraph=True)
    d_out = golden.draw(2, 5, 24)
    torch.testing.assert_close(compiled(*leaves), model(*leaves))
    for a, b in zip(*(torch.autograd.grad(f(*leaves), leaves, d_out) for f in (compiled, model))):
        torch.testing.assert_close(a, b)


def test_compiled_packed():
    def model(q, k, v, q_ends, k_ends):
        ends = dict(cu_seqlens_q=q_ends, cu_seqlens_k=k_ends)
        return fusedattn.attention(q, k, v, layout="TND", mask=causal(), **ends)

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (7, 12):
        q, k = golden.draw(rows, 4, 8), golden.draw(9, 2, 8)
        ends = torch.tensor([0, 3, 7]), torch.tensor([0, 4, 9], dtype=torch.int32)
        assert torch.equal(compiled(q, k, k, *ends), model(q, k, k, *ends))


def test_compiled_as_the_very_first_use():
    program = (
        "import torch, fusedattn; x = torch.rand(1, 2, 5, 8); "
        "f = torch.compile(lambda x: fusedattn.attention(x, x, x), fullgraph=True, backend='aot_eager'); "
        "assert torch.equal(f(x), fusedattn.attention(x, x, x))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_exported():
    class Model(torch.nn.Module):
        def forward(self, q, k, v):
            return fusedattn.attention(q, k, v, mask=causal())

    leaves = [t.detach() for t in draw_leaves()]
    program = torch.export.export(Model(), tuple(leaves))
    assert "fusedattn.forward" in program.graph_module.code
    assert torch.equal(program.module()(*leaves), Model()(*leaves))


def test_fake_tensors_have_the_exact_strides():
    with FakeTensorMode():
        q, k = torch.empty(2, 5, 4, 8), torch.empty(2, 7, 2, 8)
        out, row_max, _ = fusedattn.attention(q, k, k[..., :6], layout="BSND", return_stats=True)
        assert out.shape == (2, 5, 4, 6) and out.is_contiguous() and row_max.shape == (2, 4, 5)


def test_other_devices():
    q, k, v = (t.detach() for t in draw_leaves())
    fusedattn.attention(q, k, v)
    out = fusedattn.attention(q.to("meta"), k.to("meta"), v.to("meta"))
    assert out.is_meta and out.shape == (2, 4, 5, 6)
    shown = torch.ones(5, 7, dtype=torch.bool)
    fusedattn.attention(q, k, v, mask=shown)
    with pytest.raises(ValueError, match="mask is torch.bool on meta"):
        fusedattn.attention(q, k, v, mask=shown.to("meta"))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap():
    x = golden.draw(3, 1, 2, 4, 5)
    wanted = torch.stack([fusedattn.attention(one, one, one) for one in x])
    assert torch.equal(torch.vmap(lambda one: fusedattn.attention(one, one, one))(x), wanted)


def test_gradients_agree_with_differences():
    """The central difference of the formula in float64, along random directions."""
    leaves, d_out, step = draw_leaves(), golden.draw(2, 4, 5, 6), 1e-5
    found = torch.autograd.grad(fusedattn.attention(*leaves), leaves, d_out)
    for index, gradient in enumerate(found):
        direction = golden.draw(*gradient.shape).double()
        ends = []
        for sign in (1, -1):
            moved = [t.detach().double() for t in leaves]
            moved[index] = moved[index] + sign * step * direction
            ends.append((golden.attention(*moved)[0] * d_out).sum())
        slope = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close((gradient.double() * direction).sum(), slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_second_derivatives_are_refused(compiled):
    leaves = draw_leaves()
    out = (
        operators().forward(*leaves, None, None, None, *PLAIN[0])[0]
        if compiled
        else fusedattn.attention(*leaves)
    )
    (gradient,) = torch.autograd.grad(out.square().sum(), leaves[0], create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives of attention are not computed"):
        gradient.sum().backward()


def test_forward_mode_derivatives_are_refused():
    q, k, v = (t.detach() for t in draw_leaves())
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(q, torch.ones_like(q))
        for leaf in (dual, dual * 1):
            with pytest.raises(NotImplementedError, match="forward-mode derivatives"):
                fusedattn.attention(leaf, k, v)
            with pytest.raises(NotImplementedError, match="forward-mode derivatives"):
                operators().forward(leaf, k, v, None, None, None, *PLAIN[0])
        assert torch.equal(fusedattn.attention(q, k, v), fusedattn.attention(dual.detach(), k, v))


TRANSFORMS = {
    "jvp": lambda f, q: torch.func.jvp(f, (q,), (q,)),
    "jacfwd": lambda f, q: torch.func.jacfwd(f)(q),
    "jvp of vmap": lambda f, q: torch.func.jvp(torch.vmap(f), (q[None],), (q[None],)),
    "grad": lambda f, q: torch.func.grad(lambda x: f(x).sum())(q),
    "jacrev": lambda f, q: torch.func.jacrev(f)(q),
    "vmap of grad": lambda f, q: torch.vmap(torch.func.grad(lambda x: f(x).sum()))(q[None]),
    "grad of vmap": lambda f, q: torch.func.grad(lambda x: torch.vmap(f)(x).sum())(q[None]),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_derivatives_by_transforms_are_refused(transform):
    q, k, v = (t.detach() for t in draw_leaves())
    with pytest.raises(NotImplementedError, match="of attention are not.*computed"):
        TRANSFORMS[transform](lambda x: fusedattn.attention(x, k, v), q)
    with pytest.raises(NotImplementedError, match="of attention are not.*computed"):
        TRANSFORMS[transform](lambda x: operators().forward(x, k, v, None, None, None, *PLAIN[0])[0], q)
    TRANSFORMS[transform](lambda x: x.square().sum() + fusedattn.attention(q, k, v).sum(), q)


def test_forward_mode_is_refused_in_compiled_code():
    q, k, v = (t.detach() for t in draw_leaves())

    def tangent(q):
        return torch.func.jvp(lambda x: fusedattn.attention(x, k, v), (q,), (q,))[1]

    with pytest.raises(NotImplementedError, match="forward-mode derivatives"):
        torch.compile(tangent, backend="eager")(q)


def test_negated_views_and_zeros_that_are_not_made():
    leaves, d_out = draw_leaves(), golden.draw(2, 4, 5, 6)
    q, k, v = (t.detach() for t in leaves)
    negated = torch._neg_view(-q)
    assert negated.is_neg()
    wanted = fusedattn.attention(*leaves)
    assert torch.equal(fusedattn.attention(negated, k, v), wanted)
    assert torch.equal(fusedattn.attention(q, k, torch._neg_view(-v)), wanted)
    gradients = torch.autograd.grad(wanted, leaves, d_out, retain_graph=True)
    for got, want in zip(torch.autograd.grad(wanted, leaves, torch._neg_view(-d_out)), gradients):
        assert torch.equal(got, want)
    zeros = torch._efficientzerotensor(q.shape)
    assert torch.equal(fusedattn.attention(zeros, k, v), fusedattn.attention(torch.zeros_like(q), k, v))
    zeros = torch._efficientzerotensor(d_out.shape)
    for gradient in torch.autograd.grad(fusedattn.attention(*leaves), leaves, zeros):
        assert (gradient == 0).all()


CONTRADICTING = [
    (("BNSD", (1, 2, 3, 8), (1, 2, 5, 9)), {}, "k has 9 features"),
    (("BNSD", (1, 2, 3, 8), (2, 2, 5, 8)), {}, "k has 2 sequences"),
    (("BNSD", (2, 3, 8), (2, 5, 8)), {}, "4 dimensions"),
    (("xx", (1, 2, 3, 8), (1, 2, 5, 8)), {}, "layout is 'xx'"),
    (("BNSD", (1, 2, 3, 8), (1, 2, 5, 8)), dict(mask=(3, 4)), "mask has shape"),
    (("BNSD", (1, 2, 3, 8), (1, 2, 5, 8)), dict(cu_seqlens_q=(2,), cu_seqlens_k=(2,)), "accepted are cumul"),
    (("TND", (3, 2, 8), (5, 2, 8)), {}, "cu_seqlens_q is None with layout 'TND'"),
    (("TND", (3, 2, 8), (5, 2, 8)), dict(cu_seqlens_q=(2,)), "cu_seqlens_k is None"),
    (("TND", (3, 2, 8), (5, 2, 8)), dict(cu_seqlens_k=(2,)), "cu_seqlens_q is None"),
    (("TND", (3, 2, 8), (5, 2, 8)), dict(cu_seqlens_q=(), cu_seqlens_k=(2,)), "cu_seqlens_q is .*one dim"),
    (("TND", (), (5, 2, 8)), dict(cu_seqlens_q=(2,), cu_seqlens_k=(2,)), "q has shape"),
    (("BNSD", (1, 0, 3, 8), (1, 2, 5, 8)), {}, "q has 0 heads"),
]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("sizes", "extra", "sentence"), CONTRADICTING, ids=[c[-1] for c in CONTRADICTING])
def test_operators_refuse_shapes_that_contradict(device, sizes, extra, sentence):
    layout, q, k = sizes
    q, k = torch.ones(q, device=device), torch.ones(k, device=device)
    kinds = dict(mask=torch.bool, cu_seqlens_q=torch.int64, cu_seqlens_k=torch.int64)
    optional = [
        torch.zeros(extra[name], dtype=kind, device=device) if name in extra else None
        for name, kind in kinds.items()
    ]
    with pytest.raises(ValueError, match=sentence):
        operators().forward(q, k, k, *optional, *Terms.of(layout, 0.3))


def test_a_changed_input_is_noticed():
    leaves = draw_leaves()
    out = fusedattn.attention(leaves[0] * 1, leaves[1], leaves[2])
    with torch.no_grad():
        leaves[1].zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
