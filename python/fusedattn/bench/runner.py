"""runner.py: one torch implementation on one cell's tensors: prepared, then timed forward or backward alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fusedattn.bench.cells import BAND, DTYPES, Cell
from fusedattn.bench.inputs import arrays, is_plain_triangle, mask_matrix
from fusedattn.bench.timing import heads_of, timed

SEED = (7, 0)  # of the dropout of ours


@dataclass(frozen=True)
class Kind:
    """An implementation: attend(q, k, v, cell, mask) -> out, make_mask(cell) -> mask, and what it does not do."""

    attend: Callable
    make_mask: Callable = lambda cell: None
    refuses: Callable[[Cell, str], str | None] = lambda cell, direction: None


def torch_mask(cell: Cell):
    """The matrix torch needs for the cell's mask, or None where a flag says it."""
    return None if cell.mask == "none" or is_plain_triangle(cell) else torch.from_numpy(mask_matrix(cell).copy())


def _torch_attend(q, k, v, cell: Cell, mask):
    return torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=cell.dropout, is_causal=is_plain_triangle(cell), enable_gqa=cell.group > 1
    )


def _fused_attend(q, k, v, cell: Cell, mask):
    import fusedattn

    return fusedattn.attention(q, k, v, mask=mask, dropout_p=cell.dropout, dropout_seed=SEED if cell.dropout else None)


def _fused_mask(cell: Cell):
    """The mask as a value; a padded batch's as the bytes that it comes in."""
    import fusedattn

    if cell.mask == "padding":
        return torch_mask(cell)
    return {"none": None, "causal": fusedattn.causal(), "band": fusedattn.window(BAND - 1, 0)}[cell.mask]


def _zentorch_attend(q, k, v, cell: Cell, mask):
    return torch.ops.zentorch.zentorch_sdpa(q, k, v, 0.0, is_plain_triangle(cell), attn_mask=mask)[0]


def _zentorch_mask(cell: Cell):
    import zentorch  # noqa: F401, registers the operator

    mask = torch_mask(cell)
    if mask is None:
        return None
    return torch.zeros(mask.shape).masked_fill(~mask, -torch.inf).to(getattr(torch, DTYPES[cell.dtype])).expand(cell.batch, 1, -1, cell.length)


def _zentorch_refuses(cell: Cell, direction: str) -> str | None:
    if direction != "forward":
        return "zentorch_sdpa has no backward"
    return "zentorch_sdpa has as many key heads as query heads and no dropout" if cell.group > 1 or cell.dropout else None


_FLEX_LEAST = 2e9  # operations


def _flex_refuses(cell: Cell, direction: str) -> str | None:
    if direction != "forward" or cell.dropout:
        return "flex_attention has no backward and no dropout on CPUs"
    if cell.flops("forward") < _FLEX_LEAST:
        return f"flex_attention is compiled for each shape, which takes long: only cells of {_FLEX_LEAST:.0e} operations"
    return None


def _flex():
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    torch._dynamo.config.fail_on_recompile_limit_hit = True  # instead of going on uncompiled, thirty times slower
    compiled = torch.compile(flex_attention)

    def make_mask(cell: Cell):
        torch._dynamo.reset()  # after some shapes it would stop compiling
        if cell.mask == "none":
            return None
        shift = cell.length - cell.q_len
        ends = torch.tensor([cell.columns(b) for b in range(cell.batch)])
        sees = {
            "causal": lambda b, h, i, j: j <= i + shift,
            "band": lambda b, h, i, j: (j <= i + shift) & (j > i + shift - BAND),
            "padding": lambda b, h, i, j: j < ends[b],
        }[cell.mask]
        return create_block_mask(sees, cell.batch if cell.mask == "padding" else None, None, cell.q_len, cell.length, device="cpu")

    return Kind(lambda q, k, v, cell, mask: compiled(q, k, v, block_mask=mask, enable_gqa=cell.group > 1), make_mask, _flex_refuses)


KINDS = {
    "fusedattn": lambda: Kind(_fused_attend, _fused_mask),
    "torch": lambda: Kind(_torch_attend, torch_mask),
    "flex": _flex,
    "zentorch": lambda: Kind(_zentorch_attend, _zentorch_mask, _zentorch_refuses),
}


class Runner:
    """Times one of KINDS, or a Kind of one's own, on the cell it was prepared for. The cell fixes the inputs."""

    def __init__(self, kind: str | Kind):
        self._kind = KINDS[kind]() if isinstance(kind, str) else kind

    def refuses(self, cell: Cell, direction: str) -> str | None:
        """Why this implementation does not compute the cell, or None."""
        return self._kind.refuses(cell, direction)

    def prepare(self, cell: Cell, packed: bool = False) -> None:
        """packed: outputs are [rows, heads, features], and so is their gradient."""
        torch.set_num_threads(cell.threads)
        tensors = {name: torch.from_numpy(x).to(getattr(torch, DTYPES[cell.dtype])) for name, x in arrays(cell).items()}
        d_out = tensors.pop("d_out")
        self._cell, self._mask, self._graph = cell, self._kind.make_mask(cell), None
        self._inputs = tuple(tensors.values())
        self._leaves = tuple(x.detach().requires_grad_() for x in self._inputs)
        self._d_out = d_out[0].transpose(0, 1) if packed else d_out

    def forward(self):
        with torch.no_grad():
            return self._kind.attend(*self._inputs, self._cell, self._mask)

    def backward(self):
        """The backward alone: the graph of one forward, with what it saved, is kept and used again."""
        return torch.autograd.grad(self._recorded(), self._leaves, self._d_out, retain_graph=True)

    def _recorded(self):
        if self._graph is None:
            self._graph = self._kind.attend(*self._leaves, self._cell, self._mask)
        return self._graph

    def time(self, direction: str, calls: int) -> tuple[float, float]:
        """Seconds of one call, over `calls` of them, and CPU seconds used in a second, 1 per busy thread.

        A backward's own forward is not counted.
        """
        if direction == "backward":
            self._recorded()
        return timed(self.forward if direction == "forward" else self.backward, calls)

    def first_head(self, directions) -> dict[str, np.ndarray]:
        """What the query heads of the first key head come to, as float32, to be checked."""
        outputs = {"out": self.forward()} if "forward" in directions else {}
        if "backward" in directions:
            outputs |= dict(zip(("dq", "dk", "dv"), self.backward()))
        return {name: x[0, : heads_of(name, self._cell)].float().numpy() for name, x in outputs.items()}
