"""Attention by its formula in float64, gradients by torch's autograd: what results are compared with."""

import torch

LOWEST = torch.finfo(torch.float32).min
LARGEST = torch.finfo(torch.float32).max
RELATIVE = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def attention(q, k, v, seen=None, scale=None):
    """(out, max, sum) in float64 of BNSD tensors; seen: bool, broadcasting to [B,N,Sq,Skv]."""
    q, k, v = (t.double() for t in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
    x = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    seen = torch.ones_like(x, dtype=torch.bool) if seen is None else seen.expand(x.shape)
    row_sees = seen.any(-1)
    x = x.masked_fill(~seen, float("-inf"))
    row_max = x.amax(-1) if x.shape[-1] else x.new_zeros(x.shape[:-1])
    shift = torch.where(row_sees, row_max, 0.0).detach()
    e = torch.where(seen, (x - shift.unsqueeze(-1)).exp(), 0.0)
    row_sum = e.sum(-1)
    out = (e / torch.where(row_sees, row_sum, 1.0).unsqueeze(-1)) @ v
    return out, torch.where(row_sees, row_max, LOWEST), torch.where(row_sees, row_sum, LARGEST)


def gradients(q, k, v, d_out, seen=None, scale=None):
    """(dq, dk, dv) in float64 of sum(out * d_out)."""
    leaves = [t.detach().double().requires_grad_() for t in (q, k, v)]
    return torch.autograd.grad(attention(*leaves, seen, scale)[0], leaves, d_out.double())


def assert_close(got, want, what="", slack=1.0):
    """Every element within the storage type's tolerance of max(|element|, root mean square of the tensor)."""
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, wanted {tuple(want.shape)}"
    if want.numel() == 0:
        return
    want, error = want.detach(), (got.detach().double() - want.detach()).abs()
    size = torch.maximum(want.abs(), want.square().mean().sqrt())
    rounding = 1e-6  # of gradients that are zero in exact arithmetic
    allowed = slack * RELATIVE[got.dtype] * size + rounding
    worst = (error / allowed).max().item()
    assert worst <= 1, f"{what}: error is {worst:.2f} times what {got.dtype} is allowed"


def assert_statistics(row_max, row_sum, want_max, want_sum):
    """Statistics of seen rows within float32's reach; those of unseen rows exactly the agreed numbers."""
    assert row_max.dtype == row_sum.dtype == torch.float32
    unseen = want_sum == LARGEST
    assert (row_max[unseen] == LOWEST).all() and (row_sum[unseen] == LARGEST).all()
    torch.testing.assert_close(row_max[~unseen].double(), want_max[~unseen], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(row_sum[~unseen].double(), want_sum[~unseen], rtol=1e-3, atol=0)


def draw(*shape, dtype=torch.float32):
    """Uniform in [-1, 1], in the storage type."""
    return (torch.rand(shape) * 2 - 1).to(dtype)
