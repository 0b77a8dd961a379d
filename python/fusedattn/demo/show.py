"""The course of the demonstration: what runs in which order, and the verdict."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Sequence

import torch

from fusedattn import _native
from fusedattn.demo import encoder, golden, report
from fusedattn.demo.cases import CASES, KINDS, Case
from fusedattn.demo.measure import run_cell

DTYPES = (torch.float16, torch.bfloat16)


def run(cases: Sequence[Case] = CASES, with_encoder: bool = True, console=None) -> int:
    """Shows the cases and the encoder, then one line of verdict. Returns the exit status: 0 if all holds."""
    start = time.perf_counter()
    cells = list(itertools.product(cases, DTYPES, (False, True)))
    failures: list[str] = []
    with report.Report(len(cells) + with_encoder, console) as page:
        if cells:
            _headings(page, cases)
        for cell in cells:
            failures += _show_cell(page, *cell)
        if with_encoder:
            failures += _show_encoder(page)
    shown = " and ".join([f"{len(cells)} cells"] * bool(cells) + ["the encoder"] * with_encoder)
    spent = f"{time.perf_counter() - start:.0f} s, {_peak_gib():.1f} GiB at most"
    page.line()
    if failures:
        page.line(f"demo: FAILED in {'; '.join(failures)} ({spent})", "bold red")
        return 1
    page.line(f"demo: everything holds, {shown} ({spent})", "bold green")
    return 0


def _headings(page: report.Report, cases: Sequence[Case]) -> None:
    threads, owner = _native.threads()
    lane = f"lane {_native.lane_chosen()}, {threads} threads ({owner}), torch {torch.__version__}"
    page.line(f"(a) npu_fusion_attention, BNSD, {lane}")
    for kind, meaning in KINDS.items():
        ids = ", ".join(str(case.id) for case in cases if case.kind == kind)
        if ids:
            page.line(f"    inputs of case {ids}: {meaning}")
    page.line(report.LEGEND)
    if any(case.length > golden.NATIVE_LENGTH for case in cases):
        page.line(f"    Beyond length {golden.NATIVE_LENGTH} they form each product in float32 and round it.")
    page.line()


def _show_cell(page: report.Report, case: Case, dtype: torch.dtype, causal: bool) -> list[str]:
    name = report.cell_name(case, dtype, causal)
    page.begin(name)
    result = run_cell(case, dtype, causal)
    page.lines(report.cell_lines(result), good=not result.failures)
    page.done()
    return [f"case {name}"] if result.failures else []


def _show_encoder(page: report.Report) -> list[str]:
    page.begin("sentence encoder")
    page.line()
    page.line('(b) all-MiniLM-L6-v2 by transformers, attn_implementation="fusedattn", float32')
    outcome = encoder.show()
    page.lines(report.outcome_lines(outcome), good=outcome.embeddings_hold and outcome.gradients_hold)
    page.done()
    wrong = {"embeddings": outcome.embeddings_hold, "fine-tuning": outcome.gradients_hold}
    return [f"the encoder's {what}" for what, holds in wrong.items() if not holds]


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
