"""mindspore.ops.ring_attention_update: joins attention of the same queries over two disjoint sets of keys."""

import ctypes

from mindspore import Tensor

from ... import _native
from ..ascend import Output
from ..ascend.operand import contiguous
from .rules_ring import LANES, Update, check
from .tensors import addresses, check_tensors, dtype_name, fresh, in_memory, operand, with_rows


def ring_attention_update(
    prev_attn_out,
    prev_softmax_max,
    prev_softmax_sum,
    cur_attn_out,
    cur_softmax_max,
    cur_softmax_sum,
    actual_seq_qlen=None,
    layout="SBH",
):
    """The update as `mindspore.ops.ring_attention_update` computes it, on CPU tensors.

    prev_attn_out, cur_attn_out: float16, bfloat16 or float32, [S, B, N * D] with layout SBH, [T, N, D] with
    TND.
    The statistics: float32, [B, N, S, 8] or [T, N, 8]; with TND one block [N, length, 8] after another in
    memory.
    actual_seq_qlen: int64 Tensor from 0 to T, with TND alone.
    max = max(max_p, max_c), w = sum_w * exp(max_w - max), sum = w_p + w_c, out = (out_p * w_p + out_c * w_c)
    / sum, all in float32; out is rounded once. Infinities and NaN follow the formula.
    Returns (attn_out, softmax_max, softmax_sum), shaped as the inputs. No gradient.
    TypeError for types and dtypes, ValueError for the layout and for shapes that contradict each other,
    RuntimeError for what the device refuses of TND.
    """
    tensors = {
        "prev_attn_out": prev_attn_out,
        "prev_softmax_max": prev_softmax_max,
        "prev_softmax_sum": prev_softmax_sum,
        "cur_attn_out": cur_attn_out,
        "cur_softmax_max": cur_softmax_max,
        "cur_softmax_sum": cur_softmax_sum,
    }
    check_tensors(tensors)
    update = Update(tensors, actual_seq_qlen, layout)
    check(update)
    return _computed(update)


def _computed(update: Update) -> tuple[Tensor, Tensor, Tensor]:
    given = {name: _ready(name, tensor) for name, tensor in update.tensors.items()}
    shape, stats_shape = tuple(update.out.shape), tuple(given["prev_softmax_max"].shape)
    results = {
        "attn_out": fresh(Output(shape, dtype_name(update.out))),
        "softmax_max": fresh(Output(stats_shape, "float32")),
        "softmax_sum": fresh(Output(stats_shape, "float32")),
    }
    places = addresses(given | results)
    problem, parts = _native.new_merge_problem(2)
    ends = _fill_sizes(problem, update)  # alive until the call returns
    for part, prefix in ((parts[0], "prev_"), (parts[1], "cur_"), (problem.result, "")):
        names = tuple(prefix + name for name in results)
        part.out = _out_view(places[names[0]], (given | results)[names[0]], update)
        part.stats = _stats_view(*(places[name] for name in names[1:]), (given | results)[names[1]], update)
    _native.merge(problem)
    del ends
    return tuple(results.values())


def _ready(name: str, tensor: Tensor) -> Tensor:
    """The tensor, or a copy where the library cannot read it as it lies."""
    if not name.endswith("attn_out"):
        in_memory(tensor)
        fits = operand(tensor).strides == contiguous(tuple(tensor.shape))
        return tensor if fits else tensor.contiguous()
    return with_rows(tensor)


def _fill_sizes(problem: _native.MergeProblem, update: Update) -> ctypes.Array | None:
    """Sizes; returns the array of sequence ends, which the problem points to."""
    problem.dtype, problem.special = getattr(_native, dtype_name(update.out).upper()), _native.MERGE_FORMULA
    problem.heads = update.heads
    if not update.packed:
        problem.rows, problem.batch, hidden = update.out.shape
        problem.dim_v = hidden // update.heads
        return None
    problem.rows, _, problem.dim_v = update.out.shape
    numbers = update.ends[1:]
    problem.batch = len(numbers)
    ends = (ctypes.c_int64 * max(len(numbers), 1))(*numbers)
    problem.q_ends = ctypes.addressof(ends)
    return ends


def _out_view(address: int, tensor: Tensor, update: Update) -> _native.View:
    strides = tensor.stride()
    if update.packed:
        return _native.View(address, 0, strides[1], strides[0])
    return _native.View(address, strides[1], tensor.shape[2] // update.heads, strides[0])


def _stats_view(max_address: int, sum_address: int, tensor: Tensor, update: Update) -> _native.Stats:
    if update.packed:
        return _native.Stats(max_address, sum_address, 0, 0, 0, LANES, 1)
    batch, heads, rows, _ = tensor.stride()
    return _native.Stats(max_address, sum_address, batch, heads, rows, LANES, 0)
