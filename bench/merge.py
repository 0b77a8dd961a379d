"""Bandwidth of joining two parts, in turn with what the limit probe reads: python bench/merge.py [threads].

Useful bytes: the outputs of both parts and of the result, and three pairs of statistics of eight lanes.
"""

import sys

import torch
from bandwidth import report
from fusedattn import _native, joint
from fusedattn.problem import Operand

B, N, S, D, LANES = 1, 32, 8192, 128, 8
SHAPES = {"SBND": (S, B, N, D), "BNSD": (B, N, S, D)}


def merge_of(layout: str, dtype: torch.dtype):
    """A filled merge, the tensors it points to, its useful bytes."""
    sides = [
        (torch.rand(SHAPES[layout]).to(dtype), *(torch.rand(B, N, S, 1).add(1).repeat(1, 1, 1, LANES) for _ in range(2)))
        for _ in range(3)
    ]
    name = str(dtype).removeprefix("torch.").upper()
    merge = joint.Joint(getattr(_native, name), layout, joint.LANES, 2, formula=True, lse=False)
    operands = [Operand(tuple(t.shape), t.stride()) for t in sides[0]]
    merge.size(operands[0], None)
    for index, side in zip((0, 1, None), sides):
        merge.point(index, *operands[:2], [t.data_ptr() for t in side])
    return merge, sides, sum(t.numel() * t.element_size() for side in sides for t in side)


def main() -> None:
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    torch.set_num_threads(threads)
    for layout in SHAPES:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            merge, sides, size = merge_of(layout, dtype)
            report(f"{layout} {dtype}", merge.run, size, threads)


main()
