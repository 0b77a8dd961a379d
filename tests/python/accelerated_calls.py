"""Calls of torch's attention with their gradients, by torch, by us and in float64; and what torch was before."""

import pytest
import torch
from fusedattn import _native
from fusedattn.like import sdpa_kernels
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

TORCHS_OWN = F.scaled_dot_product_attention  # ends in the dispatcher, as C++ callers do
OPERATORS = (sdpa_kernels.FORWARD, sdpa_kernels.BACKWARD, "aten::scaled_dot_product_attention")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}


@pytest.fixture(autouse=True)
def torch_is_left_as_it_was():
    before = state()
    yield
    assert state() == before


def state() -> list:
    """All that an acceleration changes in torch."""
    kernels = [torch._C._dispatch_dump(name) + torch._C._dispatch_dump_table(name) for name in OPERATORS]
    impls = [key for key in torch.library._impls if "scaled_dot" in key]
    return [*kernels, F.scaled_dot_product_attention, impls, torch.is_warn_always_enabled()]


@pytest.fixture(name="runs")
def counted_runs(monkeypatch):
    """How often the library has run: {"forward": n, "backward": n}."""
    counts = {"forward": 0, "backward": 0}

    def counting(name, function):
        def counted(*given, **words):
            counts[name] += 1
            return function(*given, **words)

        return counted

    for name in counts:
        function = f"problem_{name}"
        monkeypatch.setattr(_native, function, counting(name, getattr(_native, function)))
    return counts


def tensor(*shape, order="BNSD", dtype=torch.float32):
    """Random, [B,N,S,D], as it lies in memory when it was made in this order."""
    axes = ["BNSD".index(letter) for letter in order]
    back = [axes.index(axis) for axis in range(4)]
    made = torch.randn([shape[axis] for axis in axes]).to(dtype)
    return made.permute(back).requires_grad_()


def results(attend, given, *words, **more):
    """The output and gradients of all that requires them."""
    out = attend(*given, *words, **more)
    leaves = [value for value in given if isinstance(value, torch.Tensor) and value.requires_grad]
    torch.manual_seed(3)
    d_out = torch.randn(out.shape, dtype=torch.float64)
    return [out, *torch.autograd.grad(out, leaves, d_out.to(out.dtype))]


def exactly(given, **more):
    """The same by torch's math, in float64."""
    doubled = [
        v.detach().double().requires_grad_(v.requires_grad) if v is not None and v.is_floating_point() else v
        for v in given
    ]
    with sdpa_kernel(SDPBackend.MATH):
        return results(TORCHS_OWN, doubled, **more)


def close(found, wanted, tolerance):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(
            a.double(), b.double(), atol=tolerance * max(1, b.abs().max().item()), rtol=0
        )
