"""runner.py: one implementation on one cell's tensors: prepared, then timed forward or backward alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from fusedattn.bench.cells import BAND, DTYPES, Cell
from fusedattn.bench.correct import visible_rows

Attend = Callable[..., torch.Tensor]  # (q, k, v, cell, mask) -> out


def torch_attend(q, k, v, cell: Cell, mask):
    """torch's own scaled_dot_product_attention; what is not a square triangle has to be given to it as a matrix of bool."""
    return torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=cell.mask == "causal" and mask is None, enable_gqa=cell.group > 1
    )


def fused_attend(q, k, v, cell: Cell, mask):
    """fusedattn.attention with the mask as a value."""
    import fusedattn

    return fusedattn.attention(q, k, v, mask=mask)


def torch_mask(cell: Cell):
    """The matrix torch needs for the cell's mask, or None."""
    if cell.mask == "none" or (cell.mask == "causal" and not cell.rows):
        return None
    return torch.from_numpy(visible_rows(cell, 0, cell.q_len))


def fused_mask(cell: Cell):
    """The fusedattn mask value of the cell, or None."""
    import fusedattn

    if cell.mask == "none":
        return None
    return fusedattn.causal() if cell.mask == "causal" else fusedattn.window(BAND - 1, 0)


ATTENDS = {"torch": (torch_attend, torch_mask), "fusedattn": (fused_attend, fused_mask)}


class Runner:
    """Times `kind` ("fusedattn" or "torch") on the cell it was prepared for. The cell fixes the inputs."""

    def __init__(self, kind: str, attend: Attend | None = None, make_mask=None):
        own_attend, own_mask = ATTENDS[kind]
        self._attend, self._make_mask = attend or own_attend, make_mask or own_mask

    def prepare(self, cell: Cell, packed: bool = False) -> None:
        """packed: outputs are [rows, heads, features], and so is their gradient."""
        torch.set_num_threads(cell.threads)
        generator = torch.Generator().manual_seed(20)
        shapes = (cell.q_shape, cell.kv_shape, cell.kv_shape, cell.q_shape)
        tensors = [torch.randn(shape, generator=generator) for shape in shapes]
        tensors = [x.to(getattr(torch, DTYPES[cell.dtype])) for x in tensors]
        self._cell, self._mask, self._graph = cell, self._make_mask(cell), None
        self._inputs = tuple(tensors[:3])
        self._leaves = tuple(x.detach().requires_grad_() for x in self._inputs)
        self._d_out = tensors[3][0].transpose(0, 1) if packed else tensors[3]

    def forward(self):
        with torch.no_grad():
            return self._attend(*self._inputs, self._cell, self._mask)

    def backward(self):
        """The backward alone: the graph of one forward, with what it saved, is kept and used again."""
        if self._graph is None:
            self._graph = self._attend(*self._leaves, self._cell, self._mask)
        return torch.autograd.grad(self._graph, self._leaves, self._d_out, retain_graph=True)

    def time(self, direction: str, calls: int) -> tuple[float, float]:
        """Seconds of one call, over `calls` of them, and CPU seconds used in a second, 1 per busy thread.

        A backward's own forward is not counted.
        """
        call = self.forward
        if direction == "backward":
            call = self.backward
            if self._graph is None:
                self._graph = self._attend(*self._leaves, self._cell, self._mask)
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in range(calls):
            call()
        elapsed = time.perf_counter() - start
        return elapsed / calls, (time.process_time() - cpu_start) / elapsed

    def last_head(self, directions) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Inputs and outputs of the last key head and its query heads, as float64, to be checked."""
        q, k, v = self._inputs
        outputs = {"out": self.forward()}
        if "backward" in directions:
            outputs |= dict(zip(("dq", "dk", "dv"), self.backward()))
        inputs = {"q": q, "k": k, "v": v, "d_out": self._d_out}
        group = self._cell.group
        return tuple(
            {key: x[-1, -group if x.shape[1] == self._cell.heads else -1 :].double().numpy() for key, x in part.items()}
            for part in (inputs, outputs)
        )
