"""Nothing is read or written beyond the last row: every tensor ends where an unreadable page begins."""

import ctypes
import mmap

import fusedattn
import golden
import pytest
import torch
from fusedattn import causal

_NOTHING = 0  # PROT_NONE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Guarded:
    """A tensor in memory of its own whose last byte lies before an unreadable page."""

    def __init__(self, tensor):
        size = tensor.numel() * tensor.element_size()
        pages = -(-size // mmap.PAGESIZE)
        self._memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._wall = start + pages * mmap.PAGESIZE
        self.tensor = torch.frombuffer(
            self._memory, dtype=tensor.dtype, count=tensor.numel(), offset=pages * mmap.PAGESIZE - size
        ).view(tensor.shape)
        self.tensor.copy_(tensor)
        assert _libc.mprotect(self._wall, mmap.PAGESIZE, _NOTHING) == 0

    def open(self):
        assert _libc.mprotect(self._wall, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "sizes", [(33, 57, 64, 40), (1, 1, 1, 1), (5, 7, 21, 13), (70, 66, 125, 128)], ids=str
)
def test_inputs_are_not_read_past_their_end(sizes, dtype):
    rows, columns, dim, dim_v = sizes
    shapes = (1, 2, rows, dim), (1, 1, columns, dim), (1, 1, columns, dim_v), (1, 2, rows, dim_v)
    plain = [golden.draw(*shape, dtype=dtype) for shape in shapes]
    shown = torch.rand(rows, columns) > 0.3
    guarded = [Guarded(t) for t in (*plain, shown)]
    try:
        for masks in ((causal(), causal()), (shown, guarded[4].tensor)):
            wanted, got = (
                run(*tensors, mask) for tensors, mask in zip((plain, [g.tensor for g in guarded[:4]]), masks)
            )
            assert all(torch.equal(a, b) for a, b in zip(got, wanted))
    finally:
        for guard in guarded:
            guard.open()


def run(q, k, v, d_out, mask):
    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
    out = fusedattn.attention(*leaves, mask=mask)
    return out.detach(), *torch.autograd.grad(out, leaves, d_out)
