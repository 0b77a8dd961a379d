"""Torch operators fusedattn::npu_score and npu_score_grad: define, fake, autograd; the short way past them.

npu_score(inputs of Inputs, actual_seq_qlen, actual_seq_kvlen, seed, offset, terms of Terms) gives
attention_out, softmax_max, softmax_sum, seed, offset. The sequence ends, seed and offset are int64 tensors;
without a seed, one is drawn where dropout needs it. npu_score_grad takes the same and, behind the inputs, dy,
softmax_max, softmax_sum, attention_in; at the end `needs` of dq, dk, dv. It gives dq, dk, dv, dq_rope,
dk_rope, dsink, empty where there is none.
"""

import torch

from .. import derivatives
from . import torch_npu_arguments as arguments
from . import torch_npu_score as score
from .ascend import dropout_bits
from .ascend.facts import LANES
from .torch_npu_score import Ends, Inputs, Saved, Terms

_INPUTS = (
    "Tensor query, Tensor key, Tensor value, Tensor? query_rope, Tensor? key_rope, Tensor? real_shift, "
    "Tensor? drop_mask, Tensor? atten_mask, Tensor? sink"
)
_SAVED = "Tensor dy, Tensor? softmax_max, Tensor? softmax_sum, Tensor? attention_in"
_LENGTHS = "Tensor? actual_seq_qlen, Tensor? actual_seq_kvlen, Tensor? seed, Tensor? offset"
_TERMS = (
    "SymInt head_num, str input_layout, float scale_value, float keep_prob, SymInt pre_tockens, "
    "SymInt next_tockens, SymInt inner_precise, int sparse_mode, int pse_type, str softmax_layout, "
    "SymInt[]? prefix, SymInt[]? q_start_idx, SymInt[]? kv_start_idx, bool drop_always, int version"
)
_library = torch.library.Library("fusedattn", "FRAGMENT")
_library.define(
    f"npu_score({_INPUTS}, {_LENGTHS}, {_TERMS}) -> (Tensor attention_out, Tensor softmax_max, "
    "Tensor softmax_sum, Tensor seed, Tensor offset)",
    tags=(torch.Tag.nondeterministic_seeded,),
)
_library.define(
    f"npu_score_grad({_INPUTS}, {_SAVED}, {_LENGTHS}, {_TERMS}, bool[] needs) -> (Tensor dq, Tensor dk, "
    "Tensor dv, Tensor dq_rope, Tensor dk_rope, Tensor dsink)"
)
_library.define(
    "npu_dropout_bits(Tensor like, SymInt count, float keep_prob, SymInt seed, SymInt offset) -> Tensor"
)

_INTEGERS = frozenset((torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8))
_COUNT = len(Inputs._fields)
_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter, type(None)))


def draw_seed(device) -> torch.Tensor:
    """int64 [1]: one draw from torch's default generator, which torch.manual_seed governs, and torch.vmap."""
    return torch.randint(0, 2**63 - 1, (1,), device=device)


def int64(given, device):
    """An integer or several as an int64 tensor; a tensor and None as they are."""
    if given is None or isinstance(given, torch.Tensor):
        return given
    return torch.tensor([given] if isinstance(given, int) else given, dtype=torch.int64, device=device)


def drops(inputs: Inputs, terms: Terms) -> bool:
    """Whether dropout bits are generated."""
    return terms.keep_prob < 1 and inputs.drop_mask is None


def nobody_looks_on(tensors) -> bool:
    """Whether nobody watches and CPU memory holds these tensors' very numbers."""
    return nobody_watches(tensors) and all(
        t is None or (t.is_cpu and not t.is_neg() and not t._is_zerotensor()) for t in tensors
    )


def nobody_watches(tensors) -> bool:
    """Whether these are ordinary tensors and no compiler, tracer, dispatch mode or transform watches."""
    return (
        not torch.compiler.is_compiling()
        and _PLAIN.issuperset(map(type, tensors))
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.maybe_current_level() is None
        and torch._C._get_tracing_state() is None
        and torch.autograd.forward_ad._current_level < 0
    )


def watched_forward(inputs: Inputs, lengths, terms: Terms, seed, offset):
    """npu_score with whoever looks on; lengths, seed and offset are tensors or None."""
    if not torch.compiler.is_compiling():
        derivatives.refuse(*(t for t in inputs if t is not None))
    return torch.ops.fusedattn.npu_score(*inputs, *lengths, seed, offset, *terms)


def eager_forward(inputs: Inputs, ends: Ends, terms: Terms, seed: int, offset: int):
    """(attention_out, softmax_max, softmax_sum) of ordinary tensors, differentiable where grad is enabled."""
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        return _Score.apply(*inputs, ends, terms, seed, offset)
    return score.forward(inputs, ends, terms, seed, offset)


class _Score(torch.autograd.Function):
    """npu_score for ordinary tensors, without the dispatcher."""

    @staticmethod
    def forward(ctx, *given):
        inputs, (ends, terms, seed, offset) = Inputs(*given[:_COUNT]), given[_COUNT:]
        output = score.forward(inputs, ends, terms, seed, offset)
        ctx.save_for_backward(*inputs, *output)
        ctx.words = ends, terms, seed, offset
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        return output

    @staticmethod
    def backward(ctx, dy, *_):
        if dy is None:
            return (None,) * (_COUNT + 4)
        if torch.is_grad_enabled():
            _refuse_second_derivative()
        kept = ctx.saved_tensors  # read once: checkpoints give them once
        inputs, (out, row_max, row_sum) = Inputs(*kept[:_COUNT]), kept[_COUNT:]
        saved = Saved(dy, row_max, row_sum, out)
        ends, terms, *stream = ctx.words
        if nobody_looks_on((dy,)):
            gradients = score.backward(inputs, saved, ends, terms, _needs(ctx), *stream)
        else:
            numbers = (int64(n, dy.device) for n in (*ends, *stream))
            gradients = torch.ops.fusedattn.npu_score_grad(*inputs, *saved, *numbers, *terms, _needs(ctx))
        return *_placed(ctx, inputs, gradients), None, None, None, None


def _needs(ctx) -> list[bool]:
    """Which of dq, dk, dv are wanted: those of the rotary parts come with them."""
    query, key, value, query_rope, key_rope, *_ = ctx.needs_input_grad
    return [query or query_rope, key or key_rope, value]


def _placed(ctx, inputs: Inputs, gradients) -> tuple:
    """One gradient per input; that of real_shift is zeros, as the operator has it."""
    dq, dk, dv, dq_rope, dk_rope, dsink = gradients
    shift = inputs.real_shift
    dpse = torch.zeros_like(shift) if shift is not None and shift.requires_grad else None
    every = dq, dk, dv, dq_rope, dk_rope, dpse, None, None, dsink
    return tuple(gradient if need else None for gradient, need in zip(every, ctx.needs_input_grad))


def _read(given, saved_count: int = 0):
    """(inputs, saved, ends, seed, offset, terms, the rest) of an operator's arguments."""
    inputs, rest = Inputs(*given[:_COUNT]), given[_COUNT:]
    saved, rest = rest[:saved_count], rest[saved_count:]
    _check_lengths(rest[:2])
    ends = Ends(*(None if t is None else tuple(t.tolist()) for t in rest[:2]))
    seed, offset = (None if t is None else int(t) for t in rest[2:4])
    terms, rest = rest[4 : 4 + len(Terms._fields)], rest[4 + len(Terms._fields) :]
    return (
        inputs,
        saved,
        ends,
        seed,
        offset,
        Terms(*(tuple(t) if isinstance(t, list) else t for t in terms)),
        rest,
    )


def _run_forward(*given):
    inputs, _, ends, seed, offset, terms, _ = _read(given)
    if seed is None:
        seed = int(draw_seed("cpu")) if drops(inputs, terms) else 0
    offset = offset or 0
    out = score.forward(inputs, ends, terms, seed, offset)
    return *out, int64(seed, "cpu"), int64(offset, "cpu")


def _run_backward(*given):
    inputs, saved, ends, seed, offset, terms, (needs,) = _read(given, len(Saved._fields))
    gradients = score.backward(inputs, Saved(*saved), ends, terms, needs, seed or 0, offset or 0)
    return tuple(inputs.query.new_empty(0) if gradient is None else gradient for gradient in gradients)


def _check_lengths(lengths) -> None:
    for name, ends in zip(Ends._fields, lengths):
        if ends is not None and (ends.dim() != 1 or ends.dtype not in _INTEGERS):
            raise RuntimeError(
                f"{name} has shape {list(ends.shape)} and dtype {ends.dtype}; accepted: integers in one"
                " dimension"
            )


def _check_fake(inputs: Inputs, saved: Saved | None, numbers, terms) -> Terms:
    """Checks all that is known before numbers are; the terms. With one tensor on meta the call comes here."""
    numbers = dict(zip((*Ends._fields, "seed", "offset"), numbers))
    tensors = inputs._asdict() | (saved._asdict() if saved else {}) | numbers
    arguments.check_tensors("fusedattn::npu_score", {}, tensors)
    lengths = [numbers[name] for name in Ends._fields]
    _check_lengths(lengths)
    terms = Terms(*(tuple(t) if isinstance(t, list) else t for t in terms))
    score.check_shapes(inputs, saved, lengths, terms)
    return terms


def _fake_forward(*given):
    inputs = Inputs(*given[:_COUNT])
    terms = _check_fake(inputs, None, given[_COUNT : _COUNT + 4], given[_COUNT + 4 :])
    query, layout = inputs.query, terms.input_layout
    if query.dim() != len(layout):
        raise RuntimeError(
            f"query has shape {list(query.shape)}; accepted with {layout}: {len(layout)} dimensions"
        )
    out = query.new_empty(_out_shape(inputs, terms))
    shape = query.shape
    if layout == "TND":
        rows = shape[0], shape[1]
    else:
        places = {"BSH": (0, None, 1), "SBH": (1, None, 0), "BSND": (0, 2, 1), "BNSD": (0, 1, 2)}[layout]
        rows = tuple(terms.head_num if axis is None else shape[axis] for axis in places)
    row_max, row_sum = (query.new_empty((*rows, LANES), dtype=torch.float32) for _ in range(2))
    seed, offset = (torch.empty(1, dtype=torch.int64, device=query.device) for _ in range(2))
    return out, row_max, row_sum, seed, offset


def _out_shape(inputs: Inputs, terms: Terms) -> tuple:
    query, key, value = inputs[:3]
    if terms.input_layout not in ("BSH", "SBH"):
        return (*query.shape[:-1], value.shape[-1])
    dim = query.shape[-1] // terms.head_num
    return (*query.shape[:-1], value.shape[-1] // (key.shape[-1] // dim) * terms.head_num)


def _fake_backward(*given):
    inputs, saved, needs = Inputs(*given[:_COUNT]), Saved(*given[_COUNT : _COUNT + 4]), given[-1]
    _check_fake(inputs, saved, given[_COUNT + 4 : _COUNT + 8], given[_COUNT + 8 : -1])
    ropes = (inputs.query_rope, inputs.key_rope)
    wanted = [t if need else None for t, need in zip((*inputs[:3], *ropes), (*needs, *needs[:2]))]
    return tuple(
        inputs.query.new_empty(0) if t is None else t.new_empty(t.shape) for t in (*wanted, inputs.sink)
    )


def _save(ctx, inputs, output):
    out, row_max, row_sum, seed, offset = output
    ends = inputs[_COUNT : _COUNT + 2]
    ctx.terms = inputs[_COUNT + 4 :]
    ctx.save_for_backward(*inputs[:_COUNT], row_max, row_sum, out, *ends, seed, offset)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, dy, *_):
    rest = (None,) * (4 + len(ctx.terms))
    if dy is None:
        return *(None,) * _COUNT, *rest
    kept = ctx.saved_tensors
    inputs, saved = Inputs(*kept[:_COUNT]), kept[_COUNT:]
    gradients = torch.ops.fusedattn.npu_score_grad(
        *inputs, dy, *saved[:3], *saved[3:], *ctx.terms, _needs(ctx)
    )
    return *_placed(ctx, inputs, gradients), *rest


def _refuse_second_derivative(*_):
    raise NotImplementedError(
        "second derivatives of attention are not computed; accepted: first ones (no create_graph=True)"
    )


def _run_bits(like, count: int, keep_prob: float, seed: int, offset: int):
    bits = like.new_zeros((count + 127) // 128 * 16, dtype=torch.uint8)
    if keep_prob == 1:
        bits[: (count + 7) // 8] = 255
    elif keep_prob > 0 and count:
        dropout_bits(bits.data_ptr(), count, keep_prob, seed, offset)
    return bits


def _fake_bits(like, count, keep_prob, seed, offset):
    return like.new_empty((count + 127) // 128 * 16, dtype=torch.uint8)


_library.impl("npu_score", _run_forward, "CPU")
_library.impl("npu_score_grad", _run_backward, "CPU")
_library.impl("npu_dropout_bits", _run_bits, "CPU")
torch.library.register_fake("fusedattn::npu_score", _fake_forward, lib=_library)
torch.library.register_fake("fusedattn::npu_score_grad", _fake_backward, lib=_library)
torch.library.register_fake("fusedattn::npu_dropout_bits", _fake_bits, lib=_library)
torch.library.register_autograd("fusedattn::npu_score", _differentiate, setup_context=_save, lib=_library)
torch.library.register_autograd("fusedattn::npu_score_grad", _refuse_second_derivative, lib=_library)
