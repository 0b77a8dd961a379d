"""checks.py: every lane this machine runs, held to the float64 formula. Needs no torch."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fusedattn import _native, check_cases, formula
from fusedattn.check_cases import CASES, DTYPES, OFFSET, SEED, Case, Sequence, decode, encode

GRADIENTS = ("dq", "dk", "dv")
TERMS = ("bias", "sink")  # whose gradients are d_bias and d_sink
# Unit roundoff of the storage types. Errors are relative to the sum of absolute values an element adds up.
ROUNDOFF = {"fp32": 2.0**-24, "bf16": 2.0**-8, "fp16": 2.0**-11}
# fp32: score errors grow with the features, to some 20 roundings at 768. 16 bits: exact inputs, one rounding
# of each probability (bf16 dot products), of the saved output (backward) and of the result.
ALLOWED = {"fp32": 64 * ROUNDOFF["fp32"], "bf16": 3 * ROUNDOFF["bf16"], "fp16": 3 * ROUNDOFF["fp16"]}
ALLOWED_LSE = {
    "fp32": 1e-5,
    "bf16": 1e-3,
    "fp16": 1e-3,
}  # absolute; 16-bit lanes may use a shorter polynomial
SMALLEST = {
    "fp32": 2.0**-126,
    "bf16": 2.0**-126,
    "fp16": 2.0**-24,
}  # below it the storage type has no relative accuracy


@dataclass
class Outcome:
    """The worst error of one lane, dtype and tensor, what is allowed, and the cases beyond it."""

    lane: str
    dtype: str
    tensor: str
    worst: float = 0.0
    allowed: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.failures

    def add(self, case: str, error: float, allowed: float) -> None:
        self.allowed = allowed
        self.worst = max(self.worst, error) if error == error else float("nan")
        if not error <= allowed:
            self.failures.append(f"{case}: {error:.2e}")


def lanes_to_check() -> tuple[list[str], dict[str, str]]:
    """Lanes that run here, or only FUSEDATTN_ISA's, and the others with the reason they are left out.

    Raises ValueError where FUSEDATTN_ISA names a lane that does not run here.
    """
    chosen = _native.lane_chosen()
    forced = bool(os.environ.get("FUSEDATTN_ISA"))
    left_out = {name: refusal for name, refusal in _native.lanes() if refusal}
    runs = [name for name, refusal in _native.lanes() if not refusal]
    if forced:
        left_out |= {name: f"FUSEDATTN_ISA asks for {chosen} alone" for name in runs if name != chosen}
        runs = [chosen]
    return runs, left_out


def run(
    lanes: list[str], tell: Callable[[int, int, str], None] = lambda done, total, text: None
) -> list[Outcome]:
    """Computes every case on every lane and dtype. tell(done, total, text) is called before each."""
    jobs = [(dtype, case) for dtype in DTYPES for case in CASES]
    outcomes: dict[tuple[str, str, str], Outcome] = {}
    for number, (dtype, case) in enumerate(jobs):
        tell(number, len(jobs), f"{dtype} {case.name}")
        tensors = check_cases.inputs(case, dtype)
        wanted = _expected(case, tensors)
        for lane in lanes:
            got = _computed(case, dtype, lane, tensors)
            for tensor, error, allowed in _errors(got, wanted, dtype):
                key = (lane, dtype, tensor)
                outcomes.setdefault(key, Outcome(*key)).add(case.name, error, allowed)
    return [outcomes[key] for key in sorted(outcomes, key=lambda key: lanes.index(key[0]))]


def _expected(case: Case, stored: dict) -> dict[str, np.ndarray]:
    """Every output by the formula, and as "... scale" the sums of absolute values that errors scale with."""
    tensors = {name: decode(stored[name]) for name in ("q", "k", "v", "d_out", "bias") if name in stored}
    tensors |= {name: stored[name] for name in ("slopes", "sink", "prefix", "shown") if name in stored}
    result = {"out": np.zeros(tensors["d_out"].shape)}
    result |= {"d" + name: np.zeros(tensors[name].shape) for name in "qkv"}
    result |= {"d_" + name: np.zeros(tensors[name].shape) for name in TERMS if name in tensors}
    result |= {name + " scale": np.zeros(value.shape) for name, value in list(result.items())}
    statistics_shape = tensors["q"].shape[:3]
    result |= {name: np.full(statistics_shape, np.nan) for name in ("max", "sum")}
    kept = check_cases.kept(case)
    for sequence in check_cases.sequences(case):
        for n in range(case.heads[0]):
            _add_head(result, case, tensors, sequence, n, kept[sequence.index][n])
    return result


def _bias_at(tensors: dict, sequence: Sequence, n: int) -> tuple:
    """Where a head finds its bias, and its gradient: [rows or 1, columns]."""
    batch, heads, rows, _ = tensors["bias"].shape
    row = slice(0, sequence.lengths[0] if rows > 1 else 1)
    return min(sequence.at, batch - 1), min(n, heads - 1), row, slice(0, sequence.lengths[1])


def _terms(case: Case, tensors: dict, sequence: Sequence, n: int, kept) -> formula.Terms:
    added = np.zeros(sequence.lengths)
    if "bias" in tensors:
        added += tensors["bias"][_bias_at(tensors, sequence, n)]
    if case.alibi is not None:
        slope = tensors["slopes"][sequence.index, n]
        added += formula.alibi(slope, *sequence.lengths, case.alibi.top_left, case.alibi.square_root)
    sink = tensors["sink"][n] if "sink" in tensors else None
    return formula.Terms(check_cases.visible(case, tensors, sequence), added, sink, kept, case.softcap)


def _add_head(result: dict, case: Case, tensors: dict, sequence: Sequence, n: int, kept) -> None:
    """One head's part of _expected: key heads of a group add up, and repeated elements of a bias."""
    group = case.heads[0] // case.heads[1]
    at_q, at_k = (sequence.at, n, sequence.rows), (sequence.at, n // group, sequence.columns)
    head = [tensors[name][at] for name, at in zip(("q", "k", "v", "d_out"), (at_q, at_k, at_k, at_q))]
    q, k, v, d_out = head
    scale, terms = q.shape[1] ** -0.5, _terms(case, tensors, sequence, n, kept)
    p, result["max"][at_q], result["sum"][at_q] = formula.probabilities(q, k, scale, terms)
    weights = p[:, : len(k)] * kept
    result["out"][at_q] = weights @ v
    result["out scale"][at_q] = weights @ np.abs(v)
    for name, at, part in zip(GRADIENTS, (at_q, at_k, at_k), formula.backward(*head, scale, terms)):
        result[name][at] += part
    dp = np.zeros(p.shape)
    dp[:, : len(k)] = kept * (np.abs(d_out) @ np.abs(v).T)
    ds = p * (dp + (p * dp).sum(axis=1, keepdims=True))
    result["dq scale"][at_q] += scale * (ds[:, : len(k)] @ np.abs(k))
    result["dk scale"][at_k] += scale * (ds[:, : len(k)].T @ np.abs(q))
    result["dv scale"][at_k] += weights.T @ np.abs(d_out)
    for suffix, gradient in (("", formula.score_gradients(*head, scale, terms)), (" scale", ds)):
        if "bias" in tensors:
            at = _bias_at(tensors, sequence, n)
            repeats = tensors["bias"].shape[2] == 1
            part = gradient[:, : len(k)]
            result["d_bias" + suffix][at] += part.sum(axis=0, keepdims=True) if repeats else part
        if "sink" in tensors:
            result["d_sink" + suffix][n] += gradient[:, -1].sum()


def _hole(dtype: str):
    """Not a number, in a storage type: what outputs hold before, so that a hole shows."""
    return encode(np.float64([np.nan]), dtype)[0] if dtype != "bf16" else np.uint16(0x7FC0)


def _computed(case: Case, dtype: str, lane: str, inputs: dict) -> dict[str, np.ndarray]:
    """Every output by the library on `lane`."""
    tensors = dict(inputs) | {"out": np.full_like(inputs["d_out"], _hole(dtype))}
    tensors |= {"d" + name: np.full_like(inputs[name], _hole(dtype)) for name in "qkv"}
    if case.bias is not None:  # of packed sequences only what the longest reach is written
        hole = 0 if case.ends is not None else _hole(case.bias_dtype or dtype)
        tensors["d_bias"] = np.full_like(inputs["bias"], hole)
    if case.sink:
        tensors["d_sink"] = np.full_like(inputs["sink"], np.nan)
    statistics = {name: np.full(inputs["q"].shape[:3], np.nan, np.float32) for name in ("max", "sum")}
    problem = _problem(case, dtype, tensors, statistics)
    options = _native.new_options(lane)
    ends = [np.array(e, np.int64) for e in case.ends or ()]  # alive until both runs are done
    if ends:
        problem.batch = len(ends[0])
        problem.q_ends, problem.kv_ends = (e.ctypes.data for e in ends)
    _native.forward(problem, options)
    _native.backward(problem, options)
    names = ("out", *GRADIENTS, *("d_" + name for name in TERMS if name in inputs))
    return {name: decode(tensors[name]) for name in names} | statistics


def _problem(case: Case, dtype: str, tensors: dict, statistics: dict) -> ctypes.Structure:
    problem = _native.new_problem()
    problem.dtype, problem.batch = DTYPES[dtype], case.batch
    problem.q_heads, problem.kv_heads = case.heads
    problem.q_len, problem.kv_len = case.lengths
    problem.dim, problem.dim_v = case.dims
    problem.scale = case.dims[0] ** -0.5
    problem.mask.top_left = _native.Band(*case.mask.top_left)
    problem.mask.bottom_right = _native.Band(*case.mask.bottom_right)
    for name in ("q", "k", "v", "out", "d_out", *GRADIENTS):
        setattr(problem, name, _native.View(tensors[name].ctypes.data, *_strides(tensors[name])))
    pointers = [statistics[name].ctypes.data for name in ("max", "sum")]
    problem.stats = _native.Stats(*pointers, *_strides(statistics["max"]))
    if case.bytes:
        shown = tensors["shown"]
        problem.mask.bytes, problem.mask.meaning = shown.ctypes.data, _native.NONZERO_SHOWS
        problem.mask.batch_stride, problem.mask.head_stride, problem.mask.row_stride = _strides(shown)
        problem.mask.head_stride = 0
    _set_terms(problem, case, dtype, tensors)
    return problem


def _set_terms(problem, case: Case, dtype: str, tensors: dict) -> None:
    if case.mask.prefix is not None:
        problem.mask.prefix = tensors["prefix"].ctypes.data
    if case.bias is not None:
        bias = tensors["bias"]
        strides = [0 if size == 1 else step for size, step in zip(bias.shape, _strides(bias))]
        problem.bias = _native.Bias(bias.ctypes.data, *strides, DTYPES[case.bias_dtype or dtype])
        problem.d_bias = _native.View(tensors["d_bias"].ctypes.data, *_strides(bias))
    problem.softcap = case.softcap
    if case.alibi is not None:
        problem.alibi = _native.Alibi(tensors["slopes"].ctypes.data, case.heads[0], 1)
        problem.alibi.bottom_right = not case.alibi.top_left
        problem.alibi.square_root = case.alibi.square_root
    if case.sink:
        problem.sink, problem.d_sink = (tensors[name].ctypes.data for name in ("sink", "d_sink"))
    if case.dropout:
        problem.dropout = _native.Dropout(1 - case.dropout, None, SEED, OFFSET)


def _strides(array: np.ndarray) -> list[int]:
    return [stride // array.itemsize for stride in array.strides[:3]]


def _errors(got: dict, wanted: dict, dtype: str) -> list[tuple[str, float, float]]:
    """(tensor, error, allowed) of out, the gradients, and the log-sum-exp of every row of a sequence."""
    result = []
    for name in ("out", *GRADIENTS, *("d_" + name for name in TERMS)):
        if name not in wanted:
            continue
        difference = np.abs(got[name] - wanted[name])
        scale = np.maximum(wanted[name + " scale"], SMALLEST[dtype] / ALLOWED[dtype])
        dead = wanted[name + " scale"] == 0  # a row that sees nothing is exactly zero
        error = np.where(dead & (difference != 0), np.inf, difference / scale)
        result.append((name, float(error.max(initial=0.0)), ALLOWED[dtype]))
    agreed = (wanted["max"] == formula.LOWEST) | (wanted["sum"] == 0)  # rows that see nothing
    nobody = np.isnan(wanted["max"])  # rows of no sequence have no statistics
    exact = (got["max"] == np.float32(wanted["max"])) & (got["sum"] == np.float32(wanted["sum"]))
    known = ~agreed & ~nobody
    lse = [
        np.log(part["sum"], where=known, out=np.zeros(known.shape)) + part["max"] for part in (got, wanted)
    ]
    error = np.where(known, np.abs(lse[0] - lse[1]), np.where(agreed & ~exact, np.inf, 0.0))
    result.append(("lse", float(error.max(initial=0.0)), ALLOWED_LSE[dtype]))
    return result
