"""merge(): joins attention of the same queries over disjoint sets of keys, for torch tensors and NumPy arrays."""

import sys

from . import joint
from . import layout as layouts
from .numerals import integer
from .problem import check_dense

_DTYPES = ("float32", "bfloat16", "float16")


def merge(parts, *, layout="BNSD", heads=None):
    """Attention over all keys, from attention over some of them: (out, max, sum) of the joined rows.

    parts: at least one tuple (out, max, sum) as attention(..., return_stats=True) returns it, all torch tensors or all
        NumPy arrays on the CPU, of one shape and dtype (float32, bfloat16 or float16); max and sum float32 [B,N,S]
        ([N,T] with layout "TND"), any strides.
    layout, heads: of out, as attention() takes them; heads with "BSH" and "SBH" alone.

    With t_p = sum_p * exp(max_p - max): max = max_p max_p, sum = sum_p t_p, out = sum_p out_p * (t_p / sum), in float32 in
    the order of the parts; out is rounded once. A part whose row saw no key adds nothing; a row that no part saw a key of
    stays as attention() leaves it. NaN in the statistics of a row is NaN in the row. In 16-bit types each part carries a
    rounding of its own, so parts are best kept in float32.

    Raises ValueError for shapes, dtypes and layouts that do not fit, TypeError for what is no tensor or array,
    NotImplementedError for tensors that require grad: there is no derivative, because the backward of attention starts from
    the joined max and sum (compute the gradients of each part with those).
    """
    if not isinstance(layout, str) or layout not in layouts.NAMES:
        raise ValueError(layouts.unknown(layout))
    outs, maxs, sums = _columns(parts)
    run = _runner(outs[0])
    for index, triple in enumerate(zip(outs, maxs, sums)):
        for name, value in zip(("out", "max", "sum"), triple):
            if type(value).__module__.partition(".")[0] != type(outs[0]).__module__.partition(".")[0]:
                kind = type(value).__name__
                raise TypeError(f"parts[{index}] {name} is a {kind}; accepted is a {type(outs[0]).__name__}, as the first")
            check_dense(**{f"parts[{index}] {name}": value})
    folded = layouts.FOLDED.get(layout)
    shape = tuple(outs[0].shape)
    _check_same("out", outs, shape)
    if folded is not None:
        outs = [out.reshape(_unfolded(layout, heads, shape)) for out in outs]
    elif heads is not None:
        raise ValueError(f"heads is {heads} with layout {layout!r}; accepted with 'BSH' and 'SBH' alone")
    layout = folded or layout
    _check(layout, outs, maxs, sums)
    out, row_max, row_sum = run(outs, maxs, sums, layout)
    return out.reshape(shape), row_max, row_sum


def _columns(parts):
    if hasattr(type(parts), "shape") or not hasattr(parts, "__iter__"):
        raise TypeError(f"parts is a {type(parts).__name__}; accepted is a list of tuples (out, max, sum)")
    parts = list(parts)
    if not parts:
        raise ValueError("parts is empty; accepted is at least one tuple (out, max, sum)")
    for index, part in enumerate(parts):
        if not isinstance(part, (tuple, list)) or len(part) != 3:
            raise TypeError(f"parts[{index}] is a {type(part).__name__}; accepted is a tuple (out, max, sum)")
    return zip(*parts)


def _runner(first):
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(first, torch.Tensor):
        return _join_tensors
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(first, numpy.ndarray):
        return _join_arrays
    raise TypeError(f"parts[0] out is a {type(first).__name__}; accepted are torch tensors and NumPy arrays")


def _unfolded(layout: str, heads, shape) -> tuple[int, ...]:
    heads = 0 if heads is None else integer("heads", heads)
    if heads <= 0:
        raise ValueError(f"heads is {heads or None}; layout {layout!r} needs the number of heads")
    if len(shape) != 3 or shape[-1] % heads:
        raise ValueError(f"out has shape {shape}; layout {layout!r} needs 3 dimensions, the last a multiple of {heads}")
    return (*shape[:2], heads, shape[-1] // heads)


def _check_same(name: str, given, shape) -> None:
    for index, tensor in enumerate(given):
        if tuple(tensor.shape) != tuple(shape):
            raise ValueError(f"parts[{index}] {name} has shape {tuple(tensor.shape)}; accepted is {tuple(shape)}")


def _name(dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check(layout: str, outs, maxs, sums) -> None:
    shape = tuple(outs[0].shape)
    if len(shape) != layouts.rank(layout):
        raise ValueError(f"out has shape {shape}; layout {layout!r} needs {layouts.rank(layout)} dimensions")
    if shape[-1] == 0:
        raise ValueError(f"out has shape {shape}; accepted is at least 1 feature")
    if _name(outs[0].dtype) not in _DTYPES:
        raise ValueError(f"out has dtype {outs[0].dtype}; accepted are {', '.join(_DTYPES)}")
    statistics = joint.stats_shape(layout, joint.ROWS, shape, 1)
    for name, given, dtype in (("out", outs, outs[0].dtype), ("max", maxs, "float32"), ("sum", sums, "float32")):
        if name != "out":
            _check_same(name, given, statistics)
        for index, tensor in enumerate(given):
            if _name(tensor.dtype) != _name(dtype):
                raise ValueError(f"parts[{index}] {name} has dtype {tensor.dtype}; accepted is {_name(dtype)}")


def _join_tensors(outs, maxs, sums, layout):
    import torch

    from . import merge_ops

    for name, given in (("out", outs), ("max", maxs), ("sum", sums)):
        for index, tensor in enumerate(given):
            if tensor.device != outs[0].device:
                place = f"{tensor.device} and parts[0] out on {outs[0].device}"
                raise ValueError(f"parts[{index}] {name} is on device {place}; accepted is one device for all")
            merge_ops.refuse_gradients(**{f"parts[{index}] {name}": tensor})
    return torch.ops.fusedattn.merge(list(outs), list(maxs), list(sums), None, layout, joint.ROWS, False)


def _join_arrays(outs, maxs, sums, layout):
    import numpy

    from . import _native
    from .problem import Operand

    def ready(array):
        whole = array.flags.aligned and all(step % array.itemsize == 0 for step in array.strides)
        if not array.dtype.isnative or isinstance(array, numpy.ma.MaskedArray):
            raise ValueError(f"parts hold an array of {array.dtype} ({type(array).__name__}); accepted are plain native ones")
        return array if whole and operand(array).has_rows() else array.copy(order="C")

    def operand(array):
        return Operand(array.shape, tuple(step // array.itemsize for step in array.strides))

    dtype = getattr(_native, _name(outs[0].dtype).upper())
    outs = [ready(array) for array in outs]
    maxs, sums = ([numpy.ascontiguousarray(array) for array in given] for given in (maxs, sums))
    results = numpy.empty(outs[0].shape, outs[0].dtype), *(numpy.empty(maxs[0].shape, numpy.float32) for _ in range(2))
    if results[0].size:
        merge = joint.Joint(dtype, layout, joint.ROWS, len(outs), False, False)
        merge.size(operand(outs[0]), [0, outs[0].shape[0]] if layout == "TND" else None)
        for index, part in [*enumerate(zip(outs, maxs, sums)), (None, results)]:
            merge.point(index, operand(part[0]), operand(part[1]), [array.ctypes.data for array in part])
        merge.run()
    return results
