"""Attention by its formula in float64, gradients by torch's autograd: what results are compared with."""

import torch

LOWEST = torch.finfo(torch.float32).min
LARGEST = torch.finfo(torch.float32).max
RELATIVE = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def attention(q, k, v, seen=None, scale=None, *, sink=None, keep=None, **added):
    """(out, max, sum) in float64 of BNSD tensors; seen: bool, broadcasting to [B,N,Sq,Skv].

    sink [N]: one more score per row; keep [B,N,Sq,Skv]: what probabilities are multiplied with (0, or
    1 / keep_prob); added: as scores() takes it. A score of -inf is one that is not seen.
    """
    x = scores(q, k, scale, **added)
    seen = torch.ones_like(x, dtype=torch.bool) if seen is None else seen.expand(x.shape)
    x = x.masked_fill(~seen, float("-inf"))
    if sink is not None:
        x = torch.cat((x, sink.double().view(-1, 1, 1).expand(*x.shape[:-1], 1)), dim=-1)
    alive = x > float("-inf")
    row_sees = alive.any(-1)
    row_max = x.amax(-1) if x.shape[-1] else x.new_zeros(x.shape[:-1])
    shift = torch.where(row_sees, row_max, 0.0).detach()
    e = torch.where(alive, (torch.where(alive, x, 0.0) - shift.unsqueeze(-1)).exp(), 0.0)
    row_sum = e.sum(-1)
    p = (e / torch.where(row_sees, row_sum, 1.0).unsqueeze(-1))[..., : k.shape[2]]
    out = (p if keep is None else p * keep) @ repeated(v, q)
    if k.shape[2] == 0:
        return out, torch.zeros_like(row_max), torch.zeros_like(row_max)
    return out, torch.where(row_sees, row_max, LOWEST), torch.where(row_sees, row_sum, LARGEST)


def repeated(t, q):
    """Keys or values in float64, once for each query head."""
    return t.double().repeat_interleave(q.shape[1] // t.shape[1], dim=1)


def scores(q, k, scale=None, *, softcap=0.0, bias=None, slopes=None, top_left=False, square_root=False):
    """softcap * tanh(scale * q k^T / softcap) + bias - slopes * distance, float64 [B,N,Sq,Skv]; slopes [N] or [B,N]."""
    x = q.double() @ repeated(k, q).transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if softcap:
        x = softcap * (x / softcap).tanh()
    if bias is not None:
        x = x + bias.double()
    if slopes is not None:
        rows, columns = x.shape[-2:]
        shift = 0 if top_left else columns - rows
        distance = (torch.arange(columns) - torch.arange(rows)[:, None] - shift).abs().double()
        x = x - slopes.double()[..., None, None] * (distance.sqrt() if square_root else distance)
    return x


def gradients(q, k, v, d_out, seen=None, scale=None, **terms):
    """In float64, of sum(out * d_out): dq, dk, dv, and after them those of bias and of sink if given."""
    leaves = [t.detach().double().requires_grad_() for t in (q, k, v)]
    more = {name: terms[name] for name in ("bias", "sink") if terms.get(name) is not None}
    more = {name: t.detach().double().requires_grad_() for name, t in more.items()}
    out = attention(*leaves, seen, scale, **(terms | more))[0]
    return torch.autograd.grad(out, (*leaves, *more.values()), d_out.double())


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
    unseen = (want_sum == LARGEST) | (want_sum == 0)
    assert torch.equal(row_max[unseen].double(), want_max[unseen])
    assert torch.equal(row_sum[unseen].double(), want_sum[unseen])
    torch.testing.assert_close(row_max[~unseen].double(), want_max[~unseen], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(row_sum[~unseen].double(), want_sum[~unseen], rtol=1e-3, atol=0)


def draw(*shape, dtype=torch.float32):
    """Uniform in [-1, 1], in the storage type."""
    return (torch.rand(shape) * 2 - 1).to(dtype)
