"""FlashAttentionScore in float64 as the contract words it, sequence by sequence; gradients by torch's autograd.

A Case holds tensors in the shapes of BNSD (TND: [T,N,D]) and the arguments of the operator under the names of
npu_fusion_attention_v2. golden() and the operator are compared within the tolerances of assert_like().
"""

from dataclasses import dataclass, field

import numpy
import torch

FLOW, FMAX = torch.finfo(torch.float32).min, torch.finfo(torch.float32).max
INF = 2**31 - 1
# relative and absolute tolerance of one element, or of the tensor's root mean square where that is larger
TOLERANCE = {torch.float16: (5e-3, 1e-3), torch.bfloat16: (1.6e-2, 4e-3), torch.float32: (1e-4, 1e-5)}
LEAVES = ("query", "key", "value", "query_rope", "key_rope", "sink")


@dataclass
class Case:
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    ends: tuple | None = None  # (cumulative q, cumulative kv) with TND
    sparse_mode: int = 0
    mask: torch.Tensor | None = None  # what atten_mask is called with
    pre: int = INF
    next: int = INF
    prefix: list | None = None
    pse: torch.Tensor | None = None
    pse_type: int = 1
    starts: tuple | None = None  # q_start_idx[0], kv_start_idx[0]
    bits: torch.Tensor | None = None  # packed bytes of dropout
    keep_prob: float = 1.0
    sink: torch.Tensor | None = None
    query_rope: torch.Tensor | None = None
    key_rope: torch.Tensor | None = None
    scale: float = 0.3
    precision: torch.dtype = torch.float64  # of the golden; float32 is enough for large 16-bit cases
    leaves: dict = field(default_factory=dict)

    @property
    def heads(self) -> int:
        return self.query.shape[1]


def draw(*shape, dtype=torch.float32):
    """Uniform in [-1, 1], in the storage type."""
    return (torch.rand(shape) * 2 - 1).to(dtype)


def keep(mode, rows, columns, pre=INF, following=INF, mask=None, prefix=0, band=False):
    """bool [rows, columns], or what mask broadcasts to: whether (i, j) takes part, for one sequence with a mask."""
    i, j = torch.arange(rows).unsqueeze(1), torch.arange(columns)
    delta = columns - rows
    if mode in (0, 1, 5):
        shown = mask == 0
        return shown & (-pre <= j - i) & (j - i <= following) if mode == 0 else shown
    if mode == 2 or (mode == 8 and not band):
        return j <= i
    if mode == 3 or (mode == 7 and not band):
        return j <= i + delta
    if mode in (4, 7, 8):
        return (i + delta - pre <= j) & (j <= i + delta + following)
    assert mode == 6
    return (j <= i + delta) | (j < prefix)


def lengths(case):
    """(first row, rows, first column, columns) of every sequence of a TND case."""
    q, kv = ((0, *ends) for ends in case.ends)
    return [(q[b], q[b + 1] - q[b], kv[b], kv[b + 1] - kv[b]) for b in range(len(q) - 1)]


def shift(case, b, rows, columns, before):
    """pse of sequence b as [N, rows, columns] in float64; before: scores of the sequences before, and their columns."""
    pse, heads = case.pse.to(case.precision), case.heads
    i, j = torch.arange(rows).unsqueeze(1), torch.arange(columns)
    if case.pse_type in (2, 3):
        starts = case.starts if case.starts and not (case.sparse_mode == 8 and b) else (0, 0)
        distance = (j + starts[1] - i - starts[0]).abs().to(case.precision)
        slopes = pse[b] if pse.dim() == 2 else pse
        return -slopes.view(-1, 1, 1) * (distance if case.pse_type == 2 else distance.sqrt())
    if pse.dim() == 4 and pse.shape[2] == 1024 and (case.ends or rows > 1024):
        own = pse[b % pse.shape[0]]
        return _last_rows(own, i - j, pse.shape[3])
    if pse.dim() == 4 and not case.ends:
        return pse[b % pse.shape[0]].expand(heads, rows, columns)
    scores_before, columns_before = before
    if pse.shape[0] == heads * sum(r * c for _, r, _, c in lengths(case)):
        block = pse.flatten()[heads * scores_before :][: heads * rows * columns]
        return block.view(heads, rows, columns)
    block = pse.flatten()[heads * columns_before :][: heads * columns]
    return block.view(heads, 1, columns).expand(heads, rows, columns)


def _last_rows(pse, distance, longest):
    """The element of the supplied rows with the same row - column, counted as the contract does for TND."""
    threshold = longest - 1024
    below = (distance - threshold).clamp(min=0, max=1023)
    right = (threshold - distance).clamp(min=0, max=longest - 1)
    return torch.where(distance >= threshold, pse[:, below, 0], pse[:, 0, right])


def attend(case, q, k, v, kept, pse, bits, sink):
    """(out, max, sum) of one sequence: q [N,Sq,D], k [N2,Skv,D]; kept bool or None; all float64."""
    group = q.shape[0] // k.shape[0]
    k, v = (t.repeat_interleave(group, 0) for t in (k, v))
    s = q @ k.transpose(-1, -2)
    x = (
        s * case.scale
        if pse is None
        else (s + pse) * case.scale if case.pse_type == 1 else s * case.scale + pse
    )
    if x.shape[-1] == 0:
        zero = x.sum(-1)
        return zero.unsqueeze(-1) * v.new_zeros(v.shape[-1]), zero, zero
    kept = torch.ones_like(x, dtype=torch.bool) if kept is None else kept.expand(x.shape)
    x = x.masked_fill(~kept, -torch.inf)
    sees = kept.any(-1)
    top = torch.where(sees, x.amax(-1), FLOW)
    if sink is not None:
        top = torch.maximum(top, sink.view(-1, 1).expand(top.shape))
        sees = torch.ones_like(sees)
    top = top.detach()
    e = torch.where(kept, (x - top.unsqueeze(-1)).exp(), 0.0)
    total = e.sum(-1) + (0 if sink is None else (sink.view(-1, 1) - top).exp())
    p = e if bits is None else e * bits.to(e.dtype) / numpy.float32(case.keep_prob).item()
    out = (p / torch.where(sees, total, 1.0).unsqueeze(-1)) @ v
    return out, top, torch.where(sees, total, FMAX)


def unpacked(bits, count):
    """bool [count] of packed bytes, lowest bit first."""
    return torch.from_numpy(
        numpy.unpackbits(bits.flatten().numpy(), bitorder="little", count=count).astype(bool)
    )


def sequences(case):
    """(index, rows, columns, kept, pse, bits) of every sequence; None where there is none."""
    packed = case.ends is not None
    sizes = (
        lengths(case) if packed else [(0, case.query.shape[2], 0, case.key.shape[2])] * case.query.shape[0]
    )
    with_rows = [b for b, size in enumerate(sizes) if size[1]]
    heads, scores_before, columns_before = case.heads, 0, 0
    every = None if case.bits is None else unpacked(case.bits, heads * sum(r * c for _, r, _, c in sizes))
    for b, (row, rows, column, columns) in enumerate(sizes):
        band = bool(with_rows) and b == (with_rows[-1] if case.sparse_mode == 7 else with_rows[0])
        kept = None
        if case.mask is not None:
            mask = _mask_of(case, b, row, rows, column, columns)
            prefix = case.prefix[b] if case.sparse_mode == 6 else 0
            kept = keep(case.sparse_mode, rows, columns, case.pre, case.next, mask, prefix, band)
        pse = None if case.pse is None else shift(case, b, rows, columns, (scores_before, columns_before))
        bits = None
        if every is not None:
            bits = every[heads * scores_before :][: heads * rows * columns].view(heads, rows, columns)
        yield b, slice(row, row + rows), slice(column, column + columns), kept, pse, bits
        scores_before, columns_before = scores_before + rows * columns, columns_before + columns


def _mask_of(case, b, row, rows, column, columns):
    """The mask elements of a sequence, [rows, columns] or [heads or 1, rows, columns]; of full masks alone."""
    if case.sparse_mode not in (0, 1, 5):
        return None
    mask = case.mask
    if mask.dim() == 4:
        return mask[b % mask.shape[0]][:, :rows, :columns]
    if case.ends:
        longest = [max(size) for size in zip(*((r, c) for _, r, _, c in lengths(case)))]
        if list(mask.shape) != longest:
            return mask[row : row + rows, column : column + columns]
    return mask[:rows, :columns]


def golden(case):
    """(out, max, sum) in float64 over leaves case.leaves: out as query with Dv; statistics per sequence [N,Sq]."""
    case.leaves = {
        name: getattr(case, name).detach().to(case.precision).requires_grad_()
        for name in LEAVES
        if getattr(case, name) is not None
    }
    q, k, v, q_rope, k_rope, sink = (case.leaves.get(name) for name in LEAVES)
    if q_rope is not None:
        q, k = torch.cat((q, q_rope), -1), torch.cat((k, k_rope), -1)
    parts, statistics = [], []
    for b, rows, columns, *words in sequences(case):
        if case.ends:
            own = [t[where].transpose(0, 1) for t, where in ((q, rows), (k, columns), (v, columns))]
        else:
            own = [q[b], k[b], v[b]]
        out, top, total = attend(case, *own, *words, sink)
        parts.append(out.transpose(0, 1) if case.ends else out)
        statistics.append((top.detach(), total.detach()))
    if not case.ends:
        return torch.stack(parts), statistics
    out = torch.cat(parts)
    tail = out.new_zeros(q.shape[0] - out.shape[0], *out.shape[1:])
    return torch.cat((out, tail)), statistics


def assert_like(got, want, what, gradient=False, dtype=None):
    """Every element within TOLERANCE; of gradients, 0.5 % may have up to four times the error.

    dtype: of the tensors that the result is computed from, where its own is wider.
    """
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, wanted {tuple(want.shape)}"
    if want.numel() == 0:
        return
    want = want.detach()
    relative, absolute = TOLERANCE[dtype or got.dtype]
    size = torch.maximum(want.abs(), want.square().mean().sqrt())
    excess = (got.detach().double() - want).abs() / (absolute + relative * size)
    worst, beyond = excess.max().item(), (excess > 1).double().mean().item()
    assert worst <= (
        4 if gradient else 1
    ), f"{what}: error is {worst:.2f} times what {dtype or got.dtype} is allowed"
    assert beyond <= 0.005, f"{what}: {100 * beyond:.2f} % of the elements are beyond the tolerance"


def assert_statistic(got, want, name):
    """A statistic of one sequence, [N,Sq]: rows that see nothing have exactly the agreed numbers."""
    want = want.double()
    exact = want.abs() >= FMAX
    assert (got[exact].double() == want[exact]).all(), name
    relative, absolute = (1e-4, 1e-3) if name == "max" else (1e-3, 0)
    torch.testing.assert_close(got[~exact].double(), want[~exact], rtol=relative, atol=absolute)
