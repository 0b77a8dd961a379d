"""The shapes that the vendor's own tests and guides use, with fewer heads and rows where those repeat."""

import pytest
import torch
from ascend_calls import COMPRESSED, PREFIXED, check, run
from ascend_golden import draw
from fusedattn.like.torch_npu import npu_fusion_attention, npu_fusion_attention_grad
from test_like_torch_npu_modes import packed, padded

SLOPES = torch.tensor([2.0 ** -(8 * (k + 1) / 4) for k in range(4)])
HALVES = [torch.float16, torch.bfloat16]
# [B,N,S,D] of the migration guide; the heads and sequences left out repeat the same sizes.
GUIDE = {
    "[1,8,4096,128]": (1, 1, 4096, 128),
    "[4,32,2048,64]": (1, 2, 2048, 64),
    "[8,16,512,128]": (2, 4, 512, 128),
    "[8,16,512,64]": (2, 4, 512, 64),
    "[4,4,2048,64]": (2, 1, 2048, 64),
}


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("shape", GUIDE.values(), ids=GUIDE)
def test_the_guide(shape, dtype):
    B, N, S, D = shape
    words = dict(sparse_mode=2, mask=COMPRESSED, scale=D**-0.5, precision=torch.float32)
    check(padded(B, N, N, S, S, D, D, dtype, **words), by_hand=False)


@pytest.mark.parametrize("layout", ["BNSD", "BSH"])
def test_basic(layout):
    check(padded(1, 4, 4, 128, 128, 128, 128, torch.float16, scale=0.08838), layout)


def test_dropout():
    case = padded(1, 4, 4, 256, 256, 128, 128, torch.float16, keep_prob=0.9)
    outputs, _ = run(case, seed=2)
    assert outputs[4] == 2
    case.keep_prob = 0.8
    case.bits = torch.randint(0, 256, (4 * 256 * 256 // 8,), dtype=torch.uint8)
    check(case, seed=123)


def test_packed_with_the_order_of_the_shape():
    """q lengths [1, 2, 3], kv lengths [3, 4, 5], statistics in the order of the tensor, forward and backward."""
    case = packed(ends=((1, 3, 6), (3, 7, 12)), N1=8, N2=2, D=128, Dv=128, dtype=torch.float16)
    words = dict(actual_seq_qlen=(1, 3, 6), actual_seq_kvlen=(3, 7, 12), softmax_layout="TND")
    leaves = [t.requires_grad_() for t in (case.query, case.key, case.value)]
    out, row_max, row_sum, *_ = npu_fusion_attention(*leaves, 8, "TND", scale=0.3, **words)
    blocks = check(case, "TND", by_hand=False)
    for found, block in ((row_max, blocks[1]), (row_sum, blocks[2])):
        for begin, end in ((0, 1), (1, 3), (3, 6)):
            own = block.flatten()[begin * 64 : end * 64].view(8, end - begin, 8)
            assert torch.equal(found[begin:end].transpose(0, 1), own)
    dy = draw(*out.shape, dtype=torch.float16)
    wanted = torch.autograd.grad(out, leaves, dy)
    saved = dict(softmax_max=row_max, softmax_sum=row_sum, attention_in=out.detach(), scale_value=0.3)
    got = npu_fusion_attention_grad(*(t.detach() for t in leaves), dy, 8, "TND", **saved, **words)
    assert all(map(torch.equal, got[:3], wanted))


def test_padded_list():
    half, brain, single = torch.float16, torch.bfloat16, torch.float32
    check(padded(2, 4, 2, 256, 256, 128, 128, brain, sparse_mode=3, mask=COMPRESSED), "BSND")
    check(padded(1, 2, 1, 128, 128, 192, 128, half), "BSH")
    slopes = torch.stack((SLOPES, SLOPES / 2))
    check(padded(2, 4, 4, 128, 128, 256, 256, half, pse=slopes, pse_type=2, scale=0.06), "BNSD")
    check(padded(1, 4, 4, 128, 128, 128, 128, brain, pse=SLOPES, pse_type=3), "BSND")
    window = dict(pre=128, next=128)
    mask = torch.zeros(256, 256, dtype=torch.bool)
    check(
        padded(1, 4, 4, 256, 256, 192, 192, half, mask=mask, pse=SLOPES, pse_type=3, scale=0.04, **window),
        "SBH",
    )
    check(
        padded(
            1, 1, 1, 160, 160, 768, 768, half, mask=mask[:160, :160], pse=SLOPES[:1], pse_type=3, **window
        ),
        "SBH",
    )
    check(padded(1, 2, 2, 256, 256, 64, 64, single, sparse_mode=4, mask=COMPRESSED, **window))


def prefix_mask(rows, columns, prefix):
    i, j = torch.arange(rows).unsqueeze(1), torch.arange(columns)
    return torch.stack([(j > i + columns - rows) & (j >= n) for n in prefix]).unsqueeze(1)


def test_prefixes():
    prefix = [100, 128, 130, 150]
    mask = prefix_mask(256, 256, prefix)
    check(padded(4, 1, 1, 256, 256, 64, 64, torch.float16, sparse_mode=5, mask=mask, prefix=prefix))
    prefix = [256, 256, 401, 300]
    case = padded(
        4, 1, 1, 256, 512, 32, 32, torch.float32, sparse_mode=5, mask=prefix_mask(256, 512, [100, 128, 401, 300]),
        prefix=prefix, pse=draw(4, 1, 256, 512), pse_type=0, keep_prob=0.9,
    )  # fmt: skip
    case.bits = torch.randint(0, 256, (4 * 256 * 512 // 8,), dtype=torch.uint8)
    check(case)


def test_packed_list():
    brain, half = torch.bfloat16, torch.float16
    case = packed(
        ((128, 256, 512),) * 2, 2, 1, 64, 64, dtype=brain, sparse_mode=3, mask=COMPRESSED, scale=0.1
    )
    case.query_rope, case.key_rope = draw(512, 2, 64, dtype=brain), draw(512, 1, 64, dtype=brain)
    check(case, "TND")
    words = dict(sparse_mode=6, mask=PREFIXED, prefix=[1568], scale=0.07)
    case = packed(((2048,),) * 2, 1, 1, 192, 128, dtype=half, precision=torch.float32, **words)
    check(case, "TND", by_hand=False)
    words = dict(sparse_mode=3, mask=COMPRESSED, pse=SLOPES, pse_type=3, keep_prob=0.9)
    case = packed(((256, 512, 768),) * 2, 4, 2, 64, 64, dtype=half, **words)
    case.bits = torch.randint(0, 256, (4 * 3 * 256 * 256 // 8,), dtype=torch.uint8)
    check(case, "TND")


def test_a_cut_with_start_indices():
    words = dict(sparse_mode=8, mask=COMPRESSED, next=64, starts=(64, 32), keep_prob=0.9)
    case = packed(((128, 256, 512), (256, 512, 768)), 2, 2, 64, 64, dtype=torch.float16, **words)
    case.bits = torch.randint(0, 256, (2 * (128 * 256 * 2 + 256 * 256) // 8,), dtype=torch.uint8)
    check(case, "TND")


def test_576_rows():
    check(padded(1, 3, 3, 576, 576, 128, 128, torch.float16), "BSND")


@pytest.mark.parametrize(("batch", "heads", "rows"), [(1, 4, 8), (4, 8, 2)])
def test_small_packed(batch, heads, rows):
    ends = tuple(rows * (b + 1) for b in range(batch))
    check(
        packed((ends, ends), heads, heads, 128, 128, dtype=torch.float16, sparse_mode=3, mask=COMPRESSED),
        "TND",
    )
    check(packed(((2, 8),) * 2, 4, 4, 128, 128, dtype=torch.float16, sparse_mode=2, mask=COMPRESSED), "TND")


def test_one_score():
    """One row, one column: the output is the value, and query and key get no gradient."""
    case = padded(1, 1, 1, 1, 1, 16, 16, torch.float16)
    (out, *_), leaves = run(case)
    dq, dk, dv = torch.autograd.grad(out, [*leaves.values()], torch.ones_like(out))
    assert torch.equal(out, case.value) and not dq.any() and not dk.any() and (dv == 1).all()


def test_rows_that_all_see_nothing():
    case = padded(
        1, 2, 2, 512, 512, 64, 64, torch.float16, mask=torch.ones(512, 512, dtype=torch.bool), sparse_mode=1
    )
    out, row_max, row_sum, *_ = check(case)
    lowest = torch.finfo(torch.float32)
    assert not out.any() and (row_max == lowest.min).all() and (row_sum == lowest.max).all()
