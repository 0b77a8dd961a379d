"""register(): this library's operators in xFormers' own dispatch, for tensors on the CPU."""

from __future__ import annotations

import functools

import torch

from .....installations import Handle, Installation
from .....layout import MOST_FEATURES
from . import biases
from .arguments import BW_NAME, DTYPES, FW_NAME, Inputs, reasons
from .attention import attend_only, differentiate, draw_stream


class Registration(Handle):
    """What register() returns: undo() gives xFormers its own dispatch back, as does leaving a with block."""

    def __repr__(self) -> str:
        return f"<xFormers' dispatch {'has' if self.holds else 'is without'} {FW_NAME} and {BW_NAME}>"


def register() -> Registration:
    """From now on xformers.ops.memory_efficient_attention and its kin run here for tensors on the CPU.

    xFormers' dispatch tries fusedattnF and fusedattnB first for such tensors and last for others, and lists them
    with their reasons where it finds no operator; fmha.ALL_FW_OPS and ALL_BW_OPS have them. It holds for the process,
    until undo() of the handle returned, or the end of `with register():`; calls may nest.

    ImportError without xFormers; RuntimeError for one whose dispatch is another than that of 0.0.35.
    """
    return Registration(_entries)


class _Entries:
    """One function of xFormers' dispatch, which chooses from lists of operators, and an entry in two lists."""

    def __init__(self):
        from xformers.ops import fmha
        from xformers.ops.fmha import dispatch

        for module, name in ((dispatch, "_run_priority_list"), (fmha, "ALL_FW_OPS"), (fmha, "ALL_BW_OPS")):
            if not hasattr(module, name):
                raise RuntimeError(f"{module.__name__} has no {name}; accepted is xFormers 0.0.35")
        forward, backward = _operators(fmha)
        self._fmha, self._dispatch, self._operators = fmha, dispatch, (forward, backward)
        self._original = original = dispatch._run_priority_list
        self.on = True

        @functools.wraps(original)
        def run_priority_list(name, priority_list, inp, *more, **named):
            if not self.on:
                return original(name, priority_list, inp, *more, **named)
            own = [backward if name.endswith("_backward") else forward]
            others = list(priority_list)
            ordered = own + others if inp.query.device.type == "cpu" else others + own
            return original(name, ordered, inp, *more, **named)

        self._entry = dispatch._run_priority_list = run_priority_list
        fmha.ALL_FW_OPS.append(forward)
        fmha.ALL_BW_OPS.append(backward)

    def remove(self) -> None:
        """xFormers as it was. An entry that someone kept, or wrapped, only calls the original from now on."""
        self.on = False
        if self._dispatch._run_priority_list is self._entry:
            self._dispatch._run_priority_list = self._original
        for operators, own in zip((self._fmha.ALL_FW_OPS, self._fmha.ALL_BW_OPS), self._operators):
            operators[:] = [operator for operator in operators if operator is not own]


_entries = Installation(_Entries)


def _operators(fmha):
    """(forward, backward) as classes of xFormers' kind."""
    from xformers.ops.fmha.common import AttentionBwOpBase, AttentionFwOpBase, Context, Gradients

    classes = [getattr(fmha.attn_bias, name, None) for name in biases.KINDS if name != "NoneType"]
    shared = dict(
        OPERATOR=True,
        SUPPORTED_DEVICES={"cpu"},
        SUPPORTED_DTYPES=set(DTYPES),
        SUPPORTED_MAX_K=MOST_FEATURES["value"],
        SUPPORTED_MIN_K=1,
        SUPPORTED_ATTN_BIAS_TYPES=(type(None), torch.Tensor, *(kind for kind in classes if kind is not None)),
        SUPPORTS_DROPOUT=True,
        SUPPORTS_CUSTOM_SCALE=True,
        SUPPORTS_DIFFERENT_VALUE_EMBED=True,
        SUPPORTS_OUTPUT_DTYPE=True,
        SUPPORTS_PARTIAL=True,
        SUPPORTS_BMGHK=True,
        SUPPORTS_ATTN_BIAS_GRAD=True,
        VARLEN_LSE_PACKED=True,
        not_supported_reasons=classmethod(lambda cls, d: reasons(_inputs(d))),
    )
    own = dict(shared, not_supported_reasons=classmethod(lambda cls, d: _backward_reasons(_inputs(d))))

    def forward(cls, inp, needs_gradient):
        inputs = _inputs(inp)
        stream = draw_stream(inputs.p)
        out, lse = attend_only(inputs, needs_gradient, stream)
        if not needs_gradient:
            return out, None
        dropped = dict(op_bw=backward_operator, rng_state=stream) if stream else {}
        return out, Context(lse=lse, out=out, **dropped)

    def backward(cls, ctx, inp, grad):
        inputs = _inputs(inp)
        needs_bias = isinstance(inputs.attn_bias, torch.Tensor) and inputs.attn_bias.requires_grad
        with torch.no_grad():
            dq, dk, dv, db = differentiate(inputs, grad, ctx.out, ctx.lse, ctx.rng_state, needs_bias)
        return Gradients(dq=dq, dk=dk, dv=dv, db=db)

    backward_operator = type(
        "BwOp", (AttentionBwOpBase,), dict(own, NAME=BW_NAME, apply=classmethod(backward), __module__=__name__)
    )
    forward_operator = type(
        "FwOp", (AttentionFwOpBase,), dict(shared, NAME=FW_NAME, apply=classmethod(forward), __module__=__name__)
    )
    return forward_operator, backward_operator


def _backward_reasons(inputs: Inputs) -> list[str]:
    """The same of gradients: what xFormers does not pass on would be lost."""
    found, bias = reasons(inputs), inputs.attn_bias
    added = biases.tensor_of(bias)
    if added is not None and added is not bias and added.requires_grad:
        found.append(
            f"attn_bias is a {type(bias).__name__} whose tensor requires grad, which xFormers does not pass on"
            " (supported: a tensor without, or fusedattn.like.xformers.memory_efficient_attention)"
        )
    if inputs.query.dim() == 5:
        found.append(
            "query is [B, M, G, H, K], of which xFormers passes on no gradients (supported: [B, M, H, K], or"
            " fusedattn.like.xformers.memory_efficient_attention)"
        )
    return found


def _inputs(d) -> Inputs:
    """xFormers' Inputs as this door's."""
    partial = d.is_partial and d.output_dtype is None
    return Inputs(
        d.query, d.key, d.value, d.attn_bias, d.p, d.scale, torch.float32 if partial else d.output_dtype
    )
