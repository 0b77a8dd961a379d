"""What scaled_dot_product_attention accepts, as a table: one row a rule, which finds a sentence or None."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from ..layout import MOST_FEATURES
from ..numerals import real
from ..problem import check_dense

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter, type(None)))


class Call(NamedTuple):
    """The arguments of one call, as given."""

    query: object
    key: object
    value: object
    attn_mask: object = None
    dropout_p: object = 0.0
    is_causal: object = False
    scale: object = None
    enable_gqa: object = False


class Rule(NamedTuple):
    """finds: a sentence about what is wrong with a call that the rules before it let pass, or None."""

    error: type[Exception]
    finds: Callable[[Call], str | None]


_MOST_PASSED = 1024
_passed: set = set()  # what decides about calls that passed every rule: reading all of them takes 9 µs


def refusal(call: Call) -> Exception | None:
    """The exception of the first rule that a call breaks; None for a call that is computed."""
    decisive = _decisive(call)
    if decisive is not None and decisive in _passed:
        return None
    for rule in RULES:
        sentence = rule.finds(call)
        if sentence is not None:
            return rule.error(sentence)
    if decisive is not None:
        if len(_passed) >= _MOST_PASSED:
            _passed.clear()
        _passed.add(decisive)
    return None


def _decisive(call: Call) -> tuple | None:
    """All that the rules look at, for ordinary tensors and numbers; None for others, and while compiling."""
    query, key, value, mask, dropout_p, is_causal, scale, enable_gqa = call
    if torch.compiler.is_compiling() or not (
        _PLAIN.issuperset((type(query), type(key), type(value), type(mask)))
        and type(dropout_p) is float and type(is_causal) is bool is type(enable_gqa)
        and (scale is None or type(scale) is float)
    ):  # fmt: skip
        return None
    try:
        return (
            query.dtype, query.shape, query.is_cpu, query.layout, key.dtype, key.shape, key.is_cpu, key.layout,
            value.dtype, value.shape, value.is_cpu, value.layout, dropout_p, is_causal, scale, enable_gqa,
            mask if mask is None else (mask.dtype, mask.shape, mask.is_cpu, mask.layout),
        )  # fmt: skip
    except RuntimeError:  # of torch, for a nested tensor, which has no shape
        return None


def causal_variant(attn_mask) -> str | None:
    """ "UPPER_LEFT" or "LOWER_RIGHT" for torch's CausalBias, whose module is slow to import; else None."""
    kind = type(attn_mask)
    if kind is torch.Tensor or attn_mask is None or kind.__module__ != "torch.nn.attention.bias":
        return None
    return attn_mask.variant.name


def _types(call: Call) -> str | None:
    for name, tensor in zip(("query", "key", "value"), call):
        if not isinstance(tensor, torch.Tensor):
            return f"{name} is a {type(tensor).__name__}; accepted is a tensor"
    if call.attn_mask is not None and not isinstance(call.attn_mask, torch.Tensor):
        return f"attn_mask is a {type(call.attn_mask).__name__}; accepted are None and a tensor"
    for name in ("is_causal", "enable_gqa"):
        value = getattr(call, name)
        if value is not True and value is not False:
            return f"{name} is {value!r}; accepted are True and False"
    for name in ("dropout_p", "scale"):
        value = getattr(call, name)
        if value is not None and not isinstance(value, (float, bool)):
            try:
                real(name, value)
            except TypeError as refused:
                return str(refused)
            except (ValueError, NotImplementedError):
                pass  # another rule's
    return "dropout_p is None; accepted are numbers from 0 to 1" if call.dropout_p is None else None


def _numbers(call: Call) -> str | None:
    if not 0 <= call.dropout_p <= 1:
        return f"dropout_p is {call.dropout_p!r}; accepted are numbers from 0 (nothing is dropped) to 1"
    return None


def _scale(call: Call) -> str | None:
    if call.scale is None:
        return None
    try:
        real("scale", call.scale)
    except (ValueError, NotImplementedError) as refused:
        return str(refused)
    return None


def _places(call: Call) -> str | None:
    for name, tensor in zip(("query", "key", "value", "attn_mask"), call):
        if tensor is None:
            continue
        try:
            check_dense(**{name: tensor})
        except ValueError as refused:
            return str(refused)
        if not tensor.is_cpu and causal_variant(tensor) is None:
            return f"{name} is on device {tensor.device}; accepted is the CPU"
    return None


def _ranks(call: Call) -> str | None:
    least = 3 if call.enable_gqa else 2
    for name, tensor in zip(("query", "key", "value"), call):
        if tensor.dim() < least:
            return (
                f"{name} has shape {tuple(tensor.shape)}; accepted are {least} dimensions or more,"
                f" [..., {'heads, ' if call.enable_gqa else ''}rows, features]"
            )
    return None


def _one_dtype(call: Call) -> str | None:
    for name, tensor in (("key", call.key), ("value", call.value)):
        if tensor.dtype != call.query.dtype:
            return f"{name} has dtype {tensor.dtype}; accepted is query's dtype, {call.query.dtype}"
    return None


def _dtypes(call: Call) -> str | None:
    if call.query.dtype in DTYPES:
        return None
    return f"query has dtype {call.query.dtype}; accepted are {', '.join(map(str, DTYPES))}"


def _sizes(call: Call) -> str | None:
    query, key, value = call.query.shape, call.key.shape, call.value.shape
    if key[-1] != query[-1]:
        return f"key has {key[-1]} features; accepted is query's number, {query[-1]}"
    if value[-2] != key[-2]:
        return f"value has {value[-2]} rows; accepted is key's number, {key[-2]}"
    return None


def _heads(call: Call) -> str | None:
    """Where heads are grouped, they divide query's; else they broadcast like every leading dimension."""
    if call.enable_gqa:
        heads = call.query.shape[-3]
        for name, tensor in (("key", call.key), ("value", call.value)):
            found = tensor.shape[-3]
            if found < 1 or heads % found:
                return (
                    f"{name} has {found} heads; accepted with enable_gqa=True are divisors of query's {heads}"
                )
    leading = -3 if call.enable_gqa else -2
    shapes = [tuple(tensor.shape[:leading]) for tensor in call[:3]]
    if not _broadcast(*shapes):
        hint = "" if call.enable_gqa else "; for grouped heads pass enable_gqa=True"
        return (
            f"query, key and value have leading dimensions {', '.join(map(str, shapes))}; accepted are such"
            f" that broadcast{hint}"
        )
    return None


def _limits(call: Call) -> str | None:
    for name, most in MOST_FEATURES.items():
        features = getattr(call, name).shape[-1]
        if not 1 <= features <= most:
            return f"{name} has {features} features; accepted are 1 to {most}"
    for name, tensor in zip(("query", "key", "value"), call):
        if 0 in tensor.shape[-3:-2]:
            return f"{name} has 0 heads; accepted is at least 1"
    return None


def _mask(call: Call) -> str | None:
    mask = call.attn_mask
    if mask is None:
        return None
    if call.is_causal:
        return "attn_mask is given with is_causal=True; accepted is one of the two"
    rows, columns = call.query.shape[-2], call.key.shape[-2]
    if causal_variant(mask) is not None:
        if (mask.seq_len_q, mask.seq_len_kv) == (rows, columns):
            return None
        sizes = f"{mask.seq_len_q} queries and {mask.seq_len_kv} keys"
        return f"attn_mask is a CausalBias of {sizes}; accepted are this call's {rows} and {columns}"
    if mask.dtype not in (torch.bool, torch.float32, call.query.dtype):
        return f"attn_mask has dtype {mask.dtype}; accepted are torch.bool, torch.float32 and query's dtype"
    scores = _scores(call)
    if not _broadcast(scores, tuple(mask.shape), into=True):
        return f"attn_mask has shape {tuple(mask.shape)}; accepted is what broadcasts to {scores}"
    return None


def _scores(call: Call) -> tuple:
    """The shape of the scores."""
    rows, columns = call.query.shape[-2], call.key.shape[-2]
    if max(tensor.dim() for tensor in call[:3]) == 2:
        return rows, columns
    leading = -3 if call.enable_gqa else -2
    batch = torch.broadcast_shapes(*(tensor.shape[:leading] for tensor in call[:3]))
    return (*batch, *call.query.shape[leading:-2], rows, columns)


def _broadcast(*shapes, into: bool = False) -> bool:
    """Whether shapes broadcast together; into: to the first one."""
    first = shapes[0]
    if all(shape == first for shape in shapes):
        return True
    if into and any(len(shape) > len(first) for shape in shapes):
        return False
    for sizes in zip(*(reversed((1,) * (max(map(len, shapes)) - len(s)) + s) for s in shapes)):
        wanted = {size for size in sizes if size != 1}
        if len(wanted) > 1 or (into and sizes[0] == 1 and wanted):
            return False
    return True


RULES = (
    Rule(TypeError, _types),
    Rule(RuntimeError, _numbers),
    Rule(NotImplementedError, _scale),
    Rule(NotImplementedError, _places),
    Rule(RuntimeError, _ranks),
    Rule(RuntimeError, _one_dtype),
    Rule(NotImplementedError, _dtypes),
    Rule(RuntimeError, _sizes),
    Rule(RuntimeError, _heads),
    Rule(NotImplementedError, _limits),
    Rule(RuntimeError, _mask),
)
