"""Torch operators fusedattn::forward and fusedattn::backward: define, fake, autograd; and the short way past.

Arguments of both, after their tensors, are those of problem.Terms. Tensors are in an unfolded layout:
q [B,N,Sq,D], k [B,Nk,Skv,D], v [B,Nk,Skv,Dv] for "BNSD", their permutations for "BSND" and "SBND", [T,N,D]
for "TND". mask: bool or uint8, broadcasting to [B,N,Sq,Skv] (packed: to [N, longest q, longest k], positions
local to a sequence). cu_seqlens_*: cumulative lengths with a leading 0, int32 or int64, for "TND" alone.
out has q's layout and Dv features; max and sum are float32 [B,N,Sq] (packed: [N,T]) and carry no gradient.
"""

import torch

from . import derivatives, tensors
from .layout import stats_shape
from .numerals import integers
from .problem import Operand, Terms, check_both_ends, check_mask_shape, check_shapes

_TERMS = (
    "str layout, float scale, SymInt top_left_left, SymInt top_left_right, "
    "SymInt bottom_right_left, SymInt bottom_right_right, bool nonzero_hides"
)


class _Library(torch.library.Library):
    """Refuses derivatives that are not computed in front of the autograd kernel, which sees them all."""

    def impl(self, op_name, fn, dispatch_key="", **more):
        if dispatch_key == "Autograd" and op_name == "forward":
            return super().impl(op_name, derivatives.refusing(fn), dispatch_key, **more)
        return super().impl(op_name, fn, dispatch_key, **more)


_library = _Library("fusedattn", "DEF")
_library.define(
    "forward(Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, "
    f"{_TERMS}) -> (Tensor out, Tensor max, Tensor sum)"
)
_library.define(
    "backward(Tensor d_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor max, Tensor sum, Tensor? mask, "
    f"Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, {_TERMS}, bool[] needs) "
    "-> (Tensor dq, Tensor dk, Tensor dv)"
)


def attend(q, k, v, mask, cu_seqlens_q, cu_seqlens_k, terms: Terms, stats: bool = True):
    """fusedattn::forward by the shortest way that is right: past the dispatcher where nobody looks on.

    cu_seqlens_*: lists are taken too. stats=False: max and sum may come back as None.
    """
    if cu_seqlens_q is not None:
        cu_seqlens_q, cu_seqlens_k = _ends("cu_seqlens_q", cu_seqlens_q), _ends("cu_seqlens_k", cu_seqlens_k)
    if mask is not None and not isinstance(mask, torch.Tensor):
        raise TypeError(f"mask is a {type(mask).__name__}; accepted are a Mask and a bool torch tensor")
    if not _nobody_looks_on(q, k, v):
        _check_types(k=k, v=v)
        return torch.ops.fusedattn.forward(q, k, v, mask, cu_seqlens_q, cu_seqlens_k, *terms)
    differentiable = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if torch.autograd.forward_ad._current_level >= 0:
        derivatives.refuse(q, k, v)
    if differentiable:
        extra = _NO_EXTRA if mask is None and cu_seqlens_q is None else (mask, cu_seqlens_q, cu_seqlens_k)
        output = _apply(q, k, v, extra, terms, stats)
        return output if stats else (output, None, None)
    return tensors.forward(q, k, v, mask, cu_seqlens_q, cu_seqlens_k, *terms, stats=stats)


def _ends(name: str, lengths):
    if isinstance(lengths, torch.Tensor):
        return lengths
    return torch.tensor(integers(name, lengths), dtype=torch.int64, device="cpu")


def _check_types(**given) -> None:
    for name, value in given.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name} is a {type(value).__name__}; accepted is a torch tensor, as q is")


_NO_EXTRA = (None, None, None)
_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter))


def _holds_its_numbers(tensor) -> bool:
    """Whether CPU memory holds the very numbers: neither negated when read nor zeros without memory."""
    return tensor.is_cpu and not (tensor.is_neg() or tensor._is_zerotensor())


def _nobody_looks_on(q, k, v) -> bool:
    """Whether these are ordinary CPU tensors and no compiler, tracer, dispatch mode or transform watches."""
    return (
        not torch.compiler.is_compiling()
        and _PLAIN.issuperset((type(q), type(k), type(v)))
        and (_holds_its_numbers(q) and _holds_its_numbers(k) and _holds_its_numbers(v))
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.maybe_current_level() is None
        and torch._C._get_tracing_state() is None
    )


def _gradients(needs, d_out, saved, terms):
    """(dq, dk, dv), None for each that is not needed; saved as fusedattn::backward takes it after d_out."""
    if d_out is None:
        return None, None, None
    short = type(d_out) is torch.Tensor and _holds_its_numbers(d_out) and not torch.is_grad_enabled()
    if not (short and _nobody_looks_on(*saved[:3])):
        gradients = torch.ops.fusedattn.backward(d_out, *saved, *terms, list(needs))
    else:
        gradients = tensors.backward(d_out, *saved, *terms, needs=needs)
    return tuple(gradient if need else None for gradient, need in zip(gradients, needs))


class _Attention(torch.autograd.Function):
    """fusedattn::forward for eager tensors: the dispatcher's own autograd wrapper costs 80 µs more."""

    @staticmethod
    def forward(ctx, q, k, v, extra, terms, stats):
        """extra: (mask, cu_seqlens_q, cu_seqlens_k), one tuple because each argument and saved None costs."""
        output = tensors.forward(q, k, v, *extra, *terms)
        ctx.save_for_backward(q, k, v, *output, *(extra if extra is not _NO_EXTRA else ()))
        ctx.terms = terms
        ctx.set_materialize_grads(False)
        if not stats:
            return output[0]
        ctx.mark_non_differentiable(output[1], output[2])
        return output

    @staticmethod
    def backward(ctx, d_out, *_):
        saved = ctx.saved_tensors
        if len(saved) == 6:
            saved += _NO_EXTRA
        return *_gradients(ctx.needs_input_grad[:3], d_out, saved, ctx.terms), None, None, None


# Function.apply without its preparation for function transforms, which attend() has ruled out: 5 µs less.
_apply = super(torch.autograd.Function, _Attention).apply


def _save(ctx, inputs, output):
    q, k, v, mask, cu_seqlens_q, cu_seqlens_k, *ctx.terms = inputs
    ctx.save_for_backward(q, k, v, *output, mask, cu_seqlens_q, cu_seqlens_k)
    ctx.mark_non_differentiable(output[1], output[2])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, d_out, *_):
    """One gradient per argument of fusedattn::forward."""
    rest = (None,) * (3 + len(ctx.terms))
    return *_gradients(ctx.needs_input_grad[:3], d_out, ctx.saved_tensors, ctx.terms), *rest


def _run_backward(d_out, q, k, v, out, row_max, row_sum, mask, cu_seqlens_q, cu_seqlens_k, *terms_and_needs):
    *terms, needs = terms_and_needs
    return tensors.backward(
        d_out, q, k, v, out, row_max, row_sum, mask, cu_seqlens_q, cu_seqlens_k, *terms, needs=needs
    )


def _check_devices(q, **others) -> None:
    """Tensors of several devices reach the fake kernels when one of them is meta."""
    for name, tensor in others.items():
        if tensor is not None and tensor.device != q.device:
            raise ValueError(f"{name} is on device {tensor.device} and q on {q.device}; accepted is one device for all")


def _fake_forward(q, k, v, mask, cu_seqlens_q, cu_seqlens_k, layout, *_terms):
    _check_devices(q, k=k, v=v, mask=mask)
    operands = [Operand(tuple(t.shape), ()) for t in (q, k, v)]
    check_both_ends(cu_seqlens_q, cu_seqlens_k)
    queries, keys, _ = check_shapes(layout, *operands, cu_seqlens_q is not None)
    if mask is not None:
        check_mask_shape(layout, mask.shape, (*queries[:3], keys.rows))
    statistics = stats_shape(layout, q.shape)
    out = q.new_empty((*q.shape[:-1], v.shape[-1]))
    return out, q.new_empty(statistics, dtype=torch.float32), q.new_empty(statistics, dtype=torch.float32)


def _fake_backward(d_out, q, k, v, *rest):
    _check_devices(q, k=k, v=v, d_out=d_out)
    return tuple(t.new_empty(t.shape if need else 0) for t, need in zip((q, k, v), rest[-1]))


def _refuse_second_derivative(ctx, *_gradients):
    raise NotImplementedError(
        "fusedattn::backward has no derivative: second derivatives of attention are not computed; "
        "accepted are first derivatives (leave create_graph=True out, or detach the gradients)"
    )


_library.impl("forward", tensors.forward, "CPU")
_library.impl("backward", _run_backward, "CPU")
torch.library.register_fake("fusedattn::forward", _fake_forward, lib=_library)
torch.library.register_fake("fusedattn::backward", _fake_backward, lib=_library)
torch.library.register_autograd("fusedattn::forward", _differentiate, setup_context=_save, lib=_library)
torch.library.register_autograd("fusedattn::backward", _refuse_second_derivative, lib=_library)
