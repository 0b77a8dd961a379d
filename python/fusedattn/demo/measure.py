"""One cell of the demonstration: a case in one type, causal or not, run, compared and timed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from fusedattn.demo import golden, speed
from fusedattn.demo.cases import Case, tensors
from fusedattn.like.torch_npu import npu_fusion_attention

SPOT_FACTOR = 4.0  # rows of other heads may hold larger numbers than those of the heads compared in full
GOLDEN_SCORES = (
    2048**2
)  # scores of the heads compared in full: so many cost half a second in torch's 16-bit products


@dataclass(frozen=True)
class Result:
    """What a cell showed. heads: how many were compared in full."""

    case: Case
    dtype: torch.dtype
    causal: bool
    heads: int
    errors: list[golden.Error]
    spots: dict[str, float]
    forward: speed.Timing
    backward: speed.Timing

    @property
    def failures(self) -> list[str]:
        """The tensors whose error is too large, in words; empty if the cell holds."""
        return [sentence for error in self.errors for sentence in self._failures_of(error)]

    def _failures_of(self, error: golden.Error) -> list[str]:
        found = []
        if not error.holds:
            found.append(
                f"{error.name}: error {error.ours:.3g} (rms {error.ours_rms:.3g}) against {error.rival:.3g} "
                f"(rms {error.rival_rms:.3g}) of the small operators"
                + ("" if error.vanishing_ok else "; a gradient row that should vanish does not")
            )
        if not self.spots[error.name] <= SPOT_FACTOR * error.rival:
            found.append(
                f"{error.name}: error {self.spots[error.name]:.3g} in a head outside the full comparison"
            )
        return found


def run_cell(case: Case, dtype: torch.dtype, causal: bool) -> Result:
    """Runs all heads through `npu_fusion_attention`; compares some heads in full and all in places."""
    *qkv, d_out = tensors(case, dtype)
    outputs, gradients, seconds, limit = _run(case, qkv, d_out, causal)
    inputs = [t.detach().flatten(0, 1) for t in (*qkv, d_out)]
    ours = [t.detach().flatten(0, 1) for t in (outputs[0], *gradients)]
    log_sum = (outputs[1][..., 0] + outputs[2][..., 0].log()).flatten(0, 1)
    heads = sampled_heads(case)
    hidden = _hidden(case.length) if causal else None
    errors = golden.errors([t[heads] for t in inputs], [t[heads] for t in ours], hidden, case.scale)
    spots = golden.spots(inputs, ours, log_sum, causal, case.scale)
    forward, backward = speed.timings(case, causal, seconds, limit, speed.peer(case, inputs, causal))
    return Result(case, dtype, causal, len(heads), errors, spots, forward, backward)


def _run(case: Case, qkv, d_out, causal: bool):
    """(the 7-tuple, gradients, (forward, backward) seconds, the limit measured before and after)."""
    qkv = [t.requires_grad_() for t in qkv]
    arguments = {"atten_mask": _hidden(2048), "sparse_mode": 2} if causal else {}
    before = speed.machine_limit(d_out.dtype)
    outputs, forward = speed.timed(
        lambda: npu_fusion_attention(*qkv, case.heads, "BNSD", scale=case.scale, **arguments)
    )
    gradients, backward = speed.timed(lambda: torch.autograd.grad(outputs[0], qkv, d_out, retain_graph=True))
    return outputs, gradients, (forward, backward), (before + speed.machine_limit(d_out.dtype)) / 2


def sampled_heads(case: Case) -> list[int]:
    """The heads that are compared in full, spread evenly from the first to the last of all batches."""
    count = max(1, min(4, GOLDEN_SCORES // case.length**2))
    return torch.linspace(case.batch * case.heads - 1, 0, count).long().tolist()


@cache
def _hidden(length: int) -> torch.Tensor:
    """The causal atten_mask, bool [length, length], True hides. Sparse mode 2 takes 2048 for any length."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)
