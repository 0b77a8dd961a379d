"""What torch_npu's attention functions check before the operator does; their numbers as Python's own."""

import torch

from ..numerals import integer, integers, real
from .ascend import Refusal
from .ascend.facts import LAYOUTS


def fail(function: str, sentence: str) -> None:
    raise RuntimeError(f"{function}: {sentence}")


def refused(operator: str, refusal: Refusal) -> RuntimeError:
    """A failure of the operator, as the device words it: its name and the code."""
    return RuntimeError(f"{operator} failed with {refusal.status}: {refusal}")


def read(function: str, reader, name: str, value):
    """What is no number, or too large a one, is a RuntimeError, as on the device."""
    try:
        return reader(name, value)
    except NotImplementedError:
        raise
    except (TypeError, ValueError) as refusal:
        raise RuntimeError(f"{function}: {refusal}") from None


def numbers(function: str, **given) -> tuple:
    """Integers, in the order given."""
    return tuple(read(function, integer, name, value) for name, value in given.items())


def reals(function: str, **given) -> tuple:
    """Floats, in the order given."""
    return tuple(read(function, real, name, value) for name, value in given.items())


def present(function: str, name: str, value):
    """The value, which may not be None."""
    if value is None:
        fail(function, f"{name} is None; accepted: a list of integers")
    return value


def listed(function: str, name: str, value) -> tuple[int, ...] | None:
    """A list of integers from 0 on as a tuple; None stays None."""
    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        check_holds_numbers(function, name, value)
    return tuple(read(function, integers, name, value))


def signed(function: str, name: str, value) -> tuple[int, ...] | None:
    """As listed, of integers of either sign."""
    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        check_holds_numbers(function, name, value)
    given = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(given, (list, tuple)):
        fail(function, f"{name} is {value!r}; accepted: a list of integers")
    return tuple(read(function, integer, f"{name}[{i}]", entry) for i, entry in enumerate(given))


def check_switches(function: str, **given) -> None:
    for name, value in given.items():
        if not isinstance(value, int) or value not in (0, 1):
            fail(function, f"{name} is {value!r}; accepted: True, False")


def check_layouts(function: str, input_layout, softmax_layout) -> str:
    """The layout in upper case."""
    layout = input_layout.upper() if isinstance(input_layout, str) else None
    if layout not in LAYOUTS:
        fail(function, f"input_layout is {input_layout!r}; accepted: {', '.join(LAYOUTS)}")
    if not isinstance(softmax_layout, str) or softmax_layout not in ("", "TND"):
        fail(function, f"softmax_layout is {softmax_layout!r}; accepted: '', 'TND'")
    if softmax_layout == "TND" and layout != "TND":
        fail(function, f"softmax_layout is 'TND' with input_layout {layout}; accepted: with TND alone")
    return layout


def form(tensor: torch.Tensor) -> str | None:
    """How a tensor lies in memory where that is not densely, in a word; None for a dense one."""
    if tensor.layout is not torch.strided:
        return str(tensor.layout)
    if tensor.is_nested:
        return "torch.strided, nested"
    return "torch.strided, quantized" if tensor.is_quantized else None


def check_form(function: str, name: str, tensor: torch.Tensor) -> None:
    found = form(tensor)
    if found is not None:
        fail(function, f"{name} has layout {found}; accepted: torch.strided, a dense tensor")


def check_holds_numbers(function: str, name: str, value) -> None:
    """A tensor given as a list of integers can be read."""
    if not isinstance(value, torch.Tensor):
        return
    check_form(function, name, value)
    if value.device.type == "meta":
        fail(function, f"{name} is on device meta, where it has no numbers; accepted: a list of integers")


def check_tensors(function: str, needed: dict, optional: dict) -> None:
    """Tensors are dense, all on the CPU or, to be traced, all on meta; those of `needed` are there."""
    place = first = None
    for name, tensor in {**needed, **optional}.items():
        if tensor is None and name in optional:
            continue
        if not isinstance(tensor, torch.Tensor):
            also = "None or " if name in optional else ""
            fail(function, f"{name} is a {type(tensor).__name__}; accepted: {also}a torch tensor")
        device = tensor.device
        if place is None:
            place, first = device, name
            if device.type not in ("cpu", "meta"):
                fail(function, f"{name} is on device {device}; accepted: the CPU")
        elif device != place:
            fail(function, f"{name} is on device {device}; accepted: that of {first}, {place}")
        if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
            check_form(function, name, tensor)


def check_ranks(function: str, **given) -> None:
    for name, tensor in given.items():
        if tensor is not None and tensor.dim() not in (3, 4):
            fail(function, f"{name} has shape {list(tensor.shape)}; accepted: 3 or 4 dimensions")


def check_numbers(function: str, layout: str, head_num: int, keep_prob: float, sparse_mode: int) -> None:
    if head_num <= 0:
        fail(function, f"head_num is {head_num}; accepted: integers above 0")
    if not 0 < keep_prob <= 1:
        fail(function, f"keep_prob is {keep_prob}; accepted: numbers above 0 up to 1")
    modes = (0, 1, 2, 3, 4, 6, 7, 8) if layout == "TND" else range(7)
    if sparse_mode not in modes:
        fail(function, f"sparse_mode is {sparse_mode}; accepted with input_layout {layout}: {[*modes]}")


def check_sequences(function: str, layout: str, most: int | None, **given) -> None:
    """TND needs both lists, of one length; most: the largest cumulative length."""
    for name, ends in given.items():
        if layout == "TND" and not ends:
            fail(function, f"{name} is {ends}; accepted with TND: cumulative lengths, one per sequence")
        if most is not None and ends and max(ends) > most:
            fail(function, f"{name} has an entry {max(ends)}; accepted: up to {most}")
    counts = [0 if ends is None else len(ends) for ends in given.values()]
    if layout == "TND" and counts[0] != counts[1]:
        names = list(given)
        fail(
            function,
            f"{names[0]} has {counts[0]} entries, {names[1]} has {counts[1]}; accepted: equal numbers",
        )


def operator_name(
    version: int, packed: bool, rope: bool, sink: bool, token_major: bool, backward: bool
) -> str:
    """The operator that the device runs for a call; version 3 is dispatched as 1."""
    if sink:
        suffix = "V5" if packed else "V3"
    elif version == 2:
        suffix = "V3" if rope and packed else "V2"
    else:
        suffix = "V4" if packed and token_major else ""
    if backward:
        return f"aclnnFlashAttention{'UnpaddingScoreGrad' if packed else 'ScoreGrad'}{suffix}"
    return f"aclnnFlashAttention{'VarLenScore' if packed else 'Score'}{suffix}"
