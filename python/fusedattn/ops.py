"""Torch operators fusedattn::forward and fusedattn::backward: define, fake, autograd; and the short way past.

Arguments of both, after their tensors, are those of problem.Terms. Tensors are in an unfolded layout:
q [B,N,Sq,D], k [B,Nk,Skv,D], v [B,Nk,Skv,Dv] for "BNSD", their permutations for "BSND" and "SBND", [T,N,D]
for "TND". mask: bool or uint8, broadcasting to [B,N,Sq,Skv] (packed: to [N, longest q, longest k], positions
local to a sequence). cu_seqlens_*: cumulative lengths with a leading 0, int32 or int64, for "TND" alone.
out has q's layout and Dv features; max and sum are float32 [B,N,Sq] (packed: [N,T]) and carry no gradient.
The optional last arguments are those of extras.Extras; bias and sink have gradients, slopes are constants.
"""

import reprlib

import torch

from . import derivatives, extras, tensors
from .extras import Extras
from .layout import AXES, stats_shape
from .numerals import integers
from .problem import Operand, Terms, check_both_ends, check_broadcast, check_dense, check_shapes

_TERMS = (
    "str layout, float scale, SymInt top_left_left, SymInt top_left_right, "
    "SymInt bottom_right_left, SymInt bottom_right_right, bool nonzero_hides"
)
_EXTRAS = (
    "Tensor? bias=None, Tensor? slopes=None, Tensor? sink=None, Tensor? prefix=None, Tensor? stream=None, "
    "bool alibi_bottom_right=True, bool alibi_square_root=False, float keep_prob=1.0, float softcap=0.0"
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
    f"{_TERMS}, {_EXTRAS}) -> (Tensor out, Tensor max, Tensor sum)"
)
_library.define(
    "backward(Tensor d_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor max, Tensor sum, Tensor? mask, "
    f"Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, {_TERMS}, bool[] needs, {_EXTRAS}) "
    "-> (Tensor dq, Tensor dk, Tensor dv, Tensor d_bias, Tensor d_sink)"
)


def attend(q, k, v, mask, cu_seqlens_q, cu_seqlens_k, terms: Terms, stats: bool = True, asked=None):
    """fusedattn::forward by the shortest way that is right: past the dispatcher where nobody looks on.

    cu_seqlens_*: lists are taken too. stats=False: max and sum may come back as None. asked: extras.read()'s.
    """
    if cu_seqlens_q is not None:
        cu_seqlens_q, cu_seqlens_k = _ends("cu_seqlens_q", cu_seqlens_q), _ends("cu_seqlens_k", cu_seqlens_k)
    if mask is not None and not isinstance(mask, torch.Tensor):
        raise TypeError(
            f"mask is a {type(mask).__name__}, {reprlib.repr(mask)}; accepted are a Mask, as causal() makes, and a torch tensor of bool or uint8"
        )
    if asked is not None:
        asked = _as_tensors(asked, q, terms.layout, cu_seqlens_q)
        return _attend_with_extras(q, k, v, (mask, cu_seqlens_q, cu_seqlens_k), terms, asked, stats)
    if not nobody_looks_on(q, k, v):
        _check_types(k=k, v=v)
        check_dense(q=q, k=k, v=v)
        return torch.ops.fusedattn.forward(q, k, v, mask, cu_seqlens_q, cu_seqlens_k, *terms)
    differentiable = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if torch.autograd.forward_ad._current_level >= 0:
        derivatives.refuse(q, k, v)
    if differentiable:
        extra = _NO_EXTRA if mask is None and cu_seqlens_q is None else (mask, cu_seqlens_q, cu_seqlens_k)
        output = _apply(q, k, v, extra, terms, stats)
        return output if stats else (output, None, None)
    return tensors.forward(q, k, v, mask, cu_seqlens_q, cu_seqlens_k, terms, None, stats)


def _attend_with_extras(q, k, v, held, terms: Terms, asked: Extras, stats: bool):
    """attend() of a call that has extras; held: (mask, cu_seqlens_q, cu_seqlens_k)."""
    given = [t for t in asked[:5] if t is not None]
    if not (nobody_looks_on(q, k, v) and all(map(is_ordinary, given))):
        _check_types(k=k, v=v)
        check_dense(q=q, k=k, v=v, bias=asked.bias, alibi=asked.slopes, sink=asked.sink)
        return torch.ops.fusedattn.forward(q, k, v, *held, *terms, *asked)
    leaves = [t for t in (q, k, v, asked.bias, asked.sink) if t is not None]
    if torch.autograd.forward_ad._current_level >= 0:
        derivatives.refuse(*leaves)
    if torch.is_grad_enabled() and any([t.requires_grad for t in leaves]):
        output = _AttentionWithExtras.apply(q, k, v, asked.bias, asked.sink, held, terms, asked, stats)
        return output if stats else (output, None, None)
    return tensors.forward(q, k, v, *held, terms, asked, stats)


def _as_tensors(asked: Extras, q, layout: str, cu_seqlens_q) -> Extras:
    """Extras as the operators take them: prefix and stream as tensors, a seed drawn where none is given."""
    for name, value in (("bias", asked.bias), ("alibi", asked.slopes), ("sink", asked.sink)):
        if value is not None:
            _check_types(**{name: value})
    if asked.slopes is not None and asked.slopes.requires_grad and torch.is_grad_enabled():
        raise NotImplementedError(_NO_GRADIENT_OF_SLOPES)
    prefix, stream = asked.prefix, asked.stream
    if prefix is stream is None and asked.keep_prob == 1.0:
        return asked
    if isinstance(prefix, int):
        axis = AXES[layout].batch
        if axis is None:  # what holds no ends is refused where they are read
            count = max(cu_seqlens_q.numel() - 1, 0)
        else:
            check_dense(q=q)
            count = q.shape[axis] if q.dim() > axis else 1
        prefix = torch.full((count,), prefix, dtype=torch.int64, device="cpu")
    elif prefix is not None:
        prefix = torch.tensor(prefix, dtype=torch.int64, device="cpu")
    if stream is not None:
        stream = torch.tensor(stream, dtype=torch.int64, device="cpu")
    elif asked.keep_prob != 1.0:
        seed = torch.randint(0, 2**63 - 1, (1,), device="cpu")
        stream = torch.cat((seed, torch.zeros_like(seed)))
    return asked._replace(prefix=prefix, stream=stream)


_NO_GRADIENT_OF_SLOPES = (
    "alibi requires grad, but a gradient of its slopes is not computed; accepted are constants, as"
    " slopes.detach()"
)


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


def nobody_looks_on(q, k, v) -> bool:
    """Whether these are ordinary CPU tensors and no compiler, tracer, dispatch mode or transform watches."""
    return (
        not torch.compiler.is_compiling()
        and _PLAIN.issuperset((type(q), type(k), type(v)))
        and (_holds_its_numbers(q) and _holds_its_numbers(k) and _holds_its_numbers(v))
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.maybe_current_level() is None
        and torch._C._get_tracing_state() is None
    )


def is_ordinary(tensor) -> bool:
    return type(tensor) in _PLAIN and _holds_its_numbers(tensor)


def _gradients(needs, d_out, saved, terms, asked=None):
    """(dq, dk, dv), with extras also d_bias and d_sink, None for each that is not needed.

    saved as fusedattn::backward takes it after d_out; as many needs as gradients.
    """
    if d_out is None:
        return (None,) * len(needs)
    short = type(d_out) is torch.Tensor and _holds_its_numbers(d_out) and not torch.is_grad_enabled()
    short = short and (asked is None or all(is_ordinary(t) for t in asked[:5] if t is not None))
    if not (short and nobody_looks_on(*saved[:3])):
        every = [*needs, False, False][:5]
        gradients = torch.ops.fusedattn.backward(d_out, *saved, *terms, every, *(asked or ()))
    else:
        gradients = tensors.backward(d_out, *saved, terms, needs, asked)
    return tuple(gradient if need else None for gradient, need in zip(gradients, needs))


class _Attention(torch.autograd.Function):
    """fusedattn::forward for eager tensors: the dispatcher's own autograd wrapper costs 80 µs more."""

    @staticmethod
    def forward(ctx, q, k, v, extra, terms, stats):
        """extra: (mask, cu_seqlens_q, cu_seqlens_k), one tuple because each argument and saved None costs."""
        output = tensors.forward(q, k, v, *extra, terms)
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


class _AttentionWithExtras(torch.autograd.Function):
    """The same with extras, whose bias and sink have gradients."""

    @staticmethod
    def forward(ctx, q, k, v, bias, sink, held, terms, asked, stats):
        output = tensors.forward(q, k, v, *held, terms, asked)
        ctx.save_for_backward(q, k, v, *output, *held, bias, asked.slopes, sink, *asked[3:5])
        ctx.terms, ctx.numbers = terms, asked[5:]
        ctx.set_materialize_grads(False)
        if not stats:
            return output[0]
        ctx.mark_non_differentiable(output[1], output[2])
        return output

    @staticmethod
    def backward(ctx, d_out, *_):
        saved = ctx.saved_tensors
        asked = Extras(*saved[9:], *ctx.numbers)
        gradients = _gradients(ctx.needs_input_grad[:5], d_out, saved[:9], ctx.terms, asked)
        return *gradients, None, None, None, None


_FIRST_EXTRA = 6 + len(Terms._fields)  # where the arguments of fusedattn::forward have the bias


def _save(ctx, inputs, output):
    q, k, v, mask, cu_seqlens_q, cu_seqlens_k, *terms = inputs[:_FIRST_EXTRA]
    asked = Extras(*inputs[_FIRST_EXTRA:])
    if asked.slopes is not None and asked.slopes.requires_grad:
        raise NotImplementedError(_NO_GRADIENT_OF_SLOPES)
    ctx.terms, ctx.numbers = terms, asked[5:]
    ctx.save_for_backward(q, k, v, *output, mask, cu_seqlens_q, cu_seqlens_k, *asked[:5])
    ctx.mark_non_differentiable(output[1], output[2])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, d_out, *_):
    """One gradient per argument of fusedattn::forward."""
    needs = (*ctx.needs_input_grad, *(False,) * len(Extras._fields))  # the dispatcher leaves defaults away
    needs = (*needs[:3], needs[_FIRST_EXTRA], needs[_FIRST_EXTRA + 2])
    saved = ctx.saved_tensors
    asked = Extras(*saved[9:], *ctx.numbers)
    dq, dk, dv, d_bias, d_sink = _gradients(needs, d_out, saved[:9], Terms(*ctx.terms), asked)
    rest = (None,) * (_FIRST_EXTRA - 3)
    return dq, dk, dv, *rest, d_bias, None, d_sink, *(None,) * (len(Extras._fields) - 3)


def _run_forward(q, k, v, mask, cu_seqlens_q, cu_seqlens_k, *numbers):
    terms, asked = _split(numbers)
    return tensors.forward(q, k, v, mask, cu_seqlens_q, cu_seqlens_k, terms, asked)


def _run_backward(d_out, q, k, v, out, row_max, row_sum, mask, cu_seqlens_q, cu_seqlens_k, *numbers):
    count = len(Terms._fields)
    terms, asked = _split((*numbers[:count], *numbers[count + 1 :]))
    needs = _checked_needs(numbers[count], asked)
    gradients = tensors.backward(
        d_out, q, k, v, out, row_max, row_sum, mask, cu_seqlens_q, cu_seqlens_k, terms, needs, asked
    )
    if asked is None:
        return *gradients, q.new_empty(0), q.new_empty(0)
    return tuple(g if g is not None else q.new_empty(0) for g in gradients)


def _split(numbers) -> tuple[Terms, Extras | None]:
    """Terms and extras of an operator's arguments after its tensors; None for extras that ask for nothing."""
    count = len(Terms._fields)
    asked = Extras(*numbers[count:])
    return Terms(*numbers[:count]), None if asked.ask_for_nothing() else asked


def _checked_needs(needs, asked: Extras | None) -> list[bool]:
    """Five, for q, k, v, bias, sink; the last two may be left out."""
    if len(needs) not in (3, 5):
        raise ValueError(f"needs has {len(needs)} entries; accepted are 3 (q, k, v) or 5 (and bias, sink)")
    for name, need in zip(("bias", "sink"), needs[3:]):
        if need and (asked is None or getattr(asked, name) is None):
            raise ValueError(f"needs asks for a gradient of {name}, which is None; accepted is False")
    return [*needs, False, False][:5]


def _check_devices(given: dict, integers: dict, asked: Extras | None) -> None:
    """Refuses tensors of several devices, which reach the fake kernels when one of them is meta.

    All must be where q is; integers may be on the CPU instead, where attention() makes them.
    """
    if asked is not None:
        given = dict(given, bias=asked.bias, alibi=asked.slopes, sink=asked.sink)
        integers = dict(integers, prefix=asked.prefix, dropout_seed=asked.stream)
    device = given["q"].device
    for name, tensor in {**given, **integers}.items():
        if tensor is None or tensor.device == device or (name in integers and tensor.is_cpu):
            continue
        raise ValueError(
            f"{name} is on device {tensor.device} and q on {device}; accepted is one device for all"
        )


def _fake_forward(q, k, v, mask, cu_seqlens_q, cu_seqlens_k, layout, *numbers):
    _, asked = _split((layout, *numbers))
    ends = dict(cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k)
    _check_devices(dict(q=q, k=k, v=v, mask=mask), ends, asked)
    operands = [Operand(tuple(t.shape), ()) for t in (q, k, v)]
    check_both_ends(cu_seqlens_q, cu_seqlens_k)
    for name, cu_seqlens in ends.items():
        if cu_seqlens is not None:
            tensors.check_ends_tensor(name, cu_seqlens)
    queries, keys, _ = check_shapes(layout, *operands, cu_seqlens_q is not None)
    scores = (*queries[:3], keys.rows)
    if mask is not None:
        check_broadcast("mask", layout, mask.shape, scores)
    if asked is not None:
        sequences = queries.batch if cu_seqlens_q is None else cu_seqlens_q.shape[0] - 1
        extras.check_shapes(layout, asked, scores, sequences)
    statistics = stats_shape(layout, q.shape)
    out = q.new_empty((*q.shape[:-1], v.shape[-1]))
    return out, q.new_empty(statistics, dtype=torch.float32), q.new_empty(statistics, dtype=torch.float32)


def _fake_backward(d_out, q, k, v, out, row_max, row_sum, mask, cu_seqlens_q, cu_seqlens_k, *numbers):
    count = len(Terms._fields)
    _, asked = _split((*numbers[:count], *numbers[count + 1 :]))
    given = dict(q=q, k=k, v=v, d_out=d_out, out=out, max=row_max, sum=row_sum, mask=mask)
    _check_devices(given, dict(cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k), asked)
    needs = _checked_needs(numbers[count], asked)
    shaped = (q, k, v, asked and asked.bias, asked and asked.sink)
    return tuple(t.new_empty(t.shape) if need else q.new_empty(0) for t, need in zip(shaped, needs))


def _refuse_second_derivative(ctx, *_gradients):
    raise NotImplementedError(
        "fusedattn::backward has no derivative: second derivatives of attention are not computed; "
        "accepted are first derivatives (leave create_graph=True out, or detach the gradients)"
    )


_library.impl("forward", _run_forward, "CPU")
_library.impl("backward", _run_backward, "CPU")
torch.library.register_fake("fusedattn::forward", _fake_forward, lib=_library)
torch.library.register_fake("fusedattn::backward", _fake_backward, lib=_library)
torch.library.register_autograd("fusedattn::forward", _differentiate, setup_context=_save, lib=_library)
torch.library.register_autograd("fusedattn::backward", _refuse_second_derivative, lib=_library)
