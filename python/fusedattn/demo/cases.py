"""The eight shapes of the demonstration, their inputs, and the arithmetic they need."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Case:
    """One row of the list: BNSD = [batch, heads, length, dim], and how its numbers are distributed."""

    id: int
    batch: int
    heads: int
    length: int
    dim: int
    kind: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.batch, self.heads, self.length, self.dim

    @property
    def scale(self) -> float:
        return 1.0 / math.sqrt(self.dim)

    def visible(self, causal: bool) -> int:
        """How many (row, column) pairs of one head take part."""
        return self.length * (self.length + 1) // 2 if causal else self.length**2

    def flops(self, causal: bool, backward: bool, heads: int | None = None) -> float:
        """Useful work of all heads, or of so many: two products forward, five backward, two flops a term."""
        heads = self.batch * self.heads if heads is None else heads
        return float((10 if backward else 4) * heads * self.visible(causal) * self.dim)


# Shapes that occur more than once differ in their numbers: what is easy for one kind is not for another.
CASES = (
    Case(1, 1, 8, 4096, 128, "normal"),
    Case(2, 4, 32, 2048, 64, "normal"),
    Case(3, 8, 16, 512, 128, "normal"),
    Case(4, 8, 16, 512, 128, "peaked"),
    Case(5, 8, 16, 512, 128, "shifted"),
    Case(6, 8, 16, 512, 64, "normal"),
    Case(7, 8, 16, 512, 64, "outlier"),
    Case(8, 4, 4, 2048, 64, "normal"),
)

KINDS = {
    "normal": "standard normal",
    "peaked": "queries and keys of deviation 3: most rows look at a handful of columns",
    "shifted": "values of mean 1: gradients are differences of nearly equal numbers",
    "outlier": "four channels of the keys eight times as large, as in trained language models",
}


def tensors(case: Case, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """query, key, value and the gradient of the output, [B, N, S, D] of dtype; always the same for a case."""
    generator = torch.Generator().manual_seed(1000 + case.id)
    q, k, v, d_out = (torch.randn(case.shape, generator=generator) for _ in range(4))
    if case.kind == "peaked":
        q, k = q * 3, k * 3
    elif case.kind == "shifted":
        v = v + 1
    elif case.kind == "outlier":
        k[..., :4] *= 8
    return q.to(dtype), k.to(dtype), v.to(dtype), d_out.to(dtype)
