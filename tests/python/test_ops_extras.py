"""The torch operators with bias, ALiBi, sink, dropout and prefix: opcheck, compile, export, transforms."""

import fusedattn
import golden
import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from fusedattn import Alibi, causal, prefix
from fusedattn.extras import Extras
from fusedattn.problem import Terms
from test_ops import draw_leaves, operators
from torch._subclasses import FakeTensorMode
from torch.library import opcheck

SEED = torch.tensor([5, 2])
ALL = dict(
    bias=lambda: golden.draw(2, 1, 5, 7).requires_grad_(),
    slopes=lambda: torch.rand(4),
    sink=lambda: golden.draw(4).requires_grad_(),
    prefix=lambda: torch.tensor([2, 3]),
    stream=lambda: SEED,
)
NUMBERS = dict(alibi_bottom_right=False, alibi_square_root=True, keep_prob=0.75, softcap=0.6)
SAMPLES = {
    "bias": (dict(bias=ALL["bias"]), {}),
    "bias of a head, bf16": (dict(bias=lambda: golden.draw(4, 5, 7).bfloat16().requires_grad_()), {}),
    "alibi": (dict(slopes=ALL["slopes"]), dict(alibi_square_root=True)),
    "sink": (dict(sink=ALL["sink"]), {}),
    "dropout": (dict(stream=ALL["stream"]), dict(keep_prob=0.5)),
    "prefix": (dict(prefix=ALL["prefix"]), {}),
    "soft cap": ({}, dict(softcap=0.5)),
    "all": (ALL, NUMBERS),
}
PACKED = {
    "all packed": (
        dict(ALL, bias=lambda: golden.draw(4, 3, 4).requires_grad_(), slopes=lambda: torch.rand(2, 4)),
        NUMBERS,
    )
}
NOTHING = (None, None, None)


def sample(name):
    """(q, k, v, mask and ends, terms, extras), drawn anew."""
    makers, numbers = (SAMPLES | PACKED)[name]
    asked = Extras(**{key: make() for key, make in makers.items()}, **numbers)
    leaves = draw_leaves()
    if name not in PACKED:
        return leaves, NOTHING, Terms.of("BNSD", 0.3, causal()), asked
    leaves = [t.detach()[0].transpose(0, 1).requires_grad_() for t in leaves]
    ends = torch.tensor([0, 2, 5]), torch.tensor([0, 3, 7])
    return leaves, (None, *ends), Terms.of("TND", 0.3, causal()), asked


def detached(values):
    return [t.detach() if isinstance(t, torch.Tensor) else t for t in values]


@pytest.mark.parametrize("name", [*SAMPLES, *PACKED])
def test_opcheck_forward(name):
    leaves, held, terms, asked = sample(name)
    opcheck(operators().forward.default, (*leaves, *held, *terms, *asked))
    opcheck(operators().forward.default, (*detached(leaves), *held, *terms, *detached(asked)))


@pytest.mark.parametrize("needed", [True, False])
@pytest.mark.parametrize("name", [*SAMPLES, *PACKED])
def test_opcheck_backward(name, needed):
    leaves, held, terms, asked = sample(name)
    leaves, asked = detached(leaves), Extras(*detached(asked))
    results = operators().forward(*leaves, *held, *terms, *asked)
    d_out = golden.draw(*results[0].shape, dtype=results[0].dtype)
    needs = [True, needed, True, needed and asked.bias is not None, asked.sink is not None]
    opcheck(operators().backward.default, (d_out, *leaves, *results, *held, *terms, needs, *asked))


def test_gradients_that_nobody_can_have_are_refused():
    leaves, held, terms, _ = sample("bias")
    leaves = detached(leaves)
    results = operators().forward(*leaves, *held, *terms)
    arguments = (results[0], *leaves, *results, *held, *terms)
    for needs, sentence in (
        ([True] * 4, "needs has 4 entries; accepted are 3"),
        ([True, True, True, True, False], "needs asks for a gradient of bias, which is None"),
        ([True, True, True, False, True], "needs asks for a gradient of sink, which is None"),
    ):
        with pytest.raises(ValueError, match=sentence):
            operators().backward(*arguments, needs)


def attend(q, k, v, bias, slopes, sink, **arguments):
    mask = causal(align="top-left") | prefix(q.shape[2] // 2)
    alibi = Alibi(slopes, square_root=True)
    return fusedattn.attention(q, k, v, bias=bias, alibi=alibi, sink=sink, mask=mask, **arguments)


def draw_arguments(rows=5, columns=7):
    bias, sink = golden.draw(4, rows, columns).requires_grad_(), golden.draw(4).requires_grad_()
    leaves = [*draw_leaves(rows, columns), bias, sink]
    return leaves, (*leaves[:4], torch.linspace(0.1, 0.4, 4), sink)


def gradients_of(out, leaves):
    return torch.autograd.grad(out, leaves, torch.linspace(-1, 1, out.numel()).view(out.shape))


def test_the_operator_and_the_short_way_give_the_same_bits():
    leaves, arguments = draw_arguments()
    short = attend(*arguments, dropout_p=0.25, dropout_seed=(5, 2))
    asked = Extras(
        leaves[3], arguments[4], leaves[4], torch.tensor([2, 2]), SEED, alibi_square_root=True, keep_prob=0.75
    )
    terms = Terms.of("BNSD", 8**-0.5, causal(align="top-left"))
    long = operators().forward(*leaves[:3], None, None, None, *terms, *asked)[0]
    assert torch.equal(short, long)
    for a, b in zip(gradients_of(short, leaves), gradients_of(long, leaves), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_with_dynamic_lengths(backend):
    def model(*arguments):
        return attend(*arguments, dropout_p=0.3, dropout_seed=9) * 1

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    for rows, columns in ((5, 7), (9, 7), (12, 30)):
        leaves, arguments = draw_arguments(rows, columns)
        got, wanted = compiled(*arguments), model(*arguments)
        torch.testing.assert_close(got, wanted)
        for a, b in zip(gradients_of(got, leaves), gradients_of(wanted, leaves), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_dropout_draws_anew_and_obeys_the_seed(backend):
    compiled = torch.compile(
        lambda *arguments: attend(*arguments, dropout_p=0.5) * 1, fullgraph=True, backend=backend
    )
    leaves, arguments = draw_arguments()

    def twice():
        torch.manual_seed(6)
        outs = [compiled(*arguments) for _ in range(2)]
        return [*outs, *(g for out in outs for g in gradients_of(out, leaves))]

    once, again = twice(), twice()
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[0], once[1])
    (d_v,) = torch.autograd.grad(out := compiled(*arguments), leaves[2], d_out := golden.draw(2, 4, 5, 6))
    torch.testing.assert_close((d_v * leaves[2]).sum(), (out * d_out).sum(), rtol=1e-4, atol=1e-4)


def test_compiled_with_seeds_and_prefixes_given():
    def model(q, k, v, seed, lengths):
        mask = causal() | prefix(lengths)
        return fusedattn.attention(q, k, v, mask=mask, dropout_p=0.4, dropout_seed=seed)

    compiled = torch.compile(model, backend="aot_eager")
    leaves = detached(draw_leaves())
    for seed in range(3, 6):
        for lengths in ([0, 3], [4, seed]):
            assert torch.equal(compiled(*leaves, seed, lengths), model(*leaves, seed, lengths))


def test_compiled_masks_and_alibi_from_outside():
    alibi, mask = Alibi(torch.rand(4), "top-left"), causal() | prefix([1, 6])

    def model(q, k, v):
        return fusedattn.attention(q, k, v, mask=mask, alibi=alibi)

    leaves = detached(draw_leaves())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*leaves), model(*leaves))


def test_exported():
    class Model(torch.nn.Module):
        def forward(self, q, k, v, bias, slopes, sink):
            return attend(q, k, v, bias, slopes, sink, dropout_p=0.5, dropout_seed=3)

    arguments = tuple(detached(draw_arguments()[1]))
    program = torch.export.export(Model(), arguments)
    assert torch.equal(program.module()(*arguments), Model()(*arguments))


def test_fake_and_meta_tensors():
    with FakeTensorMode():
        q = torch.empty(2, 4, 5, 8)
        out = fusedattn.attention(q, q, q, bias=torch.empty(5, 5), sink=torch.empty(4), dropout_p=0.5)
        assert out.shape == q.shape
    q = torch.empty(2, 4, 5, 8, device="meta")
    given = dict(bias=torch.empty(5, 5, device="meta"), mask=prefix(3), dropout_p=0.5)
    assert fusedattn.attention(q, q, q, **given).is_meta
    with pytest.raises(ValueError, match=r"bias has shape \(5, 6\)"):
        fusedattn.attention(q, q, q, bias=torch.empty(5, 6, device="meta"))
    with pytest.raises(ValueError, match=r"prefix has shape \(3,\); accepted is \(2,\)"):
        fusedattn.attention(q, q, q, mask=prefix([1, 2, 3]))


def moved(values, index):
    return [t.to("meta") if i == index else t for i, t in enumerate(values)]


@pytest.mark.parametrize("name", ["all", "all packed"])
def test_operators_refuse_tensors_of_two_devices(name):
    leaves, held, terms, asked = sample(name)
    inputs = [*detached(leaves), *held]
    names = ["q", "k", "v", "mask", "cu_seqlens_q", "cu_seqlens_k"]
    extras = ["bias", "alibi", "sink", "prefix", "dropout_seed"]
    asked = detached(asked)
    results = operators().forward(*inputs, *terms, *asked)
    needs = [True] * 5
    given = [results[0], *inputs[:3], *results, *held]
    names_of_given = ["d_out", "q", "k", "v", "out", "max", "sum", *names[3:]]
    for index in [i for i, t in enumerate(inputs) if t is not None and i > 0]:
        with pytest.raises(ValueError, match=f"{names[index]} is on device meta and q on cpu"):
            operators().forward(*moved(inputs, index), *terms, *asked)
    for index, extra in enumerate(extras):
        with pytest.raises(ValueError, match=f"{extra} is on device meta and q on cpu; accepted is one"):
            operators().forward(*inputs, *terms, *moved(asked, index))
        with pytest.raises(ValueError, match=f"{extra} is on device meta and q on cpu; accepted is one"):
            operators().backward(*given, *terms, needs, *moved(asked, index))
    for index in [i for i, t in enumerate(given) if t is not None and i != 1]:
        with pytest.raises(ValueError, match=f"{names_of_given[index]} is on device meta and q on cpu"):
            operators().backward(*moved(given, index), *terms, needs, *asked)
    with pytest.raises(ValueError, match="k is on device cpu and q on meta"):
        operators().forward(*moved(inputs, 0), *terms, *asked)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap():
    x, bias = golden.draw(3, 1, 2, 4, 5), golden.draw(3, 4, 4)
    wanted = torch.stack([fusedattn.attention(a, a, a, bias=b) for a, b in zip(x, bias)])
    assert torch.equal(torch.vmap(lambda a, b: fusedattn.attention(a, a, a, bias=b))(x, bias), wanted)
    drop = torch.vmap(lambda a: fusedattn.attention(a, a, a, dropout_p=0.5), randomness="different")
    out = drop(x[:1].expand(3, -1, -1, -1, -1))
    assert not torch.equal(out[0], out[1])


@pytest.mark.parametrize("name", ["bias", "sink"])
def test_derivatives_that_are_refused(name):
    q, k, v = detached(draw_leaves())
    value = golden.draw(5, 7) if name == "bias" else golden.draw(4)

    def model(x):
        return fusedattn.attention(q, k, v, **{name: x}).sum()

    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward-mode derivatives"):
        model(forward_ad.make_dual(value, torch.ones_like(value)))
    for transform in (torch.func.grad, torch.func.jacfwd, torch.func.jacrev):
        with pytest.raises(NotImplementedError, match="of attention are not.*computed"):
            transform(model)(value)
    leaf = value.requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf).square(), leaf, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives of attention are not computed"):
        gradient.sum().backward()


def test_slopes_that_want_a_gradient_are_refused_by_the_operator():
    leaves, held, terms, asked = sample("alibi")
    asked = asked._replace(slopes=asked.slopes.requires_grad_())
    with pytest.raises(NotImplementedError, match="alibi requires grad"):
        operators().forward(*leaves, *held, *terms, *asked)


def test_negated_views():
    leaves, arguments = draw_arguments()
    wanted = attend(*arguments)
    turned = list(arguments)
    for index in (3, 4, 5):
        turned[index] = torch._neg_view(-arguments[index].detach())
        assert turned[index].is_neg()
    assert torch.equal(attend(*turned), wanted)


def test_a_changed_bias_is_noticed():
    leaves, arguments = draw_arguments()
    out = attend(*arguments)
    with torch.no_grad():
        leaves[3].zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
