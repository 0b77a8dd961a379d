"""Runs the library on NumPy arrays, forward only. bfloat16 arrays are those of ml_dtypes."""

import numpy

from . import _native, extras
from .extras import Extras
from .layout import AXES
from .numerals import integers
from .problem import Call, Operand, Terms, announce_copy, check_ends, check_longest, check_ranks

_DTYPES = {"float32": _native.FLOAT32, "bfloat16": _native.BFLOAT16, "float16": _native.FLOAT16}


def forward(q, k, v, mask, cu_seqlens_q, cu_seqlens_k, terms: Terms, stats: bool = True, asked=None):
    """(out, max, sum); with stats=False max and sum are None and not computed. Shapes as in ops.py.

    asked: None or extras.read()'s.
    """
    _check_arrays(q, k, v, mask)
    q, k, v, mask = (
        _with_rows(name, array) for name, array in (("q", q), ("k", k), ("v", v), ("mask", mask))
    )
    ends = None
    if cu_seqlens_q is not None:
        check_ranks(terms.layout, True, q=q.shape, k=k.shape)
        ends = [_ends("cu_seqlens_q", cu_seqlens_q, q), _ends("cu_seqlens_k", cu_seqlens_k, k)]
        if len(ends[0]) != len(ends[1]):
            raise ValueError(
                f"cu_seqlens_q has {len(ends[0])} entries, cu_seqlens_k {len(ends[1])}; accepted is equal"
            )
    sequences = None if ends is None else len(ends[0]) - 1
    if asked is not None:
        asked = _as_arrays(asked, q, terms.layout, sequences)
    if ends is not None:
        for name, array in (("mask", mask), ("bias", asked and asked.bias)):
            if array is not None:
                check_longest(name, array.shape, ends[0].tolist(), ends[1].tolist())
    call = Call(terms, _DTYPES[q.dtype.name], _operand(q), _operand(k), _operand(v), sequences)
    out = numpy.empty(call.out_shape, q.dtype)
    call.lay_fresh("out", out.shape)
    call.q.data, call.k.data, call.v.data, call.out.data = (array.ctypes.data for array in (q, k, v, out))
    if mask is not None:
        call.lay_mask(_operand(mask), terms.nonzero_hides)
        call.mask.bytes = mask.ctypes.data
    if ends is not None:
        call.problem.q_ends, call.problem.kv_ends = (array.ctypes.data + 8 for array in ends)
    if asked is not None:
        extras.lay(call, terms.layout, asked, _operand)
        extras.point(call, asked, lambda array: array.ctypes.data)
    row_max = row_sum = None
    if stats:
        row_max, row_sum = (numpy.empty(call.stats_shape, numpy.float32) for _ in range(2))
        call.stats.max, call.stats.sum = row_max.ctypes.data, row_sum.ctypes.data
    status = _native.problem_forward(call.address, None)
    if status:
        _native.refuse(status)
    return out, row_max, row_sum


def _check_arrays(q, k, v, mask) -> None:
    for name, array in (("q", q), ("k", k), ("v", v)):
        if not isinstance(array, numpy.ndarray):
            raise TypeError(f"{name} is a {type(array).__name__}; accepted is a NumPy array, as q is")
        if isinstance(array, numpy.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array; accepted is a plain one, with what to hide in mask")
        if array.dtype.name not in _DTYPES or not array.dtype.isnative:
            raise ValueError(f"{name} has dtype {array.dtype}; accepted are {', '.join(_DTYPES)}")
        if array.dtype != q.dtype:
            raise ValueError(f"{name} has dtype {array.dtype}; accepted is q's dtype, {q.dtype}")
    if isinstance(mask, numpy.ma.MaskedArray):
        raise TypeError("mask is a masked array; accepted is a plain one of bool")
    if mask is not None and not (
        isinstance(mask, numpy.ndarray) and mask.dtype in (numpy.bool_, numpy.uint8)
    ):
        kind = mask.dtype if isinstance(mask, numpy.ndarray) else type(mask).__name__
        raise ValueError(
            f"mask is {kind}; accepted are a Mask or a NumPy array of bool, as q is a NumPy array"
        )


def _as_arrays(asked: Extras, q, layout: str, sequences: int | None) -> Extras:
    """Extras as extras.lay() takes them: prefix and stream as arrays, the others with whole rows."""
    arrays = {"bias": asked.bias, "alibi": asked.slopes, "sink": asked.sink}
    for name, array in arrays.items():
        if array is not None and (
            not isinstance(array, numpy.ndarray) or isinstance(array, numpy.ma.MaskedArray)
        ):
            raise TypeError(
                f"{name} is a {type(array).__name__}; accepted is a plain NumPy array, as q is one"
            )
        arrays[name] = _with_rows(name, array)
    if asked.keep_prob != 1.0 and asked.stream is None:
        raise ValueError(
            "dropout_seed is None; accepted with NumPy arrays is an integer, for nothing draws one"
        )
    prefix, axis = asked.prefix, AXES[layout].batch
    if isinstance(prefix, int):
        count = sequences if axis is None else q.shape[axis] if q.ndim > axis else 1
        prefix = [prefix] * count
    prefix, stream = (None if n is None else numpy.array(n, numpy.int64) for n in (prefix, asked.stream))
    return asked._replace(
        bias=arrays["bias"], slopes=arrays["alibi"], sink=arrays["sink"], prefix=prefix, stream=stream
    )


def _operand(array) -> Operand:
    return Operand(array.shape, tuple(step // array.itemsize for step in array.strides))


def _with_rows(name: str, array):
    """The array, copied if its last dimension is not contiguous or a stride is no multiple of an element."""
    if array is None or not array.ndim:
        return array
    whole = all(step % array.itemsize == 0 for step in array.strides) and array.flags.aligned
    if whole and _operand(array).has_rows():
        return array
    announce_copy(name, array.shape, array.strides[-1] / array.itemsize, array.itemsize)
    return array.copy(order="C")


def _ends(name: str, cu_seqlens, packed):
    ends = integers(name, cu_seqlens)
    check_ends(name, ends, packed.shape[0])
    return numpy.array(ends, dtype=numpy.int64)
