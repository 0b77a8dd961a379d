"""What the results are held to: attention by small operators, one after the other, in any type."""

from __future__ import annotations

from dataclasses import dataclass

import torch

NAMES = ("out", "dq", "dk", "dv")

# Torch's 16-bit products run on one core and take seconds a head on CPUs without 16-bit units. Beyond this
# length they are formed in float32 and rounded, which gives the same errors to three digits.
NATIVE_LENGTH = 2048

# A gradient row that is zero in exact arithmetic (of a query that sees one key) may be off by fp32 rounding.
ROUNDING = 1e-6
VANISHING = 1e-14  # float64 rounding: exact rows below this share of the same product are zero


@dataclass(frozen=True)
class Error:
    """How far one tensor is from the exact one, ours and that of the small operators in the 16-bit type."""

    name: str
    ours: float
    rival: float
    ours_rms: float
    rival_rms: float
    vanishing_ok: bool

    @property
    def holds(self) -> bool:
        return self.ours <= self.rival and self.ours_rms <= self.rival_rms and self.vanishing_ok


class RoundedProduct(torch.autograd.Function):
    """a @ b for 16-bit matrices, its gradients as well: summed in float32, rounded once."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return (a.float() @ b.float()).to(a.dtype)

    @staticmethod
    def backward(ctx, d_product):
        a, b = ctx.saved_tensors
        d_product = d_product.float()
        d_a = d_product @ b.float().transpose(-1, -2)
        d_b = a.float().transpose(-1, -2) @ d_product
        return d_a.to(a.dtype), d_b.to(b.dtype)


def small_operators(q, k, v, atten_mask, scale, product=torch.matmul):
    """softmax(q k^T scale + hidden) v for [..., S, D] tensors of one type. atten_mask: bool, True hides."""
    scores = product(q, k.transpose(-1, -2)).mul(scale)
    if atten_mask is not None:
        scores = scores + atten_mask.to(scores.dtype) * torch.finfo(torch.float32).min
    return product(torch.softmax(scores, dim=-1), v)


def with_gradients(inputs, atten_mask, scale, dtype, product=torch.matmul):
    """(out, dq, dk, dv) of the small operators in dtype, as float64; inputs: q, k, v, d_out [heads, S, D]."""
    *qkv, d_out = (t.to(dtype) for t in inputs)
    qkv = [t.detach().requires_grad_() for t in qkv]
    out = small_operators(*qkv, atten_mask, scale, product)
    gradients = torch.autograd.grad(out, qkv, d_out)
    return [t.detach().double() for t in (out, *gradients)]


def errors(inputs, ours, atten_mask, scale) -> list[Error]:
    """Compares ours = (out, dq, dk, dv), of the 16-bit type of the inputs, with float64 and the rival."""
    product = torch.matmul if inputs[0].shape[1] <= NATIVE_LENGTH else RoundedProduct.apply
    exact = with_gradients(inputs, atten_mask, scale, torch.float64)
    rival = with_gradients(inputs, atten_mask, scale, inputs[0].dtype, product)
    floors = (0.0, *_floors(inputs, scale))
    return [_error(*five) for five in zip(NAMES, exact, ours, rival, floors, strict=True)]


def spots(inputs, ours, log_sum, causal, scale, count=4) -> dict[str, float]:
    """Largest errors of a few rows (out, dq) and columns (dk, dv) of every head, against float32.

    inputs = q, k, v, d_out and ours = out, dq, dk, dv: [heads, S, D]. log_sum [heads, S], float32: the
    log-sum-exp of every row of scores.
    """
    q, k, v, d_out = (t.float() for t in inputs)
    out, dq, dk, dv = ours
    at = torch.linspace(0, q.shape[1] - 1, count).long()
    later = torch.arange(q.shape[1])[None, :] > at[:, None]  # [count, S]: columns a row must not see
    weights = _hide(q[:, at] @ k.transpose(1, 2) * scale, later if causal else None).softmax(-1)
    d_weights = d_out[:, at] @ v.transpose(1, 2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(-1, keepdim=True))
    found = {"out": (weights @ v, out[:, at]), "dq": (scale * d_scores @ k, dq[:, at])}
    earlier = torch.arange(q.shape[1])[None, :] < at[:, None]  # [count, S]: rows that do not see a column
    scores = _hide(k[:, at] @ q.transpose(1, 2) * scale, earlier if causal else None)
    weights = (scores - log_sum[:, None, :]).exp()
    delta = (d_out * out.float()).sum(-1)
    d_scores = weights * (v[:, at] @ d_out.transpose(1, 2) - delta[:, None, :])
    found |= {"dk": (scale * d_scores @ q, dk[:, at]), "dv": (weights @ d_out, dv[:, at])}
    return {name: float((a - b.float()).abs().max()) for name, (a, b) in found.items()}


def _hide(scores: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
    return scores if hidden is None else scores.masked_fill(hidden, -torch.inf)


def _floors(inputs, scale) -> tuple[float, float, float]:
    """The products whose rounding the gradients dq, dk, dv cannot beat: of the longest rows of each input."""
    q, k, v, d_out = (float(t.float().norm(dim=-1).max()) for t in inputs)
    return d_out * v * k * scale, d_out * v * q * scale, d_out


def _error(name, exact, ours, rival, floor) -> Error:
    vanishing = exact.abs().amax(dim=-1) <= VANISHING * floor
    ours = (ours.double() - exact).abs()
    rival = (rival - exact).abs()
    vanishing_ok = not bool((ours[vanishing] > ROUNDING * floor).any())
    ours, rival = ours[~vanishing], rival[~vanishing]
    return Error(
        name, _max(ours), _max(rival), _rms(ours), _rms(rival), vanishing_ok and bool(ours.isfinite().all())
    )


def _max(t: torch.Tensor) -> float:
    return float(t.max()) if t.numel() else 0.0


def _rms(t: torch.Tensor) -> float:
    return float(t.square().mean().sqrt()) if t.numel() else 0.0
