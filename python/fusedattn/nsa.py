"""nsa_compress(): the token compression of native sparse attention, for torch tensors and NumPy arrays."""

import ctypes
import sys

from . import _native
from .numerals import integer, integers

DTYPES = {"float32": _native.FLOAT32, "bfloat16": _native.BFLOAT16, "float16": _native.FLOAT16}


def nsa_compress(input, weight, ends, block, stride):
    """Weighted sums of windows of tokens, on the CPU; differentiable for torch tensors.

    output[first + i, n, d] = sum over l < block of weight[l, n] * input[start + i * stride + l, n, d]

    for the windows i = 0 .. (L - block) // stride of each sequence (none if its length L is less than block),
    where start and first are the tokens and the windows of the sequences before. Sums are in float32, rounded
    once.

    input: torch tensor or NumPy array [T, N, D] of float32, bfloat16 or float16: sequences packed one after
        another. Read in place unless its last dimension is not contiguous.
    weight: [block, N], of input's dtype; any strides.
    ends: cumulative lengths, where each sequence ends; a leading 0 is an empty sequence and changes nothing.
        Tokens past the last end belong to no sequence. None: all tokens are one sequence.
    block, stride: tokens of a window, and from one window to the next: 1 <= stride <= block.

    Returns [windows, N, D], contiguous. The gradient of a token in no window is 0. Any sizes are computed.

    Raises ValueError for sizes that contradict each other or are out of range, TypeError for what is no
    tensor, array or integer, NotImplementedError for forward-mode and second derivatives.
    """
    compress = _compress_for(input)
    block, stride = integer("block", block), integer("stride", stride)
    return compress(input, weight, None if ends is None else integers("ends", ends), block, stride)


def _compress_for(input):
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(input, torch.Tensor):
        from . import nsa_ops

        return nsa_ops.compress
    if numpy is not None and isinstance(input, numpy.ndarray):
        return _compress_arrays
    raise TypeError(f"input is a {type(input).__name__}; accepted are torch tensors and NumPy arrays")


def windows(tokens: int, ends: list[int] | None, block: int, stride: int) -> int:
    """Rows of the output."""
    bounds = [0, tokens] if ends is None else [0, *ends]
    lengths = [end - begin for begin, end in zip(bounds, bounds[1:])]
    return sum((length - block) // stride + 1 for length in lengths if length >= block)


def check(input_shape, weight_shape, ends: list[int] | None, block: int, stride: int) -> None:
    """Refuses, with ValueError, shapes and sizes that do not belong together."""
    if len(input_shape) != 3:
        raise ValueError(f"input has shape {tuple(input_shape)}; accepted are 3 dimensions, [T, N, D]")
    if not 1 <= stride <= block:
        raise ValueError(f"stride is {stride}; accepted are 1 to block, which is {block}")
    wanted = (block, input_shape[1])
    if tuple(weight_shape) != wanted:
        raise ValueError(f"weight has shape {tuple(weight_shape)}; accepted is {wanted}, [block, N]")
    bounds = [] if ends is None else ends
    for index, (begin, end) in enumerate(zip([0, *bounds], bounds)):
        if end < begin:
            raise ValueError(f"ends[{index}] is {end}; accepted are cumulative lengths: at least {begin}")
    if bounds and bounds[-1] > input_shape[0]:
        raise ValueError(
            f"ends[-1] is {bounds[-1]}; accepted is at most the number of tokens, {input_shape[0]}"
        )


def problem_of(
    dtype: str, shape, ends: list[int] | None, block: int, stride: int
) -> _native.NsaCompressProblem:
    """A problem that waits for its tensors: see lay() and lay_weight()."""
    problem = _native.NsaCompressProblem(
        struct_size=ctypes.sizeof(_native.NsaCompressProblem), dtype=DTYPES[dtype]
    )
    problem.tokens, problem.heads, problem.dim = shape
    problem.block, problem.stride = block, stride
    if ends is None:
        problem.sequences = 1
    else:
        problem.kept_ends = (ctypes.c_int64 * max(len(ends), 1))(*ends)  # alive as long as the problem
        problem.sequences, problem.ends = len(ends), ctypes.addressof(problem.kept_ends)
    return problem


def lay(address: int, strides) -> _native.View:
    """A tensor [rows, N, D] with these strides, in elements."""
    return _native.View(address, 0, strides[1], strides[0])


def lay_weight(address: int, strides) -> _native.View:
    """A tensor [block, N] with these strides, in elements."""
    return _native.View(address, 0, strides[1], strides[0])


def _compress_arrays(input, weight, ends, block, stride):
    import numpy

    for name, array in (("input", input), ("weight", weight)):
        if not isinstance(array, numpy.ndarray) or isinstance(array, numpy.ma.MaskedArray):
            raise TypeError(
                f"{name} is a {type(array).__name__}; accepted is a plain NumPy array, as input is"
            )
        if array.dtype.name not in DTYPES or not array.dtype.isnative:
            raise ValueError(f"{name} has dtype {array.dtype}; accepted are {', '.join(DTYPES)}")
    if weight.dtype != input.dtype:
        raise ValueError(f"weight has dtype {weight.dtype}; accepted is input's dtype, {input.dtype}")
    check(input.shape, weight.shape, ends, block, stride)
    input, weight = numpy.ascontiguousarray(input), numpy.ascontiguousarray(weight)
    output = numpy.empty((windows(len(input), ends, block, stride), *input.shape[1:]), input.dtype)
    problem = problem_of(input.dtype.name, input.shape, ends, block, stride)
    _, heads, dim = input.shape
    problem.input = lay(input.ctypes.data, (heads * dim, dim))
    problem.output = lay(output.ctypes.data, (heads * dim, dim))
    problem.weight = lay_weight(weight.ctypes.data, (heads, 1))
    _native.nsa_compress_forward(problem)
    return output
