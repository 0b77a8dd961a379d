"""Joining partial attention under torch_npu's names: the formula, layouts, special values, compiled calls."""

import math

import fusedattn
import pytest
import torch
from fusedattn.like.torch_npu_ring import npu_attention_update, npu_ring_attention_update

TYPES = [torch.float32, torch.bfloat16, torch.float16]
FLT_MAX = torch.finfo(torch.float32).max
KNOWN = [  # max, sum, out of both sides; joint max, sum, out
    ((1, 2, [1, -2, 0.5, 4]), (3, 0.5, [0.25, 8, -1, 0]), (3, 0.770670566, [0.513410767, 4.48785644, -0.473178466, 1.40485742])),
    ((-5, 100, [1, 2, 3, 4]), (-5, 100, [3, 2, 1, 0]), (-5, 200, [2, 2, 2, 2])),
    ((-FLT_MAX, 7, [9, 9, 9, 9]), (0.25, 3, [1, 2, 3, 4]), (0.25, 3, [1, 2, 3, 4])),
    ((0, 1, [1, 1, 1, 1]), (200, 1, [2, 2, 2, 2]), (200, 1, [2, 2, 2, 2])),
    ((-math.inf, 0, [0, 0, 0, 0]), (0.5, 2, [1, 2, 3, 4]), (0.5, 2, [1, 2, 3, 4])),
]  # fmt: skip


def lanes(statistic):
    return statistic.unsqueeze(-1).expand(*statistic.shape, 8).contiguous()


def draw(shape, heads, dtype, packed=False):
    """(out, max, sum) of one side: SBH [S,B,H], or packed [T,N,D]."""
    rows = shape[:2] if packed else (shape[1], heads, shape[0])
    return torch.randn(shape).to(dtype), lanes(torch.randn(rows) * 3), lanes(torch.rand(rows) * 50 + 0.1)


def formula(prev, cur, heads):
    """The operator in float64, SBH or [T,N,D] with statistics [T,N,8]."""
    (out_p, max_p, sum_p), (out_c, max_c, sum_c) = ([t.double() for t in side] for side in (prev, cur))
    top = torch.maximum(max_p, max_c)
    t_p, t_c = sum_p * torch.exp(max_p - top), sum_c * torch.exp(max_c - top)
    total = t_p + t_c

    def spread(weight):
        weight = weight[..., 0]
        if weight.dim() == 3:
            return weight.permute(2, 0, 1).repeat_interleave(out_p.shape[-1] // heads, dim=-1)
        return weight.unsqueeze(-1)

    return out_p * spread(t_p / total) + out_c * spread(t_c / total), top, total


def check_near(got, want, dtype):
    """fp32: relative 2^-20 of the largest; 16-bit: one rounding more. max exactly, sum within 8 ulp."""
    (out, top, total), (want_out, want_top, want_total) = got, want
    assert out.dtype == dtype and out.is_contiguous()
    unit = {torch.float32: 2.0**-20, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}[dtype]
    torch.testing.assert_close(out.double(), want_out, rtol=unit, atol=2.0**-20)
    assert torch.equal(top.double(), want_top)
    torch.testing.assert_close(total.double(), want_total, rtol=2.0**-20, atol=0)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_shapes_of_op_plugin(dtype):
    prev, cur = draw((4, 2, 32), 2, dtype), draw((4, 2, 32), 2, dtype)
    check_near(npu_ring_attention_update(*prev, *cur), formula(prev, cur, 2), dtype)
    prev, cur = draw((5, 2, 64), 2, dtype, packed=True), draw((5, 2, 64), 2, dtype, packed=True)
    got = npu_ring_attention_update(
        *prev, *cur, actual_seq_qlen=torch.tensor([2, 5]), input_layout="TND", input_softmax_layout="TND"
    )
    check_near(got, formula(prev, cur, 2), dtype)


@pytest.mark.parametrize(
    "dtype, shape, tolerance",
    [
        (torch.bfloat16, (1, 32, 512, 128), 5e-3),
        (torch.float16, (1, 8, 512, 128), 1e-3),
        (torch.float32, (1, 8, 512, 128), 1e-4),
        (torch.float32, (2, 12, 64, 22), 1e-4),
        (torch.bfloat16, (1, 32, 8192, 128), 5e-3),
    ],
)
def test_the_shapes_of_mindspeed(dtype, shape, tolerance):
    B, N, S, D = shape
    prev, cur = (
        (torch.rand(S, B, N * D).to(dtype), lanes(torch.rand(B, N, S)), lanes(torch.rand(B, N, S))) for _ in range(2)
    )
    rows = slice(0, S, max(1, S // 512))  # of the large case, some
    for have, want in zip(npu_ring_attention_update(*prev, *cur), formula(*_rows(prev, cur, rows), N)):
        have = have[rows] if have.dim() == 3 else have[:, :, rows]
        torch.testing.assert_close(have.double(), want, atol=tolerance, rtol=tolerance)


def _rows(prev, cur, rows):
    return [(out[rows], top[:, :, rows], total[:, :, rows]) for out, top, total in (prev, cur)]


@pytest.mark.parametrize("case", KNOWN)
def test_known_answers(case):
    sides = [(torch.tensor([[o]], dtype=torch.float32), *(torch.full((1, 1, 1, 8), float(x)) for x in (m, s))) for m, s, o in case]
    got = npu_ring_attention_update(*sides[0], *sides[1])
    for have, want in zip(got, sides[2]):
        torch.testing.assert_close(have, want, rtol=1e-6, atol=0)
    parts = [(out.view(1, 1, 1, 4), top[..., 0], total[..., 0]) for out, top, total in sides]
    for have, want in zip(fusedattn.merge(parts[:2]), parts[2]):
        torch.testing.assert_close(have, want, rtol=1e-6, atol=0)


def special(max_p, sum_p, max_c, sum_c, out_p=1.0, out_c=2.0):
    sides = [
        (torch.full((1, 1, 3), float(o)), *(torch.full((1, 1, 1, 8), float(x)) for x in (m, s)))
        for m, s, o in ((max_p, sum_p, out_p), (max_c, sum_c, out_c))
    ]
    out, top, total = npu_ring_attention_update(*sides[0], *sides[1])
    assert torch.all((out == out[0, 0, 0]) | out.isnan())
    return [t.flatten()[0].item() for t in (out, top, total)]


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    "given, wanted",
    [
        ((-INF, 0, 1, 3), (2, 1, 3)),
        ((-INF, 0, 1, 3, NAN), (NAN, 1, 3)),  # 0 * NaN
        ((-INF, 0, 1, 3, INF), (NAN, 1, 3)),  # 0 * inf
        ((-INF, 0, -INF, 0), (NAN, -INF, NAN)),
        ((1, 0, 2, 0), (NAN, 2, 0)),
        ((-FLT_MAX, FLT_MAX, 1, 3), (2, 1, 3)),
        ((-FLT_MAX, FLT_MAX, -FLT_MAX, FLT_MAX, 0, 0), (0, -FLT_MAX, FLT_MAX)),
        ((NAN, 1, 2, 3), (NAN, NAN, NAN)),
        ((2, 3, NAN, 1), (NAN, NAN, NAN)),
        ((1, NAN, 2, 3), (NAN, 2, NAN)),
        ((INF, 1, 2, 3), (NAN, INF, NAN)),
        ((0, 1, 0, 1, INF, 2), (INF, 0, 2)),
        ((0, -2, 0, 4), (3, 0, 2)),
        ((0, -2, 0, 2), (NAN, 0, 0)),  # -inf + inf
    ],
)
def test_special_values(given, wanted):
    for have, want in zip(special(*given), wanted):
        assert have == want or (math.isnan(have) and math.isnan(want))


def test_a_row_of_nan_leaves_its_neighbours_alone():
    prev, cur = draw((6, 2, 24), 3, torch.float32), draw((6, 2, 24), 3, torch.float32)
    want = npu_ring_attention_update(*prev, *cur)
    prev[1][1, 2, 4] = math.nan
    got = npu_ring_attention_update(*prev, *cur)
    hit = torch.zeros(6, 2, 3, dtype=torch.bool)
    hit[4, 1, 2] = True
    assert torch.equal(got[0].view(6, 2, 3, 8).isnan().all(-1), hit)
    assert torch.equal(got[0].view(6, 2, 3, 8)[~hit], want[0].view(6, 2, 3, 8)[~hit])


def test_every_lane_is_computed_and_the_first_one_weighs():
    prev, cur = draw((4, 2, 32), 2, torch.float32), draw((4, 2, 32), 2, torch.float32)
    prev, cur = [(o, top + torch.randn_like(top), total + torch.rand_like(total)) for o, top, total in (prev, cur)]
    check_near(npu_ring_attention_update(*prev, *cur), formula(prev, cur, 2), torch.float32)


def in_blocks(statistic, ends):
    """[T,N,8] as its shape says, in the device's default order: one block [N,length,8] per sequence."""
    blocks = [statistic[a:b].transpose(0, 1).flatten() for a, b in zip(ends, ends[1:])]
    return torch.cat(blocks).view(statistic.shape)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ends", [[0, 2, 5], [0, 0, 3, 3, 17, 17], [0, 40]])
def test_blocks_are_token_order_rearranged(dtype, ends):
    prev, cur = draw((ends[-1], 3, 20), 3, dtype, packed=True), draw((ends[-1], 3, 20), 3, dtype, packed=True)
    lengths = torch.tensor(ends)
    want = npu_ring_attention_update(
        *prev, *cur, actual_seq_qlen=lengths, input_layout="TND", input_softmax_layout="TND"
    )
    check_near(want, formula(prev, cur, 3), dtype)
    prev, cur = [(out, in_blocks(top, ends), in_blocks(total, ends)) for out, top, total in (prev, cur)]
    for softmax_layout in ("", "SBH"):
        out, top, total = npu_ring_attention_update(
            *prev, *cur, actual_seq_qlen=lengths, input_layout="TND", input_softmax_layout=softmax_layout
        )
        assert torch.equal(out, want[0])
        assert torch.equal(top, in_blocks(want[1], ends)) and torch.equal(total, in_blocks(want[2], ends))


def test_the_offsets_of_blocks():
    """N = 2, ends 0, 2, 5: row 1 of sequence 0, head 0 is element 8; rows (1,0,1) and (1,1,2) are 40 and 72."""
    place = in_blocks(torch.arange(5 * 2 * 8).view(5, 2, 8), [0, 2, 5]).flatten().tolist()
    assert place.index((0 * 2 + 1) * 8) == 16 and place.index((3 * 2 + 0) * 8) == 40 and place.index((4 * 2 + 1) * 8) == 72


def test_strided_inputs_are_read():
    prev, cur = draw((6, 2, 24), 3, torch.float32), draw((6, 2, 24), 3, torch.float32)
    want = npu_ring_attention_update(*prev, *cur)
    strided = [torch.stack((t, t + 1), dim=-1)[..., 0] for t in prev]
    wide = [torch.cat((t, t), dim=0)[: t.shape[0]] for t in cur]
    for have, expected in zip(npu_ring_attention_update(*strided, *wide), want):
        assert torch.equal(have, expected)
    negated = [torch._neg_view(-t) for t in prev]
    for have, expected in zip(npu_ring_attention_update(*negated, *cur), want):
        assert torch.equal(have, expected)


def test_swapping_the_sides_changes_no_statistic():
    prev, cur = draw((33, 2, 60), 3, torch.bfloat16), draw((33, 2, 60), 3, torch.bfloat16)
    one, other = npu_ring_attention_update(*prev, *cur), npu_ring_attention_update(*cur, *prev)
    assert torch.equal(one[1], other[1]) and torch.equal(one[2], other[2])
    torch.testing.assert_close(one[0], other[0], rtol=2**-7, atol=1e-6)


def test_threads_change_no_bit():
    prev, cur = draw((300, 2, 60), 3, torch.float32), draw((300, 2, 60), 3, torch.float32)
    torch.set_num_threads(1)
    want = npu_ring_attention_update(*prev, *cur)
    torch.set_num_threads(2)
    for have, expected in zip(npu_ring_attention_update(*prev, *cur), want):
        assert torch.equal(have, expected)


def test_a_compiled_call_is_the_call():
    prev, cur = draw((6, 2, 24), 3, torch.float32), draw((6, 2, 24), 3, torch.float32)

    def twice(*given):
        out, top, total = npu_ring_attention_update(*given)
        return npu_ring_attention_update(out, top, total, *given[3:])

    compiled = torch.compile(twice, fullgraph=True, backend="aot_eager")
    for have, want in zip(compiled(*prev, *cur), twice(*prev, *cur)):
        assert torch.equal(have, want)


def test_meta_tensors_have_shapes():
    prev, cur = draw((6, 2, 24), 3, torch.bfloat16), draw((6, 2, 24), 3, torch.bfloat16)
    meta = npu_ring_attention_update(*(t.to("meta") for t in (*prev, *cur)))
    assert [(t.shape, t.dtype, t.device.type) for t in meta] == [(t.shape, t.dtype, "meta") for t in prev]
    prev, cur = draw((5, 2, 8), 2, torch.float32, packed=True), draw((5, 2, 8), 2, torch.float32, packed=True)
    torch.library.opcheck(
        torch.ops.fusedattn.npu_ring_attention_update.default,
        (*prev, *cur, torch.tensor([0, 2, 5]), "TND", ""),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_gradients_are_refused():
    prev, cur = draw((6, 2, 24), 3, torch.float32), draw((6, 2, 24), 3, torch.float32)
    prev[0].requires_grad_()
    with pytest.raises(NotImplementedError, match="prev_attn_out requires grad"):
        npu_ring_attention_update(*prev, *cur)
    with torch.no_grad():
        npu_ring_attention_update(*prev, *cur)
    with pytest.raises(NotImplementedError, match="no derivative"):
        torch.ops.fusedattn.npu_ring_attention_update(*prev, *cur, None, "SBH", "")[0].sum().backward()


# --- npu_attention_update ---


def update_formula(lse, outs):
    lse, outs = torch.stack(lse).double(), torch.stack(outs).double()
    joint = torch.logsumexp(lse, 0)
    return (outs * torch.exp(lse - joint).unsqueeze(-1)).sum(0), joint


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count, rows, width", [(1, 5, 8), (2, 33, 64), (3, 7, 129), (128, 4, 24)])
def test_attention_update(dtype, count, rows, width):
    lse = [torch.randn(rows) * 4 for _ in range(count)]
    outs = [torch.randn(rows, width).to(dtype) for _ in range(count)]
    out, joint = npu_attention_update(lse, outs, 1)
    want, want_joint = update_formula(lse, outs)
    unit = {torch.float32: 2.0**-20, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}[dtype]
    assert out.dtype == dtype and joint.dtype == torch.float32
    torch.testing.assert_close(out.double(), want, rtol=unit, atol=2.0**-20)
    torch.testing.assert_close(joint.double(), want_joint, rtol=2.0**-22, atol=2.0**-22)
    alone, nothing = npu_attention_update(tuple(lse), tuple(outs), 0)
    assert torch.equal(alone, out) and nothing is None


def test_attention_update_of_special_values():
    lse = [torch.tensor([-INF, -INF, 1.0, INF, NAN]), torch.tensor([0.5, -INF, -INF, 1.0, 2.0])]
    outs = [torch.full((5, 8), NAN), torch.full((5, 8), 3.0)]
    outs[0][2:] = 7.0
    out, joint = npu_attention_update(lse, outs, 1)
    assert torch.equal(out[:, 0].nan_to_num(-1), torch.tensor([3.0, 0.0, 7.0, -1.0, -1.0]))
    assert torch.equal(joint.nan_to_num(-1, neginf=-2), torch.tensor([0.5, -2.0, 1.0, -1.0, -1.0]))


def test_attention_update_of_no_rows_and_of_views():
    out, joint = npu_attention_update([torch.empty(0)] * 2, [torch.empty(0, 16)] * 2, 1)
    assert out.shape == (0, 16) and joint.shape == (0,)
    both = torch.randn(3, 10, 17)
    outs, lse = torch.split(both, [16, 1], dim=-1)
    got = npu_attention_update(lse.squeeze(-1).unbind(0), outs.unbind(0), 1)
    want = npu_attention_update([t.contiguous() for t in lse[..., 0]], [t.contiguous() for t in outs], 1)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


def test_attention_update_compiled_and_meta():
    lse, outs = [torch.randn(6) for _ in range(3)], [torch.randn(6, 16) for _ in range(3)]
    compiled = torch.compile(lambda a, b: npu_attention_update(a, b, 1), fullgraph=True, backend="aot_eager")
    for have, want in zip(compiled(lse, outs), npu_attention_update(lse, outs, 1)):
        assert torch.equal(have, want)
    out, joint = npu_attention_update([t.to("meta") for t in lse], [t.to("meta") for t in outs], 1)
    assert out.shape == (6, 16) and joint.shape == (6,)
