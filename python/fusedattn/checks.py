"""checks.py: every lane this machine runs, held to the float64 formula. Needs no torch."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fusedattn import _native, formula
from fusedattn.mask import Mask, causal, window

DTYPES = {"fp32": _native.FLOAT32, "bf16": _native.BFLOAT16, "fp16": _native.FLOAT16}
GRADIENTS = ("dq", "dk", "dv")
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


@dataclass(frozen=True)
class Case:
    """One problem. `ends` (of queries, of keys) makes it packed; `bytes` adds a random mask of bytes."""

    name: str
    heads: tuple[int, int]  # query heads, key heads
    lengths: tuple[int, int]  # rows, columns (packed: of all sequences)
    dims: tuple[int, int] = (64, 64)
    batch: int = 1
    mask: Mask = Mask()
    bytes: bool = False
    ends: tuple[tuple[int, ...], tuple[int, ...]] | None = None


CASES = [
    Case("plain", (2, 2), (64, 64)),
    Case("long", (1, 1), (520, 700), (128, 128)),
    Case("one row", (2, 1), (1, 300)),
    Case("one column", (2, 2), (65, 1)),
    Case("one feature", (2, 2), (37, 41), (1, 1)),
    Case("grouped heads, odd sizes", (6, 2), (77, 133), (40, 72), batch=2),
    Case("768 features", (1, 1), (50, 97), (768, 768)),
    Case("192 and 128 features", (2, 1), (70, 90), (192, 128), mask=causal()),
    Case("causal", (2, 2), (257, 257), (128, 128), mask=causal()),
    Case("causal, rows that see nothing", (2, 2), (150, 70), mask=causal()),
    Case("causal from the top left", (2, 1), (90, 200), mask=causal("top-left")),
    Case("window", (2, 2), (300, 300), (96, 96), mask=window(17, 9)),
    Case("two windows", (1, 1), (200, 240), mask=window(60, 60) & window(150, 10, "top-left")),
    Case("window before the diagonal", (1, 1), (150, 150), (32, 32), mask=window(100, -40)),
    Case("window that no row satisfies", (1, 1), (33, 33), mask=window(-3, 1)),
    Case("mask of bytes", (2, 1), (70, 91), (80, 80), batch=2, bytes=True),
    Case("mask of bytes, causal", (2, 2), (130, 130), (48, 48), mask=causal(), bytes=True),
    Case("packed sequences", (4, 2), (150, 181), ends=((1, 1, 66, 150), (30, 31, 120, 181))),
    Case(
        "packed sequences, causal", (2, 2), (140, 130), (72, 72), mask=causal(), ends=((75, 130), (60, 130))
    ),
]


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
        tensors = _inputs(case, dtype)
        wanted = _expected(case, tensors)
        for lane in lanes:
            for tensor, error, allowed in _errors(_computed(case, dtype, lane, tensors), wanted, dtype):
                key = (lane, dtype, tensor)
                outcomes.setdefault(key, Outcome(*key)).add(case.name, error, allowed)
    return [outcomes[key] for key in sorted(outcomes, key=lambda key: lanes.index(key[0]))]


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """values rounded to the storage type; bf16 as its 16 bits in uint16, which NumPy has no type for."""
    if dtype != "bf16":
        return values.astype(np.float32 if dtype == "fp32" else np.float16)
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def decode(stored: np.ndarray) -> np.ndarray:
    """float64 of what encode() made."""
    if stored.dtype != np.uint16:
        return stored.astype(np.float64)
    return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def _inputs(case: Case, dtype: str) -> dict[str, np.ndarray]:
    """q, k, v, d_out as [batch, head, row, feature] in the storage type, and mask bytes (nonzero shows)."""
    generator = np.random.default_rng(7)
    (q_heads, kv_heads), (rows, columns), (dim, dim_v) = case.heads, case.lengths, case.dims
    shapes = {
        "q": (case.batch, q_heads, rows, dim),
        "k": (case.batch, kv_heads, columns, dim),
        "v": (case.batch, kv_heads, columns, dim_v),
        "d_out": (case.batch, q_heads, rows, dim_v),
    }
    tensors = {name: encode(generator.standard_normal(shape), dtype) for name, shape in shapes.items()}
    if case.bytes:
        shown = generator.random((case.batch, 1, rows, columns)) < 0.6
        shown[..., rows // 2, :] = False
        tensors["shown"] = shown.astype(np.uint8)
    return tensors


def _sequences(case: Case) -> list[tuple[int, slice, slice]]:
    """(batch index, its rows, its columns) of every sequence."""
    if case.ends is None:
        return [(b, slice(0, case.lengths[0]), slice(0, case.lengths[1])) for b in range(case.batch)]
    q_ends, kv_ends = ((0, *ends) for ends in case.ends)
    return [(0, slice(*q_ends[i : i + 2]), slice(*kv_ends[i : i + 2])) for i in range(len(case.ends[0]))]


def _visible(case: Case, shown, b: int, rows: slice, columns: slice) -> np.ndarray:
    """bool [rows, columns] of one sequence, by the definition of the bands."""
    q_len, kv_len = rows.stop - rows.start, columns.stop - columns.start
    offset = np.arange(kv_len)[None, :] - np.arange(q_len)[:, None]  # column minus row
    visible = np.ones((q_len, kv_len), bool) if shown is None else shown[b, 0, rows, columns] != 0
    for band, shift in ((case.mask.top_left, 0), (case.mask.bottom_right, kv_len - q_len)):
        visible &= (offset - shift >= -band.left) & (offset - shift <= band.right)
    return visible


def _expected(case: Case, stored: dict) -> dict[str, np.ndarray]:
    """Every output by the formula, and as "... scale" the sums of absolute values that errors scale with."""
    tensors = {name: decode(stored[name]) for name in ("q", "k", "v", "d_out")}
    result = {"out": np.zeros(tensors["d_out"].shape)}
    result |= {"d" + name: np.zeros(tensors[name].shape) for name in "qkv"}
    result |= {name + " scale": np.zeros(value.shape) for name, value in list(result.items())}
    statistics_shape = tensors["q"].shape[:3]
    result |= {name: np.full(statistics_shape, np.nan) for name in ("max", "sum")}
    group = case.heads[0] // case.heads[1]
    for b, rows, columns in _sequences(case):
        visible = _visible(case, stored.get("shown"), b, rows, columns)
        for n in range(case.heads[0]):
            at_q, at_k = (b, n, rows), (b, n // group, columns)
            head = [tensors["q"][at_q], tensors["k"][at_k], tensors["v"][at_k], tensors["d_out"][at_q]]
            _add_head(result, at_q, at_k, head, visible)
    return result


def _add_head(result: dict, at_q, at_k, head, visible) -> None:
    """One head's part of _expected: key heads of a group add up."""
    q, k, v, d_out = head
    scale = q.shape[1] ** -0.5
    p, result["max"][at_q], result["sum"][at_q] = formula.probabilities(q, k, scale, visible)
    result["out"][at_q] = p @ v
    result["out scale"][at_q] = p @ np.abs(v)
    for name, at, part in zip(
        GRADIENTS, (at_q, at_k, at_k), formula.backward(q, k, v, d_out, scale, visible)
    ):
        result[name][at] += part
    dp = np.abs(d_out) @ np.abs(v).T
    ds = p * (dp + (p * dp).sum(axis=1, keepdims=True))
    result["dq scale"][at_q] += scale * (ds @ np.abs(k))
    result["dk scale"][at_k] += scale * (ds.T @ np.abs(q))
    result["dv scale"][at_k] += p.T @ np.abs(d_out)


def _computed(case: Case, dtype: str, lane: str, inputs: dict) -> dict[str, np.ndarray]:
    """Every output by the library on `lane`. Outputs are not-a-number before, so that a hole shows."""
    hole = encode(np.float64([np.nan]), dtype)[0] if dtype != "bf16" else np.uint16(0x7FC0)
    tensors = dict(inputs) | {"out": np.full_like(inputs["d_out"], hole)}
    tensors |= {"d" + name: np.full_like(inputs[name], hole) for name in "qkv"}
    statistics = {name: np.full(inputs["q"].shape[:3], np.nan, np.float32) for name in ("max", "sum")}
    problem = _problem(case, dtype, tensors, statistics)
    options = _native.new_options(lane)
    ends = [np.array(e, np.int64) for e in case.ends or ()]  # alive until both runs are done
    if ends:
        problem.batch = len(ends[0])
        problem.q_ends, problem.kv_ends = (e.ctypes.data for e in ends)
    _native.forward(problem, options)
    _native.backward(problem, options)
    return {name: decode(tensors[name]) for name in ("out", *GRADIENTS)} | statistics


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
    return problem


def _strides(array: np.ndarray) -> list[int]:
    return [stride // array.itemsize for stride in array.strides[:3]]


def _errors(got: dict, wanted: dict, dtype: str) -> list[tuple[str, float, float]]:
    """(tensor, error, allowed) of out, the gradients, and the log-sum-exp of every row of a sequence."""
    result = []
    for name in ("out", *GRADIENTS):
        difference = np.abs(got[name] - wanted[name])
        scale = np.maximum(wanted[name + " scale"], SMALLEST[dtype] / ALLOWED[dtype])
        dead = wanted[name + " scale"] == 0  # a row that sees nothing is exactly zero
        error = np.where(dead & (difference != 0), np.inf, difference / scale)
        result.append((name, float(error.max(initial=0.0)), ALLOWED[dtype]))
    empty = wanted["max"] == formula.LOWEST
    nobody = np.isnan(wanted["max"])  # rows of no sequence have no statistics
    exact = (got["max"] == np.float32(formula.LOWEST)) & (got["sum"] == np.float32(formula.LARGEST))
    known = ~empty & ~nobody
    lse = [
        np.log(part["sum"], where=known, out=np.zeros(known.shape)) + part["max"] for part in (got, wanted)
    ]
    error = np.where(known, np.abs(lse[0] - lse[1]), np.where(empty & ~exact, np.inf, 0.0))
    result.append(("lse", float(error.max(initial=0.0)), ALLOWED_LSE[dtype]))
    return result
