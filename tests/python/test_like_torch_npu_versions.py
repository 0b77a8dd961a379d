"""npu_fusion_attention_v2 and _v3, the gradients by themselves, rotary parts, sinks, orders of the statistics."""

import inspect

import pytest
import torch
from ascend_calls import COMPRESSED, LAYOUTS, PREFIXED, arguments, check, laid, run
from ascend_golden import draw
from fusedattn.like import torch_npu
from fusedattn.like.torch_npu import (
    npu_fusion_attention,
    npu_fusion_attention_grad,
    npu_fusion_attention_grad_v3,
    npu_fusion_attention_v2,
    npu_fusion_attention_v3,
)
from test_like_torch_npu_modes import DTYPES, KV_ENDS, Q_ENDS, packed, padded

FIRST = "query, key, value, head_num, input_layout, "
GRAD_FIRST = "query, key, value, dy, head_num, input_layout, *, "
INPUTS = "pse=None, padding_mask=None, atten_mask=None, "
SAVED = "softmax_max=None, softmax_sum=None, softmax_in=None, attention_in=None, "
TOCKENS = "pre_tockens=2147483647, next_tockens=2147483647, inner_precise=0, "
TOKENS = TOCKENS.replace("tockens", "tokens")
LISTS = "prefix=None, actual_seq_qlen=None, actual_seq_kvlen=None, sparse_mode=0, gen_mask_parallel=True, sync=False, "
STARTS = "pse_type=1, q_start_idx=None, kv_start_idx=None, "
LAST = "softmax_layout='', sink=None"
SEEDS = "seed=0, offset=0, numels=0, "
SIGNATURES = {
    "npu_fusion_attention_v2": FIRST + "*, " + INPUTS + "query_rope=None, key_rope=None, scale=1.0, keep_prob=1.0, "
    + TOKENS + LISTS + STARTS + LAST + ", dropout_mask=None, seed=0, offset=0",
    "npu_fusion_attention_v3": FIRST + INPUTS + "scale=1.0, keep_prob=1.0, " + TOCKENS + LISTS + LAST,
    "npu_fusion_attention_grad": GRAD_FIRST + INPUTS + SAVED + "scale_value=1.0, keep_prob=1.0, " + TOCKENS + SEEDS
    + LISTS + LAST,
    "npu_fusion_attention_grad_v2": GRAD_FIRST + INPUTS + SAVED
    + "query_rope=None, key_rope=None, scale_value=1.0, keep_prob=1.0, " + TOKENS + SEEDS + LISTS + STARTS + LAST,
    "npu_fusion_attention_grad_v3": GRAD_FIRST + INPUTS + SAVED + "scale_value=1.0, keep_prob=1.0, " + TOCKENS
    + "seed=None, offset=None, " + LISTS + LAST,
    "_npu_dropout_gen_mask": "self, size, p, seed, offset, parallel=True, sync=None",
    "npu_confusion_transpose": "self, perm, shape, transpose_first",
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    assert str(inspect.signature(getattr(torch_npu, name))) == f"({SIGNATURES[name]})"
    assert name in torch_npu.__all__


# --- rotary parts ------------------------------------------------------------------------
def roped(mode=3, rope=16, **more):
    mask = PREFIXED if mode == 6 else COMPRESSED
    dtype = torch.bfloat16
    case = packed(dtype=dtype, sparse_mode=mode, mask=mask, tail=2, **more)
    case.query_rope = draw(Q_ENDS[-1] + 2, 4, rope, dtype=dtype)
    case.key_rope = draw(KV_ENDS[-1] + 2, 2, rope, dtype=dtype)
    return case


@pytest.mark.parametrize("mode", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("rope", [8, 32])
def test_rotary_parts(mode, rope):
    case = roped(mode, rope, pre=9, next=3)
    if mode < 2:
        case.mask = torch.rand(32, 41) > 0.5
    check(case, "TND")


def test_rotary_parts_are_features_beside_the_others():
    case = roped()
    got, leaves = run(case, "TND")
    case.query, case.key = torch.cat((case.query, case.query_rope), -1), torch.cat(
        (case.key, case.key_rope), -1
    )
    case.query_rope = case.key_rope = None
    want, want_leaves = run(case, "TND")
    assert all(map(torch.equal, got[:3], want[:3]))
    dy = draw(*got[0].shape, dtype=torch.bfloat16)
    dq, dk, dv, dq_rope, dk_rope = torch.autograd.grad(got[0], [*leaves.values()], dy)
    wanted = torch.autograd.grad(want[0], [*want_leaves.values()], dy)
    assert all(map(torch.equal, (torch.cat((dq, dq_rope), -1), torch.cat((dk, dk_rope), -1), dv), wanted))


def test_gradients_of_rotary_parts_alone():
    case = roped()
    want, leaves = run(case, "TND")
    dy = draw(*want[0].shape, dtype=torch.bfloat16)
    wanted = torch.autograd.grad(want[0], [leaves["query_rope"], leaves["key_rope"]], dy)
    tensors = [t.detach() for t in (case.query, case.key, case.value)]
    ropes = [case.query_rope.clone().requires_grad_(), case.key_rope.clone().requires_grad_()]
    out = npu_fusion_attention_v2(
        *tensors, 4, "TND", query_rope=ropes[0], key_rope=ropes[1], scale=0.3, **arguments(case)
    )[0]
    assert all(map(torch.equal, torch.autograd.grad(out, ropes, dy), wanted))


def test_features_at_the_limit():
    case = packed(ends=((9, 20), (9, 20)), N1=1, N2=1, D=768, Dv=768, dtype=torch.bfloat16)
    case.mask, case.sparse_mode, case.scale = COMPRESSED, 3, 0.02
    case.query_rope, case.key_rope = (draw(20, 1, 768, dtype=torch.bfloat16) for _ in range(2))
    check(case, "TND")


# --- sinks -------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", [None, 3])
def test_sinks(mode, layout, dtype):
    words = dict(sparse_mode=mode, mask=COMPRESSED) if mode else {}
    case = packed(dtype=dtype, tail=2, **words) if layout == "TND" else padded(dtype=dtype, **words)
    case.sink = torch.tensor([-1.0, 0.5, 4.0, 0.0])
    check(case, layout)


def test_sinks_of_rows_that_see_nothing():
    mask = torch.zeros(37, 53, dtype=torch.bool)
    mask[5] = mask[11] = True
    case = padded(mask=mask, sparse_mode=1, sink=torch.tensor([-1.0, 0.5, 4.0, 0.0]))
    out, row_max, row_sum, *_ = check(case)
    assert not out[:, :, 5].any() and (row_sum[:, :, 5] == 1).all()
    assert torch.equal(row_max[0, :, 5, 0], case.sink)


def test_sinks_with_dropout_and_pse():
    case = padded(sink=torch.tensor([-1.0, 0.5, 2.0, 0.0]), pse=draw(2, 4, 37, 53), keep_prob=0.8)
    case.bits = torch.randint(0, 256, (2 * 4 * 37 * 53 // 8 + 1,), dtype=torch.uint8)
    check(case)


# --- orders of the statistics ------------------------------------------------------------
def test_orders_of_the_statistics():
    """Sequences of 2 and 3 rows, two heads: (sequence, head, row) in the order of memory."""
    q, k = torch.arange(10.0).view(5, 2, 1), torch.ones(5, 2, 1)
    ends = dict(actual_seq_qlen=[2, 5], actual_seq_kvlen=[2, 5])
    by_blocks, by_token = [0, 2, 1, 3, 4, 6, 8, 5, 7, 9], [*range(10)]
    sink = torch.full((2,), -100.0)
    for function in (npu_fusion_attention, npu_fusion_attention_v2, npu_fusion_attention_v3):
        second = function is npu_fusion_attention_v2
        for layout, given, wanted in (
            ("", None, by_blocks), ("", sink, by_blocks), ("TND", sink, by_token),
            ("TND", None, by_blocks if second else by_token),
        ):  # fmt: skip
            row_max = function(q, k, k, 2, "TND", softmax_layout=layout, sink=given, **ends)[1]
            assert row_max.shape == (5, 2, 8) and row_max.flatten()[::8].tolist() == wanted


def test_version_2_may_honour_the_order(monkeypatch):
    monkeypatch.setattr("fusedattn.like.torch_npu_call.V2_HONOURS_SOFTMAX_LAYOUT", True)
    q, k = torch.arange(10.0).view(5, 2, 1), torch.ones(5, 2, 1)
    ends = dict(actual_seq_qlen=[2, 5], actual_seq_kvlen=[2, 5])
    row_max = npu_fusion_attention_v2(q, k, k, 2, "TND", softmax_layout="TND", **ends)[1]
    assert row_max.flatten()[::8].tolist() == [*range(10)]


# --- gradients by themselves -------------------------------------------------------------
def first_words(case):
    """The keywords of npu_fusion_attention, without those that version 2 has alone."""
    words = arguments(case)
    for name in ("pse_type", "q_start_idx", "kv_start_idx"):
        words.pop(name, None)
    return words | dict(pre_tockens=words.pop("pre_tokens"), next_tockens=words.pop("next_tokens"))


@pytest.mark.parametrize("version", [1, 3])
@pytest.mark.parametrize("softmax_layout", [None, "", "TND"])
@pytest.mark.parametrize("keep_prob", [1.0, 0.7])
@pytest.mark.parametrize("sink", [False, True])
def test_gradients_by_themselves(version, softmax_layout, keep_prob, sink):
    """Those of autograd, bit for bit; softmax_layout None: another layout than TND."""
    layout = "SBH" if softmax_layout is None else "TND"
    case = (padded if layout == "SBH" else packed)(sparse_mode=3, mask=COMPRESSED, keep_prob=keep_prob)
    names = ("query", "key", "value")
    leaves = [getattr(case, name) if layout == "TND" else laid(getattr(case, name), layout) for name in names]
    leaves = [t.clone().requires_grad_() for t in leaves]
    words = first_words(case) | dict(softmax_layout=softmax_layout or "")
    if sink:
        leaves.append(torch.tensor([-1.0, 0.5, 4.0, 0.0]).requires_grad_())
        words["sink"] = leaves[-1]
    forward, backward = {
        1: (npu_fusion_attention, npu_fusion_attention_grad),
        3: (npu_fusion_attention_v3, npu_fusion_attention_grad_v3),
    }[version]
    out, row_max, row_sum, softmax_out, *numbers = forward(*leaves[:3], 4, layout, scale=0.3, **words)
    dy = draw(*out.shape)
    wanted = torch.autograd.grad(out, leaves, dy)
    names = ("seed", "offset") if version == 3 else ("seed", "offset", "numels")
    if sink:
        words["sink"] = words["sink"].detach()
    dq, dk, dv, dpse, dsink = backward(
        *(t.detach() for t in leaves[:3]), dy, 4, layout, softmax_max=row_max, softmax_sum=row_sum,
        softmax_in=softmax_out, attention_in=out.detach(), scale_value=0.3, **dict(zip(names, numbers)), **words,
    )  # fmt: skip
    assert all(map(torch.equal, (dq, dk, dv), wanted)) and dpse is None
    assert torch.equal(dsink, wanted[3]) if sink else dsink is None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_order_of_the_statistics_does_not_change_gradients(dtype):
    case = packed(dtype=dtype, tail=3)
    tensors = case.query, case.key, case.value
    words = first_words(case)
    gradients = []
    for layout in ("", "TND"):
        out, row_max, row_sum, *_ = npu_fusion_attention(*tensors, 4, "TND", softmax_layout=layout, **words)
        saved = dict(softmax_max=row_max, softmax_sum=row_sum, attention_in=out, softmax_layout=layout)
        dy = torch.ones_like(out)
        gradients.append(npu_fusion_attention_grad(*tensors, dy, 4, "TND", **saved, **words)[:3])
    assert all(map(torch.equal, *gradients))


def test_gradients_read_strides():
    case = padded()
    (out, row_max, row_sum, *_), _ = run(case)
    tensors, dy = (case.query, case.key, case.value), draw(*out.shape)
    words = dict(scale_value=0.3, **first_words(case))
    wanted = npu_fusion_attention_grad(
        *tensors, dy, 4, "BNSD", softmax_max=row_max, softmax_sum=row_sum, attention_in=out.detach(), **words
    )

    def scattered(t):
        return t.detach().transpose(-1, -2).contiguous().transpose(-1, -2)

    got = npu_fusion_attention_grad(
        *map(scattered, tensors), scattered(dy), 4, "BNSD", softmax_max=scattered(row_max),
        softmax_sum=scattered(row_sum), attention_in=scattered(out), **words,
    )  # fmt: skip
    assert all(map(torch.equal, got[:3], wanted[:3]))


def test_the_gradient_of_pse_by_hand():
    pse = draw(2, 4, 37, 53)
    case = padded(pse=pse)
    (out, row_max, row_sum, *_), _ = run(case)
    saved = dict(softmax_max=row_max, softmax_sum=row_sum, attention_in=out.detach())
    gradients = npu_fusion_attention_grad(
        case.query, case.key, case.value, torch.ones_like(out), 4, "BNSD", pse=pse, scale_value=0.3, **saved
    )
    assert len(gradients) == 5 and gradients[3].shape == pse.shape and not gradients[3].any()


REFUSED = [
    (dict(softmax_max=None), "aclnnFlashAttentionScoreGrad failed with 561002: softmax_max is None"),
    (dict(attention_in=None), "aclnnFlashAttentionScoreGrad failed with 161001: attention_in is None"),
    (dict(dy=torch.ones(2, 4, 37, 40)), "561002: dy has shape"),
    (dict(keep_prob=0.0), "npu_fusion_attention_grad: keep_prob is 0.0"),
    (dict(softmax_layout="TND"), "softmax_layout is 'TND' with input_layout BNSD"),
    (dict(numels="x"), "numels is 'x'"),
    (dict(sink=torch.ones(4).half()), "aclnnFlashAttentionScoreGradV3 failed with 561002: sink"),
]


@pytest.mark.parametrize(("given", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_refused_gradients(given, sentence):
    case = padded()
    (out, row_max, row_sum, *_), _ = run(case)
    words = dict(
        query=case.query, key=case.key, value=case.value, dy=torch.ones_like(out), head_num=4, input_layout="BNSD",
        softmax_max=row_max, softmax_sum=row_sum, attention_in=out.detach(),
    )  # fmt: skip
    with pytest.raises(RuntimeError, match=sentence):
        npu_fusion_attention_grad(**words | given)


def test_refused_of_version_2():
    case = roped()
    rest = arguments(case) | dict(
        head_num=4, input_layout="TND", query=case.query, key=case.key, value=case.value
    )
    for given, sentence in (
        (
            dict(query_rope=case.query_rope),
            "aclnnFlashAttentionVarLenScoreV3 failed with 161002: query_rope is given alone",
        ),
        (
            dict(query_rope=case.query_rope, key_rope=case.key_rope, atten_mask=None),
            "161001: atten_mask is None",
        ),
        (
            dict(actual_seq_kvlen=[1_000_001]),
            "actual_seq_kvlen has an entry 1000001; accepted: up to 1000000",
        ),
        (dict(pse_type=4), "aclnnFlashAttentionVarLenScoreV2 failed with 561002: pse_type is 4"),
        (dict(query_rope=torch.ones(3)), r"query_rope has shape \[3\]; accepted: 3 or 4 dimensions"),
    ):
        with pytest.raises(RuntimeError, match=sentence):
            npu_fusion_attention_v2(**rest | given)


def test_seeds_of_version_3_are_tensors():
    case = padded()
    (out, row_max, row_sum, *_), _ = run(case)
    saved = dict(softmax_max=row_max, softmax_sum=row_sum, attention_in=out.detach(), keep_prob=0.5)
    with pytest.raises(RuntimeError, match="seed is None with keep_prob 0.5; accepted: an int64 tensor"):
        npu_fusion_attention_grad_v3(case.query, case.key, case.value, out.detach(), 4, "BNSD", **saved)


# --- beside attention --------------------------------------------------------------------
def test_confusion_transpose():
    x = torch.rand(2, 3, 4, 6).requires_grad_()
    got = torch_npu.npu_confusion_transpose(x, (0, 2, 1, 3), (2, 4, 18), True)
    assert torch.equal(got, x.permute(0, 2, 1, 3).reshape(2, 4, 18)) and got.is_contiguous()
    got.square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())
    y = torch.rand(2, 5, 24)
    got = torch_npu.npu_confusion_transpose(y, [0, 2, 1, -1], (2, 5, 4, 6), False)
    assert torch.equal(got, y.view(2, 5, 4, 6).permute(0, 2, 1, 3)) and got.is_contiguous()
    for perm, shape in (((0, 0, 1, 2), (2, 5, 4, 6)), ((0, 1), (2, 5, 4, 6)), ((0, 1, 2, 3), (2, 5, 4, 7))):
        with pytest.raises(RuntimeError, match="npu_confusion_transpose: (perm|shape) is"):
            torch_npu.npu_confusion_transpose(y, perm, shape, False)
