"""mindspore.ops.flash_attention_score, and the differentiable call behind it and speed_fusion_attention."""

from typing import NamedTuple

from mindspore import Tensor
from mindspore.common import _Function

from ..ascend import BackwardPlan, ForwardPlan, Request
from .rules_arguments import LISTS, Arguments
from .table import check_arguments, gradient_plan, planned
from .tensors import addresses, fresh, host_integers, operand, readable

_DIFFERENTIABLE = ("query", "key", "value", "real_shift")
_OTHERS = ("drop_mask", "atten_mask")
_GRADIENTS = ("dq", "dk", "dv")


def flash_attention_score(
    query,
    key,
    value,
    head_num,
    real_shift=None,
    drop_mask=None,
    padding_mask=None,
    attn_mask=None,
    prefix=None,
    actual_seq_qlen=None,
    actual_seq_kvlen=None,
    keep_prob=1.0,
    scalar_value=1.0,
    pre_tokens=2147483647,
    next_tokens=2147483647,
    inner_precise=0,
    input_layout="BSH",
    sparse_mode=0,
    *,
    scale_value=None,
):
    """Attention as `mindspore.ops.flash_attention_score` computes it, on CPU tensors.

    query, key, value: float16, bfloat16 or float32, of shapes by input_layout: BSH [B,S,N*D], SBH [S,B,N*D],
    BNSD [B,N,S,D], BSND [B,S,N,D], TND [T,N,D] with cumulative actual_seq_qlen and actual_seq_kvlen.
    The scores are scalar_value * (query . key + real_shift); scale_value is another name of scalar_value.
    Where attn_mask (bool or uint8) is 1, or the rule of sparse_mode 2, 3 or 4 says so, a score is hidden. The
    bits of drop_mask, lowest first, keep a weight where they are 1; it is divided by keep_prob.
    Returns attention_out, of query's shape and dtype. Differentiable in query, key and value; the gradient of
    real_shift is zeros. TypeError, ValueError and RuntimeError as docs/operators/mindspore.md lists them.
    """
    arguments = Arguments(
        "mindspore",
        query=query,
        key=key,
        value=value,
        head_num=head_num,
        real_shift=real_shift,
        drop_mask=drop_mask,
        padding_mask=padding_mask,
        atten_mask=attn_mask,
        prefix=prefix,
        actual_seq_qlen=actual_seq_qlen,
        actual_seq_kvlen=actual_seq_kvlen,
        keep_prob=keep_prob,
        scale_value=_one_scale(scalar_value, scale_value),
        pre_tockens=pre_tokens,
        next_tockens=next_tokens,
        inner_precise=inner_precise,
        input_layout=input_layout,
        sparse_mode=sparse_mode,
    )
    return attend(arguments).attention_out


class Result(NamedTuple):
    """What a call gives, numels being the number of its scores."""

    attention_out: Tensor
    softmax_max: Tensor
    softmax_sum: Tensor
    numels: int


def attend(arguments: Arguments, seed: int = 0, offset: int = 0, generate: bool = False) -> Result:
    """Checks and computes a call of either attention function."""
    check_arguments(arguments)
    tensors = {
        name: readable(name, arguments[name])
        for name in (*_DIFFERENTIABLE, *_OTHERS)
        if arguments.get(name) is not None
    }
    request = _request(arguments, tensors, generate)
    others = {name: tensors[name] for name in _OTHERS if name in tensors}
    call = _Call(request, planned(request), others, seed, offset)
    outputs = _Attention.apply(*(tensors.get(name) for name in _DIFFERENTIABLE), call)
    return Result(*outputs, call.plan.numels)


class _Call(NamedTuple):
    """All of a call but the tensors that may have gradients."""

    request: Request
    plan: ForwardPlan
    others: dict[str, Tensor]
    seed: int
    offset: int


class _Attention(_Function):
    """query, key, value, real_shift or None, _Call -> attention_out, softmax_max, softmax_sum."""

    @staticmethod
    def forward(ctx, query, key, value, real_shift, call):
        outputs = {name: fresh(output) for name, output in call.plan.outputs.items()}
        _run(call.plan, call, _named(query, key, value, real_shift), outputs)
        out, softmax_max, softmax_sum = (
            outputs[name] for name in ("attention_out", "softmax_max", "softmax_sum")
        )
        ctx.call = call
        ctx.save_for_backward(query, key, value, real_shift, out, softmax_max, softmax_sum)
        ctx.mark_non_differentiable(softmax_max, softmax_sum)
        return out, softmax_max, softmax_sum

    @staticmethod
    def backward(ctx, dy, *statistics):
        needs = tuple(bool(needed) for needed in ctx.needs_input_grad[:3])
        nothing = (None,) * 5
        if not any(needs):
            return nothing
        found = iter(_Gradients.apply(dy, *ctx.saved_tensors, ctx.call, needs))
        return (*(next(found) if needed else None for needed in needs), *nothing[3:])


class _Gradients(_Function):
    """The gradients that are needed, as a function without a derivative of its own."""

    @staticmethod
    def forward(ctx, dy, query, key, value, real_shift, out, softmax_max, softmax_sum, call, needs):
        tensors = _named(query, key, value, real_shift)
        saved = {"dy": dy, "attention_in": out, "softmax_max": softmax_max, "softmax_sum": softmax_sum}
        tensors |= {name: readable(name, tensor) for name, tensor in saved.items()}
        request = call.request._replace(needs=needs, **{name: operand(tensors[name]) for name in saved})
        plan = gradient_plan(request)
        wanted = [name for name, needed in zip(_GRADIENTS, needs) if needed]
        outputs = {name: fresh(plan.outputs[name]) for name in wanted}
        _run(plan, call, tensors, outputs)
        return tuple(outputs[name] for name in wanted)

    @staticmethod
    def backward(ctx, *gradients):
        raise NotImplementedError(
            "the gradient of a gradient of attention is not computed; accepted are first derivatives"
        )


def _named(*tensors: Tensor | None) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in zip(_DIFFERENTIABLE, tensors) if tensor is not None}


def _run(
    plan: ForwardPlan | BackwardPlan, call: _Call, inputs: dict[str, Tensor], outputs: dict[str, Tensor]
) -> None:
    plan.run(addresses(inputs | call.others | outputs), call.seed, call.offset)


def _request(arguments: Arguments, tensors: dict[str, Tensor], generate: bool) -> Request:
    numbers = (
        "head_num",
        "scale_value",
        "keep_prob",
        "pre_tockens",
        "next_tockens",
        "sparse_mode",
        "pse_type",
    )
    lists = {name: arguments[name] for name in LISTS if arguments.get(name) is not None}
    return Request(
        input_layout=arguments["input_layout"].upper(),
        **{name: operand(tensor) for name, tensor in tensors.items()},
        **{name: arguments[name] for name in numbers if name in arguments},
        **{name: tuple(host_integers(value)) for name, value in lists.items()},
        generate=generate,
        door=arguments.door,
    )


def _one_scale(scalar_value, scale_value):
    if scale_value is None:
        return scalar_value
    if scalar_value != 1.0:
        raise TypeError(
            f"scalar_value is {scalar_value!r} and scale_value, another name of it, is {scale_value!r};"
            " accepted is one of them"
        )
    return scale_value
