"""Runs the library on plain CPU torch tensors, forward and backward: what the torch operators compute."""

import torch

from . import _native
from . import extras as extra_terms
from .extras import Extras
from .problem import (
    Call,
    Calls,
    Operand,
    Terms,
    announce_copy,
    check_both_ends,
    check_dense,
    check_ends,
    check_longest,
    check_ranks,
)

_DTYPES = {
    torch.float32: _native.FLOAT32,
    torch.bfloat16: _native.BFLOAT16,
    torch.float16: _native.FLOAT16,
}
_forward_calls = Calls()
_backward_calls = Calls()


def forward(
    q, k, v, mask, cu_seqlens_q, cu_seqlens_k, terms: Terms, extras: Extras | None = None, stats=True
):
    """(out, max, sum) as ops.py defines them; with stats=False max and sum are None and not computed."""
    if cu_seqlens_q is not None or cu_seqlens_k is not None:
        cu_seqlens_q, cu_seqlens_k = _checked_ends(terms, q, k, mask, cu_seqlens_q, cu_seqlens_k, extras)
    call = prepared(q, k, v, mask, cu_seqlens_q, terms, extras)
    if call is None:
        bias = extras and extras.bias
        q, k, v, mask, bias, _ = _with_rows(q=q, k=k, v=v, mask=mask, bias=bias)
        extras = extras and extras._replace(bias=bias)
        call = prepared(q, k, v, mask, cu_seqlens_q, terms, extras)
    return run(call, q, k, v, mask, cu_seqlens_q, cu_seqlens_k, extras, stats)


def prepared(q, k, v, mask, cu_seqlens_q, terms: Terms, extras: Extras | None = None) -> Call | None:
    """The call that this thread keeps for tensors like these; None where a last dimension has to be copied first."""
    try:
        key = (
            q.dtype, q.shape, q.stride(), k.dtype, k.shape, k.stride(), v.dtype, v.shape, v.stride(), terms,
            None if mask is None else (mask.is_cpu, mask.dtype, mask.shape, mask.stride()),
            None if cu_seqlens_q is None else cu_seqlens_q.shape, None if extras is None else _key(extras),
        )  # fmt: skip
    except RuntimeError:  # of torch, for a tensor that has no shape and strides
        _check_tensors({"k": k, "v": v}, q, mask, extras)
        raise
    call = _forward_calls.get(key)
    if call is None:
        _check_tensors({"k": k, "v": v}, q, mask, extras)
        if all(map(_has_rows, (q, k, v, mask, extras and extras.bias))):
            call = _forward_calls.keep(key, _forward_call(q, k, v, mask, cu_seqlens_q, terms, extras))
    return call


def run(call: Call, q, k, v, mask, cu_seqlens_q, cu_seqlens_k, extras: Extras | None, stats: bool):
    """forward() of a prepared call, which takes its memory from tensors like those it was prepared for."""
    out = q.new_empty(call.out_shape)
    call.q.data, call.k.data = q.data_ptr(), k.data_ptr()
    call.v.data, call.out.data = v.data_ptr(), out.data_ptr()
    if mask is not None or cu_seqlens_q is not None:
        _point(call, mask, cu_seqlens_q, cu_seqlens_k)
    if extras is not None:
        extras = _point_extras(call, extras)
    if stats:
        row_max, row_sum = _fresh_stats(call, q)
    else:
        row_max = row_sum = None
        call.stats.max = call.stats.sum = None
    status = _native.problem_forward(call.address, None)
    if status:
        _native.refuse(status)
    return out, row_max, row_sum


def backward(
    d_out, q, k, v, out, row_max, row_sum, mask, cu_seqlens_q, cu_seqlens_k, terms: Terms, needs, extras=None
):
    """(dq, dk, dv), contiguous, shaped as q, k, v; an empty [0] for each that needs does not ask for.

    With extras (dq, dk, dv, d_bias, d_sink), for five needs; the last two are None where not asked for.
    """
    if cu_seqlens_q is not None or cu_seqlens_k is not None:
        cu_seqlens_q, cu_seqlens_k = _checked_ends(terms, q, k, mask, cu_seqlens_q, cu_seqlens_k, extras)
    if extras is not None and needs[3]:
        extras = _unrepeated(extras)
    row_max, row_sum = row_max.contiguous(), row_sum.contiguous()
    try:
        key = (
            row_max.dtype, row_max.shape, row_sum.dtype, row_sum.shape,
            q.dtype, q.shape, q.stride(), k.dtype, k.shape, k.stride(), v.dtype, v.shape, v.stride(), terms,
            d_out.dtype, d_out.shape, d_out.stride(), out.dtype, out.shape, out.stride(),
            None if mask is None else (mask.is_cpu, mask.dtype, mask.shape, mask.stride()),
            None if cu_seqlens_q is None else cu_seqlens_q.shape, None if extras is None else _key(extras),
        )  # fmt: skip
    except RuntimeError:  # of torch, for a tensor that has no shape and strides
        _check_tensors({"k": k, "v": v, "out": out, "d_out": d_out}, q, mask, extras)
        raise
    call = _backward_calls.get(key)
    if call is None:
        _check_tensors({"k": k, "v": v, "out": out, "d_out": d_out}, q, mask, extras)
        bias = extras and extras.bias
        d_out, q, k, v, out, mask, bias, copied = _with_rows(
            d_out=d_out, q=q, k=k, v=v, out=out, mask=mask, bias=bias
        )
        if copied:
            extras, ends = extras and extras._replace(bias=bias), (cu_seqlens_q, cu_seqlens_k)
            return backward(d_out, q, k, v, out, row_max, row_sum, mask, *ends, terms, needs, extras)
        call = _forward_call(q, k, v, mask, cu_seqlens_q, terms, extras)
        _check_statistics(call, row_max, row_sum)
        _lay_gradients(call, d_out, q, k, v, out)
        _backward_calls.keep(key, call)
    call.q.data, call.k.data = q.data_ptr(), k.data_ptr()
    call.v.data, call.out.data = v.data_ptr(), out.data_ptr()
    call.stats.max, call.stats.sum, call.d_out.data = row_max.data_ptr(), row_sum.data_ptr(), d_out.data_ptr()
    if mask is not None or cu_seqlens_q is not None:
        _point(call, mask, cu_seqlens_q, cu_seqlens_k)
    if extras is not None:
        extras = _point_extras(call, extras)
    gradients = [t.new_empty(t.shape if need else 0) for t, need in zip((q, k, v), needs)]
    for view, gradient, need in zip((call.dq, call.dk, call.dv), gradients, needs):
        view.data = gradient.data_ptr() if need else None
    if extras is not None:
        gradients += _extra_gradients(call, extras, *needs[3:])
    status = _native.problem_backward(call.address, None)
    if status:
        _native.refuse(status)
    return tuple(gradients)


def _forward_call(q, k, v, mask, cu_seqlens, terms: Terms, extras: Extras | None) -> Call:
    sequences = None if cu_seqlens is None else cu_seqlens.shape[0] - 1
    call = Call(terms, _DTYPES[q.dtype], _operand(q), _operand(k), _operand(v), sequences)
    call.lay_fresh("out", call.out_shape)
    if mask is not None:
        call.lay_mask(_operand(mask), terms.nonzero_hides)
    if extras is not None:
        extra_terms.lay(call, terms.layout, extras, _operand)
    return call


def _fresh_stats(call: Call, q) -> tuple:
    """New tensors for max and sum, with their addresses in the call."""
    row_max = q.new_empty(call.stats_shape, dtype=torch.float32)
    row_sum = torch.empty_like(row_max)
    call.stats.max, call.stats.sum = row_max.data_ptr(), row_sum.data_ptr()
    return row_max, row_sum


def _check_statistics(call: Call, row_max, row_sum) -> None:
    for name, statistic in (("max", row_max), ("sum", row_sum)):
        if statistic.shape != call.stats_shape or statistic.dtype != torch.float32:
            raise ValueError(
                f"{name} is {statistic.dtype} of shape {tuple(statistic.shape)}; accepted is torch.float32 of"
                f" shape {tuple(call.stats_shape)}"
            )


def _lay_gradients(call: Call, d_out, q, k, v, out) -> None:
    for name, tensor in (("out", out), ("d_out", d_out)):
        if tensor.shape != call.out_shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; accepted is {tuple(call.out_shape)}")
        call.lay(name, _operand(tensor))
    for name, tensor in (("dq", q), ("dk", k), ("dv", v)):
        call.lay_fresh(name, tensor.shape)


def _operand(tensor) -> Operand:
    return Operand(tuple(tensor.shape), tensor.stride())


def _point(call: Call, mask, cu_seqlens_q, cu_seqlens_k) -> None:
    """Gives a call the addresses of the mask bytes and of the sequence ends (which skip the leading 0)."""
    if mask is not None:
        call.mask.bytes = mask.data_ptr()
    if cu_seqlens_q is not None:
        call.problem.q_ends = cu_seqlens_q.data_ptr() + 8
        call.problem.kv_ends = cu_seqlens_k.data_ptr() + 8


def _checked_ends(terms: Terms, q, k, mask, cu_seqlens_q, cu_seqlens_k, extras):
    """Both arrays as contiguous int64, once they are cumulative lengths that fit the rows, mask and bias."""
    check_both_ends(cu_seqlens_q, cu_seqlens_k)
    check_dense(q=q, k=k)
    check_ranks(terms.layout, True, q=q.shape, k=k.shape)
    ends = []
    for name, cu_seqlens, rows in (("cu_seqlens_q", cu_seqlens_q, q), ("cu_seqlens_k", cu_seqlens_k, k)):
        check_ends_tensor(name, cu_seqlens)
        if not cu_seqlens.is_cpu:
            raise ValueError(f"{name} is on device {cu_seqlens.device}; accepted is the CPU")
        ends.append(cu_seqlens.tolist())
        check_ends(name, ends[-1], rows.shape[0])
    if len(ends[0]) != len(ends[1]):
        raise ValueError(
            f"cu_seqlens_q has {len(ends[0])} entries, cu_seqlens_k {len(ends[1])}; accepted is equal"
        )
    for name, tensor in (("mask", mask), ("bias", extras and extras.bias)):
        if tensor is not None:
            check_dense(**{name: tensor})
            check_longest(name, tensor.shape, *ends)
    return cu_seqlens_q.to(torch.int64).contiguous(), cu_seqlens_k.to(torch.int64).contiguous()


def check_ends_tensor(name: str, cu_seqlens) -> None:
    """Refuses a tensor that cannot hold cumulative lengths, whatever is in it."""
    check_dense(**{name: cu_seqlens})
    if cu_seqlens.dim() != 1 or cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"{name} is {cu_seqlens.dtype} of shape {tuple(cu_seqlens.shape)}; accepted is one dimension of"
            " int32 or int64 on the CPU"
        )


def _check_tensors(others: dict, q, mask, extras: Extras | None) -> None:
    if q.dtype not in _DTYPES:
        raise ValueError(f"q has dtype {q.dtype}; accepted are {', '.join(map(str, _DTYPES))}")
    for name, tensor in {"q": q, **others}.items():
        if not tensor.is_cpu:
            raise ValueError(f"{name} is on device {tensor.device}; accepted is the CPU")
        check_dense(**{name: tensor})
        if tensor.dtype != q.dtype:
            raise ValueError(f"{name} has dtype {tensor.dtype}; accepted is q's dtype, {q.dtype}")
    if mask is not None and (not mask.is_cpu or mask.dtype not in (torch.bool, torch.uint8)):
        raise ValueError(
            f"mask is {mask.dtype} on {mask.device}; accepted is torch.bool (or uint8) on the CPU"
            + "; numbers to be added to the scores are a bias" * mask.is_floating_point()
        )
    if mask is not None:
        check_dense(mask=mask)
    for name, tensor in zip(("bias", "alibi", "sink", "prefix", "dropout_seed"), extras or ()):
        if isinstance(tensor, torch.Tensor):
            if not tensor.is_cpu:
                raise ValueError(f"{name} is on device {tensor.device}; accepted is the CPU")
            check_dense(**{name: tensor})


def _key(extras: Extras) -> tuple:
    """All of the extras that shapes a call."""
    tensors = [None if t is None else (t.is_cpu, t.dtype, t.shape, t.stride()) for t in extras[:5]]
    return *tensors, *extras[5:]


def _point_extras(call: Call, extras: Extras) -> Extras:
    """Gives a call its extras' addresses; returns them as they must stay alive."""
    if extras.prefix is not None or extras.sink is not None:
        prefix, sink = (t if t is None else t.contiguous() for t in (extras.prefix, extras.sink))
        extras = extras._replace(prefix=prefix, sink=sink)
    extra_terms.point(call, extras, torch.Tensor.data_ptr)
    return extras


def _unrepeated(extras: Extras) -> Extras:
    """The extras with a bias of its own memory per element: an expanded one has a gradient per repetition."""
    bias = extras.bias
    if bias is None or all(step or size == 1 for size, step in zip(bias.shape, bias.stride())):
        return extras
    announce_copy("bias", bias.shape, 0, bias.element_size())
    return extras._replace(bias=bias.clone(memory_format=torch.contiguous_format))


def _extra_gradients(call: Call, extras: Extras, needs_bias: bool, needs_sink: bool) -> list:
    """[d_bias, d_sink] with their addresses in the call; None where not needed."""
    d_bias = extras.bias.new_zeros(extras.bias.shape) if needs_bias else None
    d_sink = extras.sink.new_zeros(extras.sink.shape) if needs_sink else None
    call.problem.d_bias.data = d_bias.data_ptr() if needs_bias else None
    call.problem.d_sink = d_sink.data_ptr() if needs_sink else None
    return [d_bias, d_sink]


def _has_rows(tensor) -> bool:
    return tensor is None or not tensor.dim() or _operand(tensor).has_rows()


def _with_rows(**tensors):
    """The tensors, copied where their last dimension is not contiguous, and whether any was."""
    copied = False
    for name, tensor in tensors.items():
        if not _has_rows(tensor):
            announce_copy(name, tensor.shape, tensor.stride(-1), tensor.element_size())
            tensors[name], copied = tensor.clone(memory_format=torch.contiguous_format), True
    return *tensors.values(), copied
