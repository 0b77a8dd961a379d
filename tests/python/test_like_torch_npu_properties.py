"""What must hold between calls of npu_fusion_attention_v2: layouts, modes, heads, sequences, scales."""

import math

import pytest
import torch
from ascend_calls import COMPRESSED, ORDERS, PREFIXED, laid, run, unlaid
from ascend_golden import INF, draw, golden
from fusedattn.like.torch_npu import npu_fusion_attention_v2
from test_like_torch_npu_modes import packed, padded


def everything(case, layout="BNSD", dy=None, **more):
    """(out, max, sum, gradients of q, k, v), in the layout of the call."""
    (out, row_max, row_sum, *_), leaves = run(case, layout, **more)
    if dy is None:
        dy = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [
        out,
        row_max,
        row_sum,
        *torch.autograd.grad(out, [leaves[n] for n in ("query", "key", "value")], dy),
    ]


def same(case, changes, equal=torch.equal):
    """Whether the case gives the same results with other arguments."""
    wanted = everything(case)
    for name, value in changes.items():
        setattr(case, name, value)
    assert all(map(equal, everything(case), wanted))


def test_layouts_give_the_same_bits():
    case = padded(sparse_mode=3, mask=COMPRESSED, pse=draw(2, 4, 37, 53), keep_prob=0.8)
    dy = draw(2, 4, 37, 24)
    wanted = everything(case, dy=dy, seed=5)
    for layout in ORDERS:
        got = everything(case, layout, dy=laid(dy, layout), seed=5)
        heads = (4, 2, 2)
        gradients = [unlaid(t, layout, n) for t, n in zip(got[3:], heads)]
        assert all(map(torch.equal, [unlaid(got[0], layout, 4), *got[1:3], *gradients], wanted))


def test_packed_sequences_of_one_length_are_a_batch():
    case = padded(B=3, sparse_mode=2, mask=COMPRESSED)
    wanted = everything(case, "BSND", dy=torch.ones(3, 37, 4, 24))
    case.ends = (37, 74, 111), (53, 106, 159)
    for name in ("query", "key", "value"):
        setattr(case, name, laid(getattr(case, name), "BSND").flatten(0, 1))
    got = everything(case, "TND", dy=torch.ones(111, 4, 24))
    assert all(torch.equal(a.flatten(), b.flatten()) for a, b in zip(got, wanted))


def test_modes_that_are_one():
    same(padded(Sq=45, Skv=45, sparse_mode=2, mask=COMPRESSED), dict(sparse_mode=3))
    same(padded(sparse_mode=3, mask=COMPRESSED), dict(sparse_mode=4, pre=INF, next=0))
    same(padded(sparse_mode=3, mask=COMPRESSED), dict(sparse_mode=6, mask=PREFIXED, prefix=[16, 16]))
    full = torch.triu(torch.ones(37, 53), diagonal=1).bool()
    same(padded(sparse_mode=2, mask=COMPRESSED), dict(sparse_mode=0, mask=full))
    same(padded(sparse_mode=2, mask=COMPRESSED), dict(sparse_mode=0, mask=torch.zeros_like(full), next=0))


@pytest.mark.parametrize(("mode", "other", "ends"), [(7, 3, ((9, 30), (12, 35))), (8, 2, ((9, 30), (9, 30)))])
def test_cuts_without_a_cut(mode, other, ends):
    case = packed(ends=ends, sparse_mode=mode, mask=COMPRESSED, pre=40, next=0)
    wanted = everything(case, "TND")
    case.sparse_mode = other
    assert all(map(torch.equal, everything(case, "TND"), wanted))


def test_two_devices_of_a_cut_are_the_whole():
    """Causal sequences cut in the rows of the second one: mode 7 on the first device, mode 3 on the second."""
    q, k, v = draw(16, 4, 16), draw(18, 2, 16), draw(18, 2, 16)

    def attend(rows, columns, q_ends, kv_ends, **words):
        ends = dict(actual_seq_qlen=q_ends, actual_seq_kvlen=kv_ends, atten_mask=COMPRESSED)
        return npu_fusion_attention_v2(q[rows], k[columns], v[columns], 4, "TND", **ends, **words)[0]

    whole = attend(slice(16), slice(18), [3, 7, 12, 16], [3, 9, 14, 18], sparse_mode=3)
    first = attend(slice(5), slice(9), [3, 5], [3, 9], sparse_mode=7, pre_tokens=6, next_tokens=-2)
    second = attend(slice(5, 16), slice(3, 18), [2, 7, 11], [6, 11, 15], sparse_mode=3)
    assert torch.equal(torch.cat((first, second)), whole)


def test_grouped_heads_are_repeated_heads():
    case = padded(sparse_mode=3, mask=COMPRESSED)
    dy = draw(2, 4, 37, 24)
    wanted = everything(case, dy=dy)
    case.key, case.value = (t.repeat_interleave(2, 1) for t in (case.key, case.value))
    got = everything(case, dy=dy)
    assert all(map(torch.equal, got[:3], wanted[:3]))
    for a, b in zip([got[3], *(t.unflatten(1, (2, 2)).sum(2) for t in got[4:])], wanted[3:]):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_probabilities_sum_to_one():
    mask = torch.zeros(37, 53, dtype=torch.bool)
    mask[4] = mask[20] = True
    case = padded(mask=mask, sparse_mode=1)
    dv = everything(case, dy=torch.ones(2, 4, 37, 24))[5]
    torch.testing.assert_close(dv.sum(2), torch.full((2, 2, 24), 2 * 35.0), rtol=1e-5, atol=1e-4)


def test_the_maximum_scales_with_the_scale():
    case = padded(scale=0.3)
    wanted = run(case)[0][1]
    case.scale = 3.0
    torch.testing.assert_close(run(case)[0][1], wanted * 10, rtol=1e-5, atol=1e-5)


def test_permuted_sequences_give_permuted_results():
    case = padded(B=3, sparse_mode=2, mask=COMPRESSED)
    dy = draw(3, 4, 37, 24)
    wanted = everything(case, dy=dy)
    order = [2, 0, 1]
    for name in ("query", "key", "value"):
        setattr(case, name, getattr(case, name)[order])
    assert all(torch.equal(a, b[order]) for a, b in zip(everything(case, dy=dy[order]), wanted))


def test_tails_are_zeros():
    case = packed(tail=4)
    out, row_max, row_sum, dq, dk, dv = everything(case, "TND")
    rows, columns = case.ends[0][-1], case.ends[1][-1]
    for t, end in ((out, rows), (dq, rows), (dk, columns), (dv, columns)):
        assert not t[end:].any() and t[:end].any()
    assert not row_max.flatten()[rows * 32 :].any() and not row_sum.flatten()[rows * 32 :].any()


def test_nothing_hidden_leaks():
    """NaN and infinities behind a mask reach no result."""
    case = padded(Sq=45, Skv=45, sparse_mode=2, mask=COMPRESSED, pse=draw(1, 4, 45, 45))
    wanted = everything(case, dy=torch.cat((torch.ones(2, 4, 40, 24), torch.zeros(2, 4, 5, 24)), 2))
    case.key[:, :, 40:], case.value[:, :, 40:], case.pse[..., 40:] = math.nan, math.inf, math.nan
    got = everything(case, dy=torch.cat((torch.ones(2, 4, 40, 24), torch.zeros(2, 4, 5, 24)), 2))
    for a, b in zip(got[:4], wanted[:4]):
        assert torch.equal(a[:, :, :40], b[:, :, :40])


def test_nan_in_a_row_stays_in_the_row():
    case = padded()
    case.query[0, 1, 7, 3] = math.nan
    out = run(case)[0][0]
    assert out[0, 1, 7].isnan().all() and out.isnan().sum() == 24


def test_one_of_everything():
    case = padded(B=1, N1=1, N2=1, Sq=1, Skv=1, D=1, Dv=1)
    out, row_max, row_sum, dq, dk, dv = everything(case, dy=torch.ones(1, 1, 1, 1))
    assert (
        torch.equal(out, case.value)
        and row_sum.flatten()[0] == 1
        and not dq.any()
        and not dk.any()
        and (dv == 1).all()
    )


@pytest.mark.parametrize("sizes", [dict(B=0), dict(Sq=0), dict(Skv=0), dict(D=0, Dv=0)], ids=str)
def test_empty_tensors(sizes):
    case = padded(**sizes, mask=COMPRESSED, sparse_mode=3, pse=None)
    outputs, leaves = run(case)
    assert not any(t.any() for t in outputs[:3])
    for gradient in torch.autograd.grad(outputs[0].sum(), [*leaves.values()]):
        assert not gradient.any()


def test_finite_differences():
    """Gradients of the golden itself against differences of the golden, and so the operator's."""
    case = padded(B=1, N1=2, N2=1, Sq=3, Skv=4, D=3, Dv=2, sparse_mode=3, mask=COMPRESSED)
    case.sink = torch.tensor([0.3, -0.4])
    case.pse, case.pse_type = draw(1, 2, 3, 4), 1
    case.keep_prob, case.bits = 0.7, torch.tensor([0b10110101, 0b11011011, 0b01101110], dtype=torch.uint8)
    wanted, _ = golden(case)
    dy = torch.rand(wanted.shape, dtype=torch.float64)
    gradients = torch.autograd.grad(wanted, [*case.leaves.values()], dy)
    for (name, leaf), gradient in zip(case.leaves.items(), gradients):
        original = getattr(case, name)
        for index in range(leaf.numel()):
            values = []
            for step in (1e-6, -1e-6):
                moved = original.double().clone()
                moved.view(-1)[index] += step
                setattr(case, name, moved)
                values.append((golden(case)[0].detach() * dy).sum().item())
            setattr(case, name, original)
            assert abs((values[0] - values[1]) / 2e-6 - gradient.view(-1)[index].item()) < 1e-7
