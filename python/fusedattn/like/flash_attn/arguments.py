"""What flash-attn's functions accept here, as tables, and their arguments in the words of fusedattn.attention."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch

import fusedattn
from fusedattn.like import lse
from fusedattn.problem import check_ends

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
INTEGERS = (torch.int32, torch.int64)


class Rule(NamedTuple):
    """An argument, what is accepted of it, and whether a value is that."""

    argument: str
    accepted: str
    holds: Callable[[object], bool]


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_window(value) -> bool:
    try:
        return len(value) == 2 and all(int(edge) == edge for edge in value)
    except (TypeError, ValueError, OverflowError):
        return False


def _is_dense(value) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_nested


def _are_integers(value) -> bool:
    return _is_dense(value) and value.device.type == "cpu" and value.dtype in INTEGERS


def _is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_table(value) -> bool:
    return _is_dense(value) and value.device.type == "cpu" and value.dtype in DTYPES


def _are_slopes(value) -> bool:
    return _is_dense(value) and value.dtype == torch.float32 and value.device.type == "cpu"


_NUMBERS = "float16, bfloat16 or (an extension) float32, dense, on the CPU"
_TABLE = "None, or float16, bfloat16 or float32 on the CPU, (seqlen_ro, rotary_dim / 2)"
_LENGTHS = "int32 (or int64) on the CPU, (batch_size + 1,), with a leading 0"
_FOR_EACH = "int32 (or int64) on the CPU, (batch_size,)"

RULES = (
    Rule("dropout_p", "a number from 0 to below 1", lambda v: _is_number(v) and 0 <= v < 1),
    Rule("softmax_scale", "None (1 / sqrt(headdim)) or a finite number", lambda v: v is None or _is_number(v)),
    Rule("window_size", "a pair (left, right) of integers, -1 for no bound", _is_window),
    Rule("softcap", "a finite number, 0 or below for none", _is_number),
    Rule("alibi_slopes", "None or float32 on the CPU, (nheads,) or (batch_size, nheads)",
         lambda v: v is None or _are_slopes(v)),
    Rule("learnable_sink", "None or float32, bfloat16 or float16, (nheads,)",
         lambda v: v is None or (_is_dense(v) and v.dtype in DTYPES and v.dim() == 1)),
    Rule("cu_seqlens", _LENGTHS, _are_integers),
    Rule("cu_seqlens_q", _LENGTHS, _are_integers),
    Rule("cu_seqlens_k", _LENGTHS, _are_integers),
    Rule("cache_seqlens", f"None, an integer, or {_FOR_EACH}",
         lambda v: v is None or _is_count(v) or _are_integers(v)),
    Rule("cache_batch_idx", f"None or {_FOR_EACH}", lambda v: v is None or _are_integers(v)),
    Rule("cache_leftpad", f"None or {_FOR_EACH}", lambda v: v is None or _are_integers(v)),
    Rule("leftpad_k", f"None or {_FOR_EACH}", lambda v: v is None or _are_integers(v)),
    Rule("seqused_q", f"None or {_FOR_EACH}", lambda v: v is None or _are_integers(v)),
    Rule("seqused_k", f"None or {_FOR_EACH}", lambda v: v is None or _are_integers(v)),
    Rule("block_table", "None or int32 (or int64) on the CPU, (batch_size, max_num_blocks_per_seq)",
         lambda v: v is None or (_are_integers(v) and v.dim() == 2)),
    Rule("rotary_cos", _TABLE, lambda v: v is None or _is_table(v)),
    Rule("rotary_sin", _TABLE, lambda v: v is None or _is_table(v)),
    Rule("rng_state", "the int64 tensor (2,) that the forward returned; it may be None without dropout",
         lambda v: v is None or (_are_integers(v) and v.shape == (2,))),
    Rule("qv", "None: products of queries and values are not computed", lambda v: v is None),
    Rule("q_descale", "None: 8-bit types are not computed", lambda v: v is None),
    Rule("k_descale", "None: 8-bit types are not computed", lambda v: v is None),
    Rule("v_descale", "None: 8-bit types are not computed", lambda v: v is None),
    Rule("attention_chunk", "0: chunks are not computed", lambda v: v == 0),
    Rule("cu_seqlens_k_new", "None: new keys of several lengths are not computed", lambda v: v is None),
    Rule("rotary_seqlens", f"None or {_FOR_EACH}", lambda v: v is None or _are_integers(v)),
)  # fmt: skip
_BY_NAME = {rule.argument: rule for rule in RULES}


class Refused(RuntimeError):
    """A call that is not computed: the function, the argument, its value, what is accepted."""


def refuse(argument: str, value, accepted: str):
    raise Refused(f"{argument} is {described(value)}; accepted is {accepted}")


def refuse_element(argument: str, number: int, accepted: str):
    raise Refused(f"{argument} holds {number}; accepted is {accepted}")


def described(value) -> str:
    if not isinstance(value, torch.Tensor):
        return f"{value!r}"
    return f"{value.dtype} {tuple(value.shape)} on {value.device}"


def check(**given) -> None:
    """Holds arguments to their rules."""
    for name, value in given.items():
        rule = _BY_NAME[name]
        if not rule.holds(value):
            refuse(name, value, rule.accepted)


def check_like(**pairs) -> None:
    """Holds what is written or saved, as name=(it, what it must be like), to a shape and a dtype."""
    for name, (given, like) in pairs.items():
        if not _is_dense(given) or (given.shape, given.dtype) != (like.shape, like.dtype):
            refuse(name, given, f"{like.dtype} {tuple(like.shape)}")


def check_lengths(name: str, ends, rows: int) -> list[int]:
    """Cumulative lengths as numbers, held to their rule and to a tensor of so many rows."""
    check(**{name: ends})
    if ends.dim() != 1:
        refuse(name, ends, _LENGTHS)
    numbers = ends.tolist()
    check_ends(name, numbers, rows)
    return numbers


def one_each(name: str, value, sequences: int) -> list[int]:
    """Of an integer or a tensor, one number for each sequence."""
    if isinstance(value, int):
        return [value] * sequences
    if value.shape != (sequences,):
        refuse(name, value, f"({sequences},), one for each sequence")
    return value.tolist()


def check_tensors(form: str, **given) -> None:
    """Holds tensors to dtypes, device, and as many dimensions as `form` names; all must be of one dtype."""
    first_name, first = next(iter(given.items()))
    rank = form.count(",") + 1
    for name, tensor in given.items():
        if type(tensor) is torch.Tensor and tensor.is_cpu and tensor.layout is torch.strided:
            if tensor.dim() == rank and tensor.dtype is first.dtype and tensor.dtype in DTYPES:
                continue
        if not _is_dense(tensor) or tensor.dtype not in DTYPES or tensor.device.type != "cpu":
            refuse(name, tensor, _NUMBERS)
        if tensor.dim() != rank:
            refuse(name, tensor, f"({form})")
        if tensor.dtype != first.dtype:
            refuse(name, tensor, f"{first_name}'s dtype, {first.dtype}")


class named:
    """Failures within it begin with the function's name and are RuntimeErrors, as those of the original."""

    def __init__(self, function: str):
        self.function = function

    def __enter__(self):
        return self

    def __exit__(self, kind, failure, trace):
        if failure is not None and isinstance(failure, (Refused, ValueError, TypeError, NotImplementedError)):
            raise RuntimeError(f"{self.function}: {failure}") from None
        return False


class Asked(NamedTuple):
    """What a call asks for besides its tensors. edges: (left, right) columns, None for no bound; mask: the same."""

    scale: float | None = None
    edges: tuple[int | None, int | None] = (None, None)
    mask: fusedattn.Mask | None = None
    softcap: float = 0.0
    dropout_p: float = 0.0
    slopes: torch.Tensor | None = None
    sink: torch.Tensor | None = None

    def attend(self, q, k, v, **more):
        """fusedattn.attention of what is asked, the diagonal ending at the last row and column."""
        return fusedattn.attention(
            q, k, v, mask=self.mask, alibi=self.slopes, softcap=self.softcap, sink=self.sink, scale=self.scale,
            dropout_p=self.dropout_p, **more,
        )  # fmt: skip

    def hold(self, sequences: int, heads: int) -> Asked:
        """Itself, once slopes and sink are known to fit."""
        if self.slopes is not None and self.slopes.shape not in ((heads,), (sequences, heads)):
            refuse("alibi_slopes", self.slopes, f"({heads},) or ({sequences}, {heads})")
        if self.sink is not None and self.sink.shape != (heads,):
            refuse("learnable_sink", self.sink, f"({heads},)")
        return self

    def of_sequence(self, b: int) -> Asked:
        """The same for sequence b alone."""
        if self.slopes is None or self.slopes.dim() == 1:
            return self
        return self._replace(slopes=self.slopes[b])

    def of_sequences(self, order: list[int]) -> Asked:
        """The same for packed sequences of which each is that of this number."""
        if self.slopes is None or self.slopes.dim() == 1:
            return self
        return self._replace(slopes=self.slopes[order])


def read(dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes, learnable_sink=None) -> Asked:
    """What a call asks for, held to the rules."""
    if not _is_window(window_size):
        check(window_size=window_size)
    numbers = dropout_p, softmax_scale, bool(causal), int(window_size[0]), int(window_size[1]), softcap
    try:
        asked = _numbers(*numbers) if torch.compiler.is_compiling() else _numbers_once(*numbers)
    except TypeError:  # of what cannot be hashed
        asked = _numbers(*numbers)
    if alibi_slopes is None and learnable_sink is None:
        return asked
    check(alibi_slopes=alibi_slopes, learnable_sink=learnable_sink)
    return asked._replace(slopes=alibi_slopes, sink=None if learnable_sink is None else learnable_sink.float())


def _numbers(dropout_p, softmax_scale, causal: bool, left: int, right: int, softcap) -> Asked:
    check(dropout_p=dropout_p, softmax_scale=softmax_scale, softcap=softcap)
    edges = (None if left < 0 else left, 0 if causal else None if right < 0 else right)
    mask = None if edges == (None, None) else fusedattn.window(*edges)
    return Asked(softmax_scale, edges, mask, max(float(softcap), 0.0), float(dropout_p))


_numbers_once = functools.lru_cache(maxsize=256, typed=True)(_numbers)  # calls repeat, and this takes 6 µs


def log_sum_exp(row_max, row_sum):
    """softmax_lse of statistics: +inf for rows that see nothing, as the original has it."""
    return lse.log_sum_exp(row_max, row_sum, float("inf"))
