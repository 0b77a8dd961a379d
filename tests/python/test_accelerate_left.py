"""What accelerate_torch() leaves to torch's own function, and what it says of it."""

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from accelerated_calls import (  # noqa: E402, F401
    TORCHS_OWN,
    close,
    results,
    counted_runs,
    tensor,
    torch_is_left_as_it_was,
)

import fusedattn  # noqa: E402
from fusedattn.like import sdpa_entry  # noqa: E402


def nested():
    return torch.nested.nested_tensor([torch.randn(2, 4, 8), torch.randn(2, 3, 8)])


def jagged():
    parts = [torch.randn(4, 2, 8), torch.randn(3, 2, 8)]
    return torch.nested.nested_tensor(parts, layout=torch.jagged).transpose(1, 2)


def dense(*shape, **more):
    return lambda: torch.randn(shape or (2, 2, 4, 8), **more)


LEFT = {  # how a call is made, and why torch's own function answers it
    "float64": (dense(dtype=torch.float64), {}, "query has dtype torch.float64; accepted are torch.float32"),
    "features": (dense(1, 1, 2, 1600), {}, "query has 1600 features; accepted are 1 to 1536"),
    "meta": (dense(device="meta"), {}, "a device, mode, tracer or transform"),
    "nested": (nested, {}, "query is a nested tensor; accepted is torch.strided"),
    "jagged": (jagged, {}, "a subclass of Tensor or a TorchFunctionMode"),
    "infinite scale": (dense(), {"scale": float("inf")}, "scale is inf; accepted are finite"),
}


@pytest.mark.parametrize("case", LEFT)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_is_not_covered_is_torchs_and_verbose_says_why(case, runs, monkeypatch, capsys):
    make, more, reason = LEFT[case]
    monkeypatch.setattr(sdpa_entry, "verbose", lambda: True)
    given = [make() for _ in range(3)]
    expected = TORCHS_OWN(*given, **more)
    with fusedattn.accelerated():
        found = F.scaled_dot_product_attention(*given, **more)
    said = capsys.readouterr().err
    assert "fusedattn,torch,scaled_dot_product_attention," in said and reason in said
    if case not in ("meta", "jagged", "nested"):
        torch.testing.assert_close(found, expected, atol=0, rtol=0, equal_nan=True)
        assert runs["forward"] == 0
    assert type(found) is type(expected)


class Recording(TorchDispatchMode):
    """The names of the operators that run inside."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


class Watching(TorchFunctionMode):
    """What function was called inside."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen = func
        return func(*args, **(kwargs or {}))


def test_onlookers_see_torchs_own_function(monkeypatch, capsys):
    monkeypatch.setattr(sdpa_entry, "verbose", lambda: True)
    given = [torch.randn(2, 4, 6, 8) for _ in range(3)]
    expected = TORCHS_OWN(*given)
    with fusedattn.accelerated():
        with Recording() as recording:
            F.scaled_dot_product_attention(*given)
        assert recording.names == ["aten::_scaled_dot_product_flash_attention_for_cpu"]
        torch.testing.assert_close(torch.vmap(F.scaled_dot_product_attention)(*given), expected)
        gradient = torch.func.grad(lambda q: F.scaled_dot_product_attention(q, *given[1:]).sum())(given[0])
        capsys.readouterr()
        with torch.device("cpu"):
            torch.testing.assert_close(F.scaled_dot_product_attention(*given), expected)
        assert capsys.readouterr().err == ""
        with Watching() as mode:
            F.scaled_dot_product_attention(*given)
        assert mode.seen is TORCHS_OWN
        with sdpa_kernel(SDPBackend.MATH):
            assert torch.equal(F.scaled_dot_product_attention(*given), TORCHS_OWN(*given))
        assert "flash attention is switched off" in capsys.readouterr().err
    torch.testing.assert_close(gradient, torch.func.grad(lambda q: TORCHS_OWN(q, *given[1:]).sum())(given[0]))


def test_errors_are_torchs():
    query = torch.randn(2, 2, 4, 8)
    with fusedattn.accelerated():
        for given, words in (((query, query), {}), ((query, query, [1]), {}), ((query,) * 3, {"other": 1})):
            with pytest.raises(TypeError):
                F.scaled_dot_product_attention(*given, **words)
        with pytest.raises(RuntimeError, match="dropout probability"):
            F.scaled_dot_product_attention(query, query, query, dropout_p=1.5)
        with pytest.raises(RuntimeError, match="attn_mask should not be set"):
            F.scaled_dot_product_attention(query, query, query, query[0, ..., :4] > 0, is_causal=True)


def test_a_mask_with_is_causal_is_both_as_in_torchs_kernel(runs):
    given = [tensor(2, 2, 4, 8) for _ in range(3)] + [torch.randn(4, 4)]
    expected = results(TORCHS_OWN, given, is_causal=True)
    with fusedattn.accelerated():
        close(results(F.scaled_dot_product_attention, given, is_causal=True), expected, 1e-5)
    assert runs == {"forward": 1, "backward": 1}


@pytest.mark.filterwarnings("ignore:Lower right causal bias")
def test_torchs_causal_bias_keeps_its_meaning(runs):
    from torch.nn.attention.bias import causal_lower_right

    for dtype in (torch.float32, torch.float64):
        given = [tensor(2, 2, rows, 8, dtype=dtype) for rows in (3, 5, 5)] + [causal_lower_right(3, 5)]
        expected = results(F.scaled_dot_product_attention, given)
        with fusedattn.accelerated():
            close(results(F.scaled_dot_product_attention, given), expected, 1e-5)
            with pytest.raises(ValueError, match="CausalBias should not be used with causal=True"):
                F.scaled_dot_product_attention(*given, is_causal=True)
    assert runs == {"forward": 1, "backward": 1}


def test_float64_is_torchs_on_the_dispatcher_too(runs):
    given = [tensor(2, 2, 4, 8, dtype=torch.float64) for _ in range(3)]
    expected = results(TORCHS_OWN, given)
    with fusedattn.accelerated():
        found = results(TORCHS_OWN, given)
    assert all(torch.equal(a, b) for a, b in zip(found, expected)) and runs["forward"] == 0
