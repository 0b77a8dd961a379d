"""What xformers.ops.fmha's functions accept here, as a table: one row a rule, which finds a sentence or None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from fusedattn.layout import MOST_FEATURES
from fusedattn.numerals import real
from fusedattn.problem import check_dense

from . import biases

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FW_NAME, BW_NAME = "fusedattnF", "fusedattnB"  # of the operators, as xFormers lists them
IN_BMK = ("NoneType", "LowerTriangularMask")  # and tensors
_FORMS = {3: "[B, M, K]", 4: "[B, M, H, K]", 5: "[B, M, G, H, K]"}
_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter))


class Inputs(NamedTuple):
    """The arguments of one call, as given."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    attn_bias: Any = None
    p: float = 0.0
    scale: float | None = None
    output_dtype: torch.dtype | None = None
    op: Any = None

    def out_dtype(self) -> torch.dtype:
        return self.output_dtype or self.query.dtype


class Rule(NamedTuple):
    """finds: a sentence about what is wrong with inputs that the rules before it let pass, or None."""

    error: type[Exception]
    finds: Callable[[Inputs], str | None]


_MOST_PASSED = 1024
_passed: set = set()  # what decides about inputs that passed every rule: reading all of them takes long


def check(function: str, inputs: Inputs) -> None:
    """Raises for the first rule that the inputs break."""
    decisive = _decisive(inputs)
    try:
        if decisive is not None and decisive in _passed:
            return
    except TypeError:  # an argument that cannot be hashed
        decisive = None
    for rule in RULES:
        sentence = rule.finds(inputs)
        if sentence is not None:
            raise rule.error(f"{function}: {sentence}")
    if decisive is not None:
        if len(_passed) >= _MOST_PASSED:
            _passed.clear()
        _passed.add(decisive)


def reasons(inputs: Inputs) -> list[str]:
    """Why inputs are not computed: what xFormers' dispatch wants to know of an operator."""
    found = []
    for rule in RULES:
        sentence = rule.finds(inputs)
        if sentence is not None:
            found.append(sentence)
            if rule.error is ValueError:  # the rules after it would not know what to make of the inputs
                break
    return found


def _decisive(inputs: Inputs) -> tuple | None:
    """All that the rules look at, for ordinary tensors; None for others, and while compiling."""
    query, key, value, bias, *rest = inputs
    if torch.compiler.is_compiling() or not _PLAIN.issuperset((type(query), type(key), type(value))):
        return None
    added = None if bias is None else biases.tensor_of(bias)
    if added is not None:
        if type(added) not in _PLAIN:
            return None
        added = added.dtype, added.shape, added.is_cpu, added.layout
    try:
        return (
            query.dtype, query.shape, query.is_cpu, query.layout, key.dtype, key.shape, key.is_cpu, key.layout,
            value.dtype, value.shape, value.is_cpu, value.layout, type(bias), added, *rest, *map(type, rest[:2]),
        )  # fmt: skip
    except RuntimeError:  # of torch, for a nested tensor, which has no shape
        return None


def _named(inputs: Inputs):
    return zip(("query", "key", "value"), inputs)


def _tensors(inputs: Inputs) -> str | None:
    for name, tensor in _named(inputs):
        if not isinstance(tensor, torch.Tensor):
            return f"{name} is a {type(tensor).__name__}; accepted is a tensor"
        if torch.compiler.is_compiling():  # which asks no layout inside a backward
            continue
        try:
            check_dense(**{name: tensor})
        except ValueError as refused:
            return str(refused)
    return None


def _ranks(inputs: Inputs) -> str | None:
    ranks = {tensor.dim() for tensor in inputs[:3]}
    if len(ranks) == 1 and ranks <= _FORMS.keys():
        return None
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in _named(inputs))
    return f"shapes are {shapes}; accepted are all three {', '.join(_FORMS.values())}"


def _one_device_and_dtype(inputs: Inputs) -> str | None:
    for name, tensor in _named(inputs):
        if tensor.device != inputs.query.device:
            return f"{name} is on {tensor.device}; accepted is query's device, {inputs.query.device}"
    quantised = inputs.key.dtype == inputs.value.dtype == torch.int32
    for name, tensor in _named(inputs):
        if tensor.dtype != inputs.query.dtype and not quantised:
            return f"{name} has dtype {tensor.dtype}; accepted is query's dtype, {inputs.query.dtype}"
    return None


def _shapes(inputs: Inputs) -> str | None:
    if inputs.key.dtype == torch.int32:
        return None  # another rule's
    batch, _, *heads, features = inputs.query.shape
    keys = inputs.key.shape[1]
    wanted = {"key": (batch, keys, *heads, features), "value": (batch, keys, *heads, inputs.value.shape[-1])}
    if biases.kind_of(inputs.attn_bias) is not None and biases.kind_of(inputs.attn_bias).keys != biases.DENSE:
        if batch != 1:
            return (
                f"query has batch size {batch}; accepted is 1 with a {type(inputs.attn_bias).__name__}, which"
                " has the sequences packed one after another"
            )
    for name, shape in wanted.items():
        if tuple(getattr(inputs, name).shape) != shape:
            return (
                f"{name} has shape {tuple(getattr(inputs, name).shape)}; accepted is {shape}, for query"
                f" {tuple(inputs.query.shape)} (heads are not broadcast: expand them)"
            )
    return None


def _numbers(inputs: Inputs) -> str | None:
    p = inputs.p
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
        return f"p is {p!r}; accepted are numbers from 0 to 1"
    try:
        if inputs.scale is not None:
            real("scale", inputs.scale)
    except (TypeError, ValueError, NotImplementedError) as refused:
        return str(refused)
    return None


def _bias_form(inputs: Inputs) -> str | None:
    bias = inputs.attn_bias
    if inputs.query.dim() == 3 and not isinstance(bias, torch.Tensor) and type(bias).__name__ not in IN_BMK:
        return f"attn_bias is a {type(bias).__name__} with query [B, M, K]; accepted are {', '.join(IN_BMK)} and tensors"
    return None


def _bias_tensor(inputs: Inputs) -> str | None:
    kind = biases.kind_of(inputs.attn_bias)
    if kind is None or not kind.tensor:
        return None
    bias, query = biases.tensor_of(inputs.attn_bias), inputs.query
    if not isinstance(bias, torch.Tensor):
        return f"attn_bias holds a {type(bias).__name__}; accepted is a dense tensor"
    if not torch.compiler.is_compiling() and (bias.layout != torch.strided or bias.is_nested):
        return f"attn_bias is {bias.layout}; accepted is a dense tensor"
    if bias.device != query.device or bias.dtype != query.dtype:
        return f"attn_bias is {bias.dtype} on {bias.device}; accepted is query's, {query.dtype} on {query.device}"
    scores = (query.shape[0], *query.shape[2:-1], query.shape[1], inputs.key.shape[1])
    if bias.dim() == len(scores) and all(have in (1, want) for have, want in zip(bias.shape, scores)):
        return None
    return f"attn_bias has shape {tuple(bias.shape)}; accepted is {scores}, or 1 in place of a number"


def _device(inputs: Inputs) -> str | None:
    if inputs.query.is_cpu:
        return None
    return f"device={inputs.query.device} (supported: cpu)"


def _dtype(inputs: Inputs) -> str | None:
    for name, tensor in _named(inputs):
        if tensor.dtype not in DTYPES:
            return f"{name} has dtype={tensor.dtype} (supported: {', '.join(map(str, DTYPES))})"
    if inputs.output_dtype is not None and inputs.output_dtype not in DTYPES:
        return f"output_dtype={inputs.output_dtype} (supported: None, {', '.join(map(str, DTYPES))})"
    return None


def _limits(inputs: Inputs) -> str | None:
    for name, most in MOST_FEATURES.items():
        features = getattr(inputs, name).shape[-1]
        if not 1 <= features <= most:
            return f"{name}.shape[-1]={features} (supported: 1 to {most})"
    if 0 in inputs.query.shape[2:-1]:
        return f"query has shape {tuple(inputs.query.shape)} (supported: at least 1 head)"
    return None


def _bias_kind(inputs: Inputs) -> str | None:
    if biases.kind_of(inputs.attn_bias) is not None:
        return None
    known = ", ".join(name for name in biases.KINDS if name != "NoneType")
    return f"attn_bias type is {type(inputs.attn_bias).__name__} (supported: None, tensors, {known})"


def is_ours(op) -> bool:
    """Whether an operator, or each of a pair, is None or one of this door's."""
    pair = op if isinstance(op, tuple) else (op,)
    return all(one is None or getattr(one, "NAME", None) in (FW_NAME, BW_NAME) for one in pair)


def _op(inputs: Inputs) -> str | None:
    if is_ours(inputs.op):
        return None
    pair = inputs.op if isinstance(inputs.op, tuple) else (inputs.op,)
    names = ", ".join(str(getattr(one, "NAME", one)) for one in pair)
    return f"op is {names}, which does not run on a CPU; accepted are None, {FW_NAME} and {BW_NAME}"


RULES = (
    Rule(ValueError, _tensors),
    Rule(ValueError, _ranks),
    Rule(ValueError, _one_device_and_dtype),
    Rule(ValueError, _bias_form),
    Rule(ValueError, _shapes),
    Rule(ValueError, _numbers),
    Rule(ValueError, _bias_tensor),
    Rule(ValueError, _op),
    Rule(NotImplementedError, _device),
    Rule(NotImplementedError, _dtype),
    Rule(NotImplementedError, _limits),
    Rule(NotImplementedError, _bias_kind),
)
