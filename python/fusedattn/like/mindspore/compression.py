"""mindspore.ops.nsa_compress: the token compression of native sparse attention."""

from typing import NamedTuple

from mindspore import Tensor
from mindspore.common import _Function

from ... import _native, nsa
from ..ascend import Output
from ..nsa_checks import MOST_DIM, MOST_HEADS, Call, Seen, first_refusal
from .tensors import check_tensors, dtype_name, fresh, in_memory, with_rows

_EXCEPTIONS = {"null": TypeError, "type": TypeError, "value": RuntimeError}
_EXCEPTIONS_OF_ROWS = {"lengths are not negative": ValueError}


def nsa_compress(input, weight, compress_block_size, compress_stride, *, actual_seq_len):
    """Weighted sums of windows of tokens, as `mindspore.ops.nsa_compress` computes them, on CPU tensors.

    input: [T, N, D], float16, bfloat16 or float32; sequences packed one after another. D a multiple of 16 up
    to 256, N up to 128. weight: [compress_block_size, N], of input's dtype.
    compress_block_size, compress_stride: tokens of a window, and from one window to the next: multiples of
    16, the block up to 128, the stride up to the block. actual_seq_len: tuple or list of cumulative lengths
    above 0, the last T.
    Returns [windows, N, D] of input's dtype; a sequence of length L has (L - block) // stride + 1 windows,
    none if it is shorter than the block. Sums are float32, rounded once. Differentiable in input and weight.
    TypeError for other types and dtypes, ValueError for lengths that are not positive, else RuntimeError.
    """
    tensors = {"input": input, "weight": weight}
    check_tensors(tensors)
    seen = {name: Seen(tuple(tensor.shape), dtype_name(tensor)) for name, tensor in tensors.items()}
    call = Call(seen, compress_block_size, compress_stride, actual_seq_len, leading_zero=False)
    _check(call)
    return _Compress.apply(
        with_rows(input), in_memory(weight), _Windows(call.ends(), call.block(), call.stride())
    )


def _check(call: Call) -> None:
    refusal = first_refusal(call)
    if refusal is not None:
        raise _EXCEPTIONS_OF_ROWS.get(refusal.name, _EXCEPTIONS[refusal.kind])(refusal.sentence)
    _, heads, dim = call.tensors["input"].shape
    if dim > MOST_DIM:
        raise RuntimeError(f"input has head size D = {dim}; accepted are multiples of 16 up to {MOST_DIM}")
    if heads > MOST_HEADS:
        raise RuntimeError(f"input has N = {heads} heads; accepted are 1 to {MOST_HEADS}")


class _Windows(NamedTuple):
    """Where the sequences end, and how windows are cut from them."""

    ends: list[int]
    block: int
    stride: int


class _Compress(_Function):
    """input, weight, _Windows -> output."""

    @staticmethod
    def forward(ctx, input, weight, windows):
        rows = nsa.windows(input.shape[0], *windows)
        output = fresh(Output((rows, *input.shape[1:]), dtype_name(input)))
        problem = _problem(input, weight, windows)
        problem.output = _view(output)
        _native.nsa_compress_forward(problem)
        ctx.windows = windows
        ctx.save_for_backward(input, weight)
        return output

    @staticmethod
    def backward(ctx, d_output):
        needs = tuple(bool(needed) for needed in ctx.needs_input_grad[:2])
        found = iter(_Gradients.apply(d_output, *ctx.saved_tensors, ctx.windows, needs) if any(needs) else ())
        return *(next(found) if needed else None for needed in needs), None


class _Gradients(_Function):
    """The gradients that are needed, as a function without a derivative of its own."""

    @staticmethod
    def forward(ctx, d_output, input, weight, windows, needs):
        d_output = with_rows(d_output)
        problem = _problem(input, weight, windows)
        problem.d_output = _view(d_output)
        gradients = []
        for like, needed, field, view in zip(
            (input, weight), needs, ("d_input", "d_weight"), (_view, _weight_view)
        ):
            if needed:
                gradients.append(fresh(Output(tuple(like.shape), dtype_name(like))))
                setattr(problem, field, view(gradients[-1]))
        _native.nsa_compress_backward(problem)
        return tuple(gradients)

    @staticmethod
    def backward(ctx, *gradients):
        raise NotImplementedError(
            "the gradient of a gradient of a compression is not computed; accepted are first derivatives"
        )


def _problem(input: Tensor, weight: Tensor, windows: _Windows) -> _native.NsaCompressProblem:
    problem = nsa.problem_of(dtype_name(input), tuple(input.shape), *windows)
    problem.input, problem.weight = _view(input), _weight_view(weight)
    return problem


def _view(tensor: Tensor) -> _native.View:
    return nsa.lay(tensor.data_ptr(), tensor.stride())


def _weight_view(tensor: Tensor) -> _native.View:
    return nsa.lay_weight(tensor.data_ptr(), tensor.stride())
