"""One training step of causal self-attention with grouped heads, beside the same step by torch itself.

Run: .venv/bin/python examples/python/causal_training_step.py
"""

import fusedattn
import torch

HEADS, KEY_HEADS, DIM = 8, 2, 32
HIDDEN = HEADS * DIM


class SelfAttention(torch.nn.Module):
    """[batch, rows, HIDDEN] to the same; every key head is shared by four query heads."""

    def __init__(self):
        super().__init__()
        self.project = torch.nn.Linear(HIDDEN, (HEADS + 2 * KEY_HEADS) * DIM)
        self.out = torch.nn.Linear(HIDDEN, HIDDEN)

    def forward(self, x, attend):
        heads = self.project(x).unflatten(-1, (-1, DIM))  # [batch, rows, heads, DIM]: BSND, read in place
        q, k, v = heads.split((HEADS, KEY_HEADS, KEY_HEADS), dim=2)
        return self.out(attend(q, k, v).flatten(2))


def ours(q, k, v):
    return fusedattn.attention(q, k, v, mask=fusedattn.causal(), layout="BSND")


def torchs(q, k, v):
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)


def step(attend):
    """(loss before, loss after, gradients) of one step of gradient descent."""
    torch.manual_seed(0)
    layer, x, target = SelfAttention(), torch.randn(2, 200, HIDDEN), torch.randn(2, 200, HIDDEN)
    losses = []
    for _ in range(2):
        losses.append(torch.nn.functional.mse_loss(layer(x, attend), target))
        layer.zero_grad()
        losses[-1].backward()
        if len(losses) == 1:
            gradients = [p.grad.clone() for p in layer.parameters()]
            torch.optim.SGD(layer.parameters(), lr=1.0).step()
    return losses[0].item(), losses[1].item(), gradients


before, after, gradients = step(ours)
before_torch, after_torch, gradients_torch = step(torchs)
worst = max(float((a - b).norm() / b.norm()) for a, b in zip(gradients, gradients_torch))
print(f"loss {before:.6f} -> {after:.6f} (torch {before_torch:.6f} -> {after_torch:.6f})")
print(f"gradients of {len(gradients)} parameters differ by at most {worst:.1e} of their norm")
assert after < before and worst < 1e-5
