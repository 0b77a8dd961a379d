"""fusedattn.like.xformers.register(): real xFormers dispatches to us, understood by us, and is itself again afterwards."""

import golden
import pytest
import torch
import xformers_cases as cases
from fusedattn.like import xformers as door

pytest.importorskip("xformers", reason="xFormers is not installed (its wheels are for x86-64)")
from xformers import ops  # noqa: E402
from xformers.ops import fmha  # noqa: E402
from xformers.ops.fmha import dispatch  # noqa: E402

BIASES = cases.biases(fmha.attn_bias)


def draw(name):
    """q, k, v, dout for a bias of xFormers' own."""
    bias, rows, columns = BIASES[name]
    batch = 1 if "Block" in name else 2
    sizes = (rows, 16), (columns, 16), (columns, 24), (rows, 24)
    return *(golden.draw(batch, n, 3, features) for n, features in sizes), bias


@pytest.fixture(autouse=True)
def one_thread():
    """Calls this small only wait for other threads."""
    torch.set_num_threads(1)


@pytest.fixture
def registered():
    with door.register() as handle:
        yield handle


@pytest.mark.parametrize("name", cases.FORMULAS)
def test_its_own_biases_are_understood(registered, name):
    """By the door and through the dispatch: the formula, and the same bits forward and backward."""
    q, k, v, dout, bias = draw(name)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    out, through = (f(*leaves, bias) for f in (door.memory_efficient_attention, ops.memory_efficient_attention))
    formula = dict(bias=bias._bias) if name == "LowerTriangularMaskWithTensorBias" else {}
    shown = cases.seen(name, *BIASES[name][1:])
    golden.assert_close(out.transpose(1, 2), golden.attention(*(t.transpose(1, 2) for t in (q, k, v)), shown, **formula)[0])
    assert torch.equal(out, through) and type(bias.to(torch.device("cpu"))) is type(bias)
    for one, other in zip(*(torch.autograd.grad(result, leaves, dout) for result in (out, through)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    low, lse = ops.memory_efficient_attention_forward_requires_grad(q, k, v, bias)
    wanted = door.memory_efficient_attention_forward_requires_grad(q, k, v, bias)
    assert torch.equal(low, wanted[0]) and torch.equal(lse, wanted[1])
    gradients = ops.memory_efficient_attention_backward(dout, low, lse, q, k, v, bias)
    by_name = door.memory_efficient_attention_backward(dout, low, lse, q, k, v, bias)
    assert all(torch.equal(one, other) for one, other in zip(gradients, by_name, strict=True))


def test_dropout_tensors_and_other_dimensions(registered):
    q, k, v, dout, _ = draw("LowerTriangularMask")
    added = golden.draw(2, 3, 9, 13).requires_grad_()
    leaves = [t.requires_grad_() for t in (q, k, v)]
    results = []
    for attend in (ops.memory_efficient_attention, door.memory_efficient_attention):
        torch.manual_seed(4)
        out = attend(*leaves, added, p=0.3, scale=0.2)
        results.append((out, *torch.autograd.grad(out, (*leaves, added), dout)))
    for one, other in zip(results[0][1:], results[1][1:], strict=True):
        assert one.shape == other.shape and one.abs().sum() > 0
    plain = [attend(*leaves, added) for attend in (ops.memory_efficient_attention, door.memory_efficient_attention)]
    for one, other in zip(*(torch.autograd.grad(out, (*leaves, added), dout) for out in plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    flat = [t.detach().transpose(1, 2).flatten(0, 1).requires_grad_() for t in (q, k, v)]
    small = golden.draw(6, 9, 13).requires_grad_()
    both = [attend(*flat, small) for attend in (ops.memory_efficient_attention, door.memory_efficient_attention)]
    for one, other in zip(*(torch.autograd.grad(out.square().sum(), (*flat, small)) for out in both), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    dv, dropped = results[0][3], results[0][0]
    torch.testing.assert_close((dv * v).sum(), (dout * dropped).sum(), rtol=1e-4, atol=1e-4)
    flat = [t.transpose(1, 2).flatten(0, 1).detach() for t in (q, k, v)]
    assert torch.equal(ops.memory_efficient_attention(*flat), door.memory_efficient_attention(*flat))
    grouped = [t.detach().unsqueeze(3).expand(-1, -1, -1, 2, -1) for t in (q, k, v)]
    with pytest.raises(NotImplementedError, match="of which xFormers passes on no gradients"):
        ops.memory_efficient_attention(*(t.contiguous().requires_grad_() for t in grouped))
    out, lse = fmha.memory_efficient_attention_partial(*(t.bfloat16() for t in grouped))
    assert out.dtype == torch.float32 and out.shape == (2, 9, 3, 2, 24) and lse.shape == (2, 3, 2, 9)


def test_its_refusals_list_us(registered):
    q = torch.zeros(1, 4, 2, 8, dtype=torch.float64)
    with pytest.raises(NotImplementedError) as refused:
        ops.memory_efficient_attention(q, q, q)
    text = str(refused.value)
    assert "`fusedattnF` is not supported because:\n    query has dtype=torch.float64 (supported: torch.float32" in text
    assert text.index("fusedattnF") < text.index("ckF")
    with pytest.raises(NotImplementedError, match="(?s)fusedattnB. is not supported because"):
        ops.memory_efficient_attention_backward(q, q, torch.zeros(1, 2, 4), q, q, q)
    q = q.to("meta").float()
    with pytest.raises(NotImplementedError, match="(?s)`ckF`.*`fusedattnF` is not supported.*device=meta .supported: cpu"):
        ops.memory_efficient_attention(q, q, q)


def test_a_gradient_that_xformers_would_lose_is_refused(registered):
    q, k, v, dout, _ = draw("LowerTriangularMask")
    added = golden.draw(2, 3, 9, 13).requires_grad_()
    bias = fmha.attn_bias.LowerTriangularMaskWithTensorBias(added)
    assert torch.equal(ops.memory_efficient_attention(q, k, v, bias), door.memory_efficient_attention(q, k, v, bias))
    with pytest.raises(NotImplementedError, match="whose tensor requires grad, which xFormers does not pass on"):
        ops.memory_efficient_attention(q.requires_grad_(), k, v, bias)
    assert torch.autograd.grad(door.memory_efficient_attention(q, k, v, bias), added, dout)[0].abs().sum() > 0


def test_operators_are_named(registered):
    forward, backward = fmha.ALL_FW_OPS[-1], fmha.ALL_BW_OPS[-1]
    assert (forward.NAME, backward.NAME) == ("fusedattnF", "fusedattnB") and forward.is_available()
    q = golden.draw(1, 4, 2, 8, dtype=torch.bfloat16).requires_grad_()
    assert forward.supports(fmha.Inputs(q, q, q)) and backward.supports(fmha.Inputs(q, q, q))
    for attend in (ops.memory_efficient_attention, door.memory_efficient_attention):
        attend(q, q, q, op=(forward, backward)).sum().backward()
        attend(q, q, q, op=(forward, None)).sum().backward()
        with pytest.raises(ValueError, match="cpu|CPU"):
            attend(q, q, q, op=(fmha.flash.FwOp, None))


def test_undo_is_exact_and_calls_nest():
    def state():
        return dispatch._run_priority_list, list(fmha.ALL_FW_OPS), list(fmha.ALL_BW_OPS)

    before, q = state(), golden.draw(1, 4, 2, 8)
    first, second = door.register(), door.register()
    kept = dispatch._run_priority_list
    assert "has fusedattnF" in repr(first) and len(fmha.ALL_FW_OPS) == len(before[1]) + 1
    first.undo(), first.undo()
    ops.memory_efficient_attention(q, q, q)
    second.undo()
    assert state() == before and "is without" in repr(second)
    with pytest.raises(NotImplementedError, match="ckF"):
        ops.memory_efficient_attention(q, q, q)
    with pytest.raises(NotImplementedError, match="ckF"):
        kept("memory_efficient_attention_forward", [fmha.ck.FwOp], fmha.Inputs(q, q, q))
    with door.register(), pytest.raises(ZeroDivisionError):
        1 / 0
    assert state() == before


def test_threads_share_the_registration(registered):
    from concurrent.futures import ThreadPoolExecutor

    q, k, v, _, bias = draw("BlockDiagonalGappyKeysMask")
    wanted = ops.memory_efficient_attention(q, k, v, bias)
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda _: ops.memory_efficient_attention(q, k, v, bias), range(16))
    assert all(torch.equal(one, wanted) for one in found)


def test_the_classes_are_those_of_xformers():
    """Names, bases, fields and constructors of the door's own classes."""
    import dataclasses
    import inspect

    for name, own in vars(door.attn_bias).items():
        real = getattr(fmha.attn_bias, name, None)
        if not inspect.isclass(own) or not name.endswith(("Mask", "Bias")):
            continue
        assert [base.__name__ for base in own.__mro__[1:]] == [base.__name__ for base in real.__mro__[1:]], name
        if dataclasses.is_dataclass(real):
            assert [f.name for f in dataclasses.fields(own)] == [f.name for f in dataclasses.fields(real)], name
        for method, function in inspect.getmembers(real, inspect.isroutine):
            if not method.startswith("_") and method in {m for base in real.__mro__ for m in vars(base)} - {"to"}:
                wanted = list(inspect.signature(function).parameters)
                assert list(inspect.signature(getattr(own, method)).parameters) == wanted, (name, method)
