"""Bandwidth of the compression of keys, forward and backward: python bench/compress.py [threads].

Useful bytes: forward the tokens and the windows' sums, backward both and the gradients of the tokens.
"""

import sys

import torch
from bandwidth import keep_memory, report
from fusedattn import nsa_compress

T, N, D = 65536, 8, 128


def main() -> None:
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    torch.set_num_threads(threads)
    keep_memory()
    for block, stride in ((32, 16), (64, 16), (128, 16)):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            tokens, weight = (torch.rand(shape).to(dtype).requires_grad_() for shape in ((T, N, D), (block, N)))
            out = nsa_compress(tokens, weight, None, block, stride)
            d_out, size = torch.rand_like(out), (tokens.numel() + out.numel()) * tokens.element_size()
            name = f"{block}/{stride} {dtype}"
            constants = tokens.detach(), weight.detach(), None, block, stride
            report(f"{name} forward", lambda: nsa_compress(*constants), size, threads)
            backward = lambda: torch.autograd.grad(out, (tokens, weight), d_out, retain_graph=True)  # noqa: E731
            report(f"{name} backward", backward, size + tokens.numel() * tokens.element_size(), threads)


main()
