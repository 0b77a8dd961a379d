"""Torch operators fusedattn::nsa_compress and fusedattn::nsa_compress_backward: define, run, fake, autograd.

input [T, N, D], weight [block, N], output and d_output [windows, N, D]; ends: cumulative lengths, None for
one sequence. Arguments as nsa.nsa_compress() has them.
"""

import torch

from . import _native, derivatives, nsa
from .problem import announce_copy, check_dense

_TERMS = "int[]? ends, int block, int stride"


class _Library(torch.library.Library):
    """Refuses derivatives that are not computed in front of the autograd kernel, which sees them all."""

    def impl(self, op_name, fn, dispatch_key="", **more):
        if dispatch_key == "Autograd" and op_name == "nsa_compress":
            return super().impl(op_name, derivatives.refusing(fn), dispatch_key, **more)
        return super().impl(op_name, fn, dispatch_key, **more)


_library = _Library("fusedattn", "FRAGMENT")
_library.define(f"nsa_compress(Tensor input, Tensor weight, {_TERMS}) -> Tensor")
_library.define(
    f"nsa_compress_backward(Tensor d_output, Tensor input, Tensor weight, {_TERMS}, bool[] needs) "
    "-> (Tensor d_input, Tensor d_weight)"
)


def compress(input, weight, ends, block, stride):
    """fusedattn::nsa_compress, once weight is a tensor."""
    if not isinstance(weight, torch.Tensor):
        raise TypeError(f"weight is a {type(weight).__name__}; accepted is a torch tensor, as input is")
    _check_kinds({"input": input, "weight": weight})
    return torch.ops.fusedattn.nsa_compress(input, weight, ends, block, stride)


def backward(d_output, input, weight, ends, block, stride, needs=(True, True)):
    """(d_input, d_weight), shaped as input and weight; an empty [0] for each that needs does not ask for."""
    return torch.ops.fusedattn.nsa_compress_backward(
        d_output, input, weight, ends, block, stride, list(needs)
    )


def _name(dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_kinds(tensors: dict) -> None:
    """Refuses what differs in device or dtype, or is not dense: the dispatcher would not bring it here."""
    input = tensors["input"]
    check_dense(**tensors)
    for name, tensor in tensors.items():
        if tensor.device != input.device:
            raise ValueError(f"{name} is on device {tensor.device}; accepted is input's, {input.device}")
        if _name(tensor.dtype) not in nsa.DTYPES:
            raise ValueError(f"{name} has dtype {_name(tensor.dtype)}; accepted are {', '.join(nsa.DTYPES)}")
        if tensor.dtype != input.dtype:
            raise ValueError(
                f"{name} has dtype {_name(tensor.dtype)}; accepted is input's dtype, {_name(input.dtype)}"
            )


def _check(tensors: dict, ends, block: int, stride: int) -> None:
    _check_kinds(tensors)
    input = tensors["input"]
    nsa.check(input.shape, tensors["weight"].shape, ends, block, stride)
    d_output = tensors.get("d_output")
    if d_output is not None:
        wanted = _output_shape(input, ends, block, stride)
        if tuple(d_output.shape) != wanted:
            raise ValueError(
                f"d_output has shape {tuple(d_output.shape)}; accepted is {wanted}, as the output"
            )


def _output_shape(input, ends, block: int, stride: int) -> tuple[int, ...]:
    return (nsa.windows(input.shape[0], ends, block, stride), *input.shape[1:])


def _with_rows(name: str, tensor):
    """The tensor, copied if its last dimension is not contiguous."""
    if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1:
        return tensor
    announce_copy(name, tensor.shape, tensor.stride(-1), tensor.element_size())
    return tensor.contiguous()


def _view(tensor):
    return nsa.lay(tensor.data_ptr(), tensor.stride())


def _run(input, weight, ends, block, stride):
    _check({"input": input, "weight": weight}, ends, block, stride)
    input = _with_rows("input", input)
    output = input.new_empty(_output_shape(input, ends, block, stride))
    problem = nsa.problem_of(_name(input.dtype), input.shape, ends, block, stride)
    problem.input, problem.output = _view(input), _view(output)
    problem.weight = nsa.lay_weight(weight.data_ptr(), weight.stride())
    _native.nsa_compress_forward(problem)
    return output


def _run_backward(d_output, input, weight, ends, block, stride, needs):
    _check({"d_output": d_output, "input": input, "weight": weight}, ends, block, stride)
    d_output, input = _with_rows("d_output", d_output), _with_rows("input", input)
    d_input, d_weight = _fake_backward(d_output, input, weight, ends, block, stride, needs)
    problem = nsa.problem_of(_name(input.dtype), input.shape, ends, block, stride)
    problem.input, problem.d_output = _view(input), _view(d_output)
    problem.weight = nsa.lay_weight(weight.data_ptr(), weight.stride())
    if needs[0]:
        problem.d_input = _view(d_input)
    if needs[1]:
        problem.d_weight = nsa.lay_weight(d_weight.data_ptr(), d_weight.stride())
    _native.nsa_compress_backward(problem)
    return d_input, d_weight


def _fake(input, weight, ends, block, stride):
    _check({"input": input, "weight": weight}, ends, block, stride)
    return input.new_empty(_output_shape(input, ends, block, stride))


def _fake_backward(d_output, input, weight, ends, block, stride, needs):
    _check({"d_output": d_output, "input": input, "weight": weight}, ends, block, stride)
    return tuple(t.new_empty(t.shape if need else 0) for t, need in zip((input, weight), needs))


def _save(ctx, inputs, output):
    input, weight, *ctx.terms = inputs
    ctx.save_for_backward(input, weight)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, d_output):
    """One gradient per argument of fusedattn::nsa_compress."""
    if d_output is None:
        return (None,) * 5
    needs = ctx.needs_input_grad[:2]
    gradients = backward(d_output, *ctx.saved_tensors, *ctx.terms, needs=needs)
    return *(gradient if need else None for gradient, need in zip(gradients, needs)), None, None, None


def _refuse_second_derivative(ctx, *_gradients):
    raise NotImplementedError(
        "fusedattn::nsa_compress_backward has no derivative: second derivatives of a compression are not"
        " computed; accepted are first derivatives (leave create_graph=True out, or detach the gradients)"
    )


_library.impl("nsa_compress", _run, "CPU")
_library.impl("nsa_compress_backward", _run_backward, "CPU")
torch.library.register_fake("fusedattn::nsa_compress", _fake, lib=_library)
torch.library.register_fake("fusedattn::nsa_compress_backward", _fake_backward, lib=_library)
torch.library.register_autograd("fusedattn::nsa_compress", _differentiate, setup_context=_save, lib=_library)
torch.library.register_autograd("fusedattn::nsa_compress_backward", _refuse_second_derivative, lib=_library)
