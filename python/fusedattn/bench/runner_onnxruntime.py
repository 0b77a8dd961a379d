"""runner_onnxruntime.py: ONNX Runtime's MultiHeadAttention, forward, as runner.py has torch's."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

from fusedattn.bench.cells import Cell
from fusedattn.bench.inputs import arrays, is_plain_triangle, mask_matrix
from fusedattn.bench.timing import heads_of, timed

_DOMAIN = "com.microsoft"


class Runner:
    """A model of one node. It takes [batch, rows, heads * features]."""

    def refuses(self, cell: Cell, direction: str) -> str | None:
        if direction != "forward":
            return "ONNX Runtime has no backward of it"
        if cell.dtype != "fp32":
            return "its CPU provider has float32 alone"
        return "it has as many key heads as query heads and no dropout" if cell.group > 1 or cell.dropout else None

    def prepare(self, cell: Cell) -> None:
        self._cell = cell
        values = list(arrays(cell).values())[:3]
        self._feeds = {name: _flat(x) for name, x in zip(("q", "k", "v"), values)}
        matrix = None if is_plain_triangle(cell) else mask_matrix(cell)
        if matrix is not None:
            bias = np.where(matrix, np.float32(0), np.float32(-np.inf))
            self._feeds["bias"] = np.ascontiguousarray(np.broadcast_to(bias, (cell.batch, 1, cell.q_len, cell.length)))
        self._session = _session(cell, self._feeds)

    def forward(self) -> np.ndarray:
        return self._session.run(None, self._feeds)[0]

    def time(self, direction: str, calls: int) -> tuple[float, float]:
        return timed(self.forward, calls)

    def first_head(self, directions) -> dict[str, np.ndarray]:
        cell = self._cell
        out = self.forward().reshape(cell.batch, cell.q_len, cell.heads, cell.dim)
        return {"out": out[0, :, : heads_of("out", cell)].swapaxes(0, 1)}


def _flat(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.swapaxes(1, 2)).reshape(x.shape[0], x.shape[2], -1)


def _session(cell: Cell, feeds: dict[str, np.ndarray]) -> onnxruntime.InferenceSession:
    make = onnx.helper
    inputs = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, x.shape) for name, x in feeds.items()]
    output = make.make_tensor_value_info("out", onnx.TensorProto.FLOAT, feeds["q"].shape)
    names = ["q", "k", "v", *(["", "", "bias"] if "bias" in feeds else [])]
    node = make.make_node("MultiHeadAttention", names, ["out"], domain=_DOMAIN, num_heads=cell.heads,
                          unidirectional=int(is_plain_triangle(cell)))  # fmt: skip
    opsets = [make.make_opsetid("", 17), make.make_opsetid(_DOMAIN, 1)]
    model = make.make_model(make.make_graph([node], "attention", inputs, [output]), opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cell.threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
