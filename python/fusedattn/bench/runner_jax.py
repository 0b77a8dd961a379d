"""runner_jax.py: jax.nn.dot_product_attention, compiled, forward and backward, as runner.py has torch's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fusedattn.bench.cells import DTYPES, Cell
from fusedattn.bench.inputs import arrays, is_plain_triangle, mask_matrix
from fusedattn.bench.timing import heads_of, timed

_MOST_SCORES = 10**8  # float32, several times over in a backward


class Runner:
    """JAX takes [batch, rows, heads, features], so the cell's tensors are laid out like that beforehand."""

    def refuses(self, cell: Cell, direction: str) -> str | None:
        if cell.batch * cell.heads * cell.q_len * cell.length > _MOST_SCORES:
            return f"JAX keeps all scores, and swaps: only cells of at most {_MOST_SCORES:.0e}"
        if cell.threads > 1:
            return "JAX takes its threads from the process, which is measured with one"
        return "dot_product_attention has no dropout" if cell.dropout else None

    def prepare(self, cell: Cell) -> None:
        self._cell = cell
        dtype = getattr(jnp, DTYPES[cell.dtype])
        *self._inputs, self._d_out = (jnp.asarray(x.swapaxes(1, 2), dtype) for x in arrays(cell).values())
        matrix = None if is_plain_triangle(cell) else mask_matrix(cell)
        mask = None if matrix is None else jnp.asarray(matrix.reshape(-1, 1, *matrix.shape[-2:]))
        attend = lambda q, k, v: jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=is_plain_triangle(cell))  # noqa: E731
        self._forward, self._back = jax.jit(attend), None

    def forward(self):
        return jax.block_until_ready(self._forward(*self._inputs))

    def backward(self):
        """The backward alone, from what one forward saved."""
        if self._back is None:
            _, back = jax.vjp(self._forward, *self._inputs)
            run = jax.jit(lambda back, d_out: back(d_out))
            self._back = lambda: run(back, self._d_out)
        return jax.block_until_ready(self._back())

    def time(self, direction: str, calls: int) -> tuple[float, float]:
        if direction == "backward" and self._back is None:
            self.backward()
        return timed(self.forward if direction == "forward" else self.backward, calls)

    def first_head(self, directions) -> dict[str, np.ndarray]:
        outputs = {"out": self.forward()} if "forward" in directions else {}
        if "backward" in directions:
            outputs |= dict(zip(("dq", "dk", "dv"), self.backward()))
        return {name: np.asarray(x[0, :, : heads_of(name, self._cell)].swapaxes(0, 1), np.float32) for name, x in outputs.items()}
