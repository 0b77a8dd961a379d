"""Times of a cell: ours against the machine's limit, and torch's own attention beside it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fusedattn import _native, probe
from fusedattn.demo.cases import Case

# Torch is timed on as many heads as make this much forward work: its fp16 backward can take minutes.
PEER_FLOPS = 2e9


@dataclass(frozen=True)
class Timing:
    """One direction of one cell: seconds of all heads, share of the machine's limit, and torch's seconds.

    sampled: torch ran on fewer heads, and its time was scaled by their number.
    """

    seconds: float
    share: float
    torch_seconds: float
    sampled: bool

    @property
    def ratio(self) -> float:
        return self.torch_seconds / self.seconds


def timed(function: Callable, budget: float = 0.25, most: int = 5):
    """Calls function once, and again while the calls fit into the budget: (result, median seconds)."""
    seconds: list[float] = []
    while not seconds or (len(seconds) < most and sum(seconds) < budget):
        result = None  # the previous result must not stay alive beside the next one
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds)


def machine_limit(dtype: torch.dtype, seconds: float = 0.05) -> float:
    """Flops a second that attention in dtype cannot exceed, on the chosen lane and all threads it uses."""
    threads, _ = _native.threads()
    return 1e9 * probe.limit(str(dtype).removeprefix("torch."), _native.lane_chosen(), threads, seconds)


def peer(case: Case, inputs, causal: bool) -> tuple[float, float, int]:
    """torch's scaled_dot_product_attention on some heads: (forward seconds, backward seconds, heads).

    inputs: q, k, v, d_out as [heads, S, D]. It runs in the type of the inputs, as ours does.
    """
    heads = peer_heads(case)
    *qkv, d_out = (t[:heads].unsqueeze(0) for t in inputs)
    qkv = [t.detach().requires_grad_() for t in qkv]

    def forward():
        return torch.nn.functional.scaled_dot_product_attention(*qkv, is_causal=causal, scale=case.scale)

    out, forward_seconds = timed(forward)
    _, backward_seconds = timed(lambda: torch.autograd.grad(out, qkv, d_out, retain_graph=True))
    return forward_seconds, backward_seconds, heads


def peer_heads(case: Case) -> int:
    """Enough heads for PEER_FLOPS, a multiple of torch's threads so that none is idle, at most all."""
    threads = torch.get_num_threads()
    rounds = math.ceil(PEER_FLOPS / (case.flops(causal=False, backward=False, heads=threads)))
    return min(case.batch * case.heads, threads * rounds)


def timings(
    case: Case, causal: bool, ours: tuple[float, float], limit: float, theirs
) -> tuple[Timing, Timing]:
    """Forward and backward of a cell. ours: seconds of both; theirs: what `peer` returned."""
    all_heads = case.batch * case.heads
    heads = theirs[2]
    return tuple(
        Timing(
            seconds=seconds,
            share=case.flops(causal, backward) / seconds / limit,
            torch_seconds=torch_seconds * all_heads / heads,
            sampled=heads < all_heads,
        )
        for backward, seconds, torch_seconds in zip((False, True), ours, theirs[:2], strict=True)
    )
