"""Checked calls of FlashAttentionScore and of its gradient, which wait for addresses alone."""

import ctypes
import threading
from collections.abc import Mapping

from ... import _native
from .constraints import cautions, check, warn
from .facts import LANES, Facts
from .masks import COMPRESSED, fill_mask
from .operand import Operand, Output, contiguous
from .pse import fill_pse
from .request import Request

_DTYPES = {"float32": _native.FLOAT32, "bfloat16": _native.BFLOAT16, "float16": _native.FLOAT16}
_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Plan:
    """What both directions share: a filled problem, the places of its addresses, and the arrays it points to.

    outputs: name -> Output, the contiguous tensors that the door allocates and run() fills.
    numels: the number of scores, which dropout counts.
    rope: whether "query" and "key" are to be given as contiguous [T, N, D + Dr], the rope features appended.
    cautions: sentences for the caller, issued as warnings with every call.
    """

    outputs: dict[str, Output]

    def __init__(self, f: Facts):
        self.rope, self.numels, self.cautions = f.Dr > 0, f.numels, cautions(f)
        self._computes = not f.sees_nothing
        self._places: list[tuple[str, ctypes.Structure, str, int]] = (
            []
        )  # name, struct, field, bytes past the address
        self._arrays: list[ctypes.Array] = []
        self._problem = _native.new_problem()
        if self._computes:
            self._fill(f)
            self._address = ctypes.addressof(self._problem)

    def _fill(self, f: Facts) -> None:
        self._fill_sizes(f)
        self._fill_inputs(f)
        self._arrays += fill_mask(self._problem.mask, f)
        if f.masked and f.mode not in COMPRESSED:
            self._place("atten_mask", self._problem.mask, "bytes")
        past = fill_pse(self._problem, f)
        if f.request.real_shift is not None:
            target = (self._problem.alibi, "slopes") if f.inner_pse else (self._problem.bias, "data")
            self._place("real_shift", *target, past)
        if f.request.sink is not None:
            self._place("sink", self._problem, "sink")
        self._fill_stats(f)

    def _fill_sizes(self, f: Facts) -> None:
        problem, request = self._problem, f.request
        problem.dtype, problem.scale = _DTYPES[request.query.dtype], request.scale_value
        problem.batch, problem.q_heads, problem.kv_heads = f.B, f.N1, f.N2
        problem.q_len, problem.kv_len = f.Sq, f.Skv
        problem.dim, problem.dim_v = f.D + f.Dr, f.Dv
        problem.dropout.keep_prob = request.keep_prob
        if f.packed:
            for name, ends in (("q_ends", f.q_ends), ("kv_ends", f.kv_ends)):
                self._arrays.append((ctypes.c_int64 * len(ends))(*ends))
                setattr(problem, name, ctypes.addressof(self._arrays[-1]))

    def _fill_inputs(self, f: Facts) -> None:
        request = f.request
        self._lay("query", "q", self._roped(request.query, f), f.N1, f)
        self._lay("key", "k", self._roped(request.key, f), f.N2, f)
        self._lay("value", "v", request.value, f.N2, f)

    def _roped(self, operand: Operand, f: Facts) -> Operand:
        """The operand as run() gets it."""
        if not self.rope:
            return operand
        shape = (*operand.shape[:2], f.D + f.Dr)
        return Operand(shape, contiguous(shape), operand.dtype)

    def _lay(self, name: str, field: str, operand: Operand, heads: int, f: Facts) -> None:
        view = getattr(self._problem, field)
        view.batch_stride, view.head_stride, view.row_stride = f.laid(operand, heads)
        self._place(name, view, "data")

    def _lay_output(self, name: str, field: str, shape: tuple[int, ...], heads: int, f: Facts) -> None:
        """A tensor that the plan writes and the door allocates."""
        dtype = f.request.query.dtype
        self.outputs[name] = Output(shape, dtype)
        if self._computes:
            self._lay(name, field, Operand(shape, contiguous(shape), dtype), heads, f)

    def _place(self, name: str, target: ctypes.Structure, field: str, past: int = 0) -> None:
        self._places.append((name, target, field, past))

    def _fill_stats(self, f: Facts) -> None:
        stats = self._problem.stats
        stats.lanes = LANES
        if not f.packed:
            stats.batch_stride, stats.head_stride, stats.row_stride = contiguous(f.stats_shape)[:3]
        elif f.request.softmax_layout == "same_as_input":
            stats.row_stride, stats.head_stride = contiguous(f.stats_shape)[:2]
        else:
            stats.blocks = 1
        self._place("softmax_max", stats, "max")
        self._place("softmax_sum", stats, "sum")

    def _point(self, addresses: Mapping[str, int], seed: int, offset: int) -> None:
        for name, target, field, past in self._places:
            setattr(target, field, addresses[name] + past)
        self._problem.dropout.seed, self._problem.dropout.offset = seed & _64_BITS, offset & _64_BITS

    def _clear(self, addresses: Mapping[str, int], names) -> None:
        for name in names:
            shape, dtype = self.outputs[name]
            count = _SIZES[dtype]
            for length in shape:
                count *= length
            if count:
                ctypes.memset(addresses[name], 0, count)


_64_BITS = 2**64 - 1


class ForwardPlan(Plan):
    """A checked forward call. outputs: attention_out, softmax_max, softmax_sum."""

    def __init__(self, request: Request):
        f = check(request, backward=False)
        super().__init__(f)
        statistic = Output(f.stats_shape, "float32")
        self.outputs = {}
        self._lay_output("attention_out", "out", f.out_shape, f.N1, f)
        self.outputs |= {"softmax_max": statistic, "softmax_sum": statistic}
        if not self._computes:
            return
        if request.drop_mask is not None:
            self._place("drop_mask", self._problem.dropout, "bits")
        elif not request.generate:
            self._problem.dropout.keep_prob = 1.0

    def run(self, addresses: Mapping[str, int], seed: int = 0, offset: int = 0) -> None:
        """Fills the outputs. addresses: of every Operand of the request, by its name, and of every output.

        seed, offset: of the generated dropout, read as 64 bits without a sign.
        """
        if not self._computes:
            return self._clear(addresses, self.outputs)
        self._point(addresses, seed, offset)
        status = _native.problem_forward(self._address, None)
        if status:
            _native.refuse(status)


class BackwardPlan(Plan):
    """A checked backward call.

    outputs: those of dq, dk, dv that the request needs; dsink with a sink; dpse, zeros, with a real_shift.
    With rope, dq and dk are [T, N, D + Dr], for the door to split.
    """

    def __init__(self, request: Request):
        f = check(request, backward=True)
        super().__init__(f)
        self.outputs = {}
        if self._computes:
            self._lay("attention_in", "out", request.attention_in, f.N1, f)
            self._lay("dy", "d_out", request.dy, f.N1, f)
        for need, name, operand, heads in zip(
            request.needs,
            ("dq", "dk", "dv"),
            (self._roped(request.query, f), self._roped(request.key, f), request.value),
            (f.N1, f.N2, f.N2),
        ):
            if need:
                self._lay_output(name, name, operand.shape, heads, f)
        if request.sink is not None:
            self.outputs["dsink"] = Output(request.sink.shape, "float32")
            if self._computes:
                self._place("dsink", self._problem, "d_sink")
        if request.real_shift is not None:
            self.outputs["dpse"] = Output(request.real_shift.shape, request.real_shift.dtype)
        self._fill_dropout(request, f)

    def _fill_dropout(self, request: Request, f: Facts) -> None:
        dropped = f.keep_prob < 1 or request.drop_always
        if self._computes and dropped and request.drop_mask is not None:
            self._place("drop_mask", self._problem.dropout, "bits")

    def run(self, addresses: Mapping[str, int], seed: int = 0, offset: int = 0) -> None:
        """Fills the outputs, as ForwardPlan.run. dpse may be missing in addresses: the door may have zeros."""
        if not self._computes:
            return self._clear(addresses, [name for name in self.outputs if name in addresses])
        if "dpse" in self.outputs and "dpse" in addresses:
            self._clear(addresses, ["dpse"])
        self._point(addresses, seed, offset)
        status = _native.problem_backward(self._address, None)
        if status:
            _native.refuse(status)


class _Plans(threading.local):
    """The plans of this thread, by request."""

    LIMIT = 256

    def __init__(self):
        self.forward, self.backward = {}, {}


_plans = _Plans()


def forward_plan(request: Request) -> ForwardPlan:
    """The plan of a forward call, once every check has passed; Refusal where one does not."""
    return _plan(_plans.forward, ForwardPlan, request)


def backward_plan(request: Request) -> BackwardPlan:
    """The plan of a backward call, once every check has passed; Refusal where one does not."""
    return _plan(_plans.backward, BackwardPlan, request)


def _plan(kept: dict, make, request: Request):
    plan = kept.get(request)
    if plan is None:
        plan = make(request)
        if len(kept) >= _Plans.LIMIT:
            kept.clear()
        kept[request] = plan
    if plan.cautions:
        warn(plan.cautions)
    return plan


def dropout_bits(address: int, count: int, keep_prob: float, seed: int, offset: int) -> None:
    """Writes the bits of elements [0, count) to (count + 127) // 128 * 16 bytes; those past count are 0."""
    dropout = _native.Dropout(keep_prob, None, seed & _64_BITS, offset & _64_BITS)
    ctypes.memset(address, 0, (count + 127) // 128 * 16)
    _native.dropout_bits(dropout, count, address)
