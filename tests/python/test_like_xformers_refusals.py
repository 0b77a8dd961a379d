"""What fusedattn.like.xformers refuses: in xFormers' own kinds of errors, with the argument and what is accepted."""

from dataclasses import replace
from types import SimpleNamespace

import golden
import pytest
import torch
import xformers_cases as cases
from fusedattn.like import xformers
from fusedattn.like.xformers import attn_bias

Q, KV = golden.draw(2, 4, 2, 8), golden.draw(2, 6, 2, 8)
PACKED = dict(query=golden.draw(1, 15, 2, 8), key=golden.draw(1, 48, 2, 8), value=golden.draw(1, 48, 2, 8))
PADDED = cases.biases(attn_bias)["BlockDiagonalPaddedKeysMask"][0]
PAGED = cases.biases(attn_bias)["PagedBlockDiagonalPaddedKeysMask"][0]
BLOCKS = attn_bias.BlockDiagonalMask.from_seqlens([4, 11], [40, 8])


class Unknown(attn_bias.AttentionBias):
    pass


class Operator:
    NAME = "fa2F@2.5.7"


def ints(*numbers):
    return torch.tensor(numbers, dtype=torch.int32)


WRONG = [
    (dict(query=[1.0]), ValueError, "query is a list; accepted is a tensor"),
    (dict(query=Q[0]), ValueError, r"shapes are query \(4, 2, 8\).* accepted are all three"),
    (dict(query=Q[None], key=KV[None], value=KV[None, :, :, None]), ValueError, "shapes are query"),
    (dict(key=KV.half()), ValueError, "key has dtype torch.float16; accepted is query's dtype, torch.float32"),
    (dict(value=KV.to("meta")), ValueError, "value is on meta; accepted is query's device, cpu"),
    (dict(key=KV[:, :, :1]), ValueError, r"key has shape \(2, 6, 1, 8\); accepted is \(2, 6, 2, 8\).*expand them"),
    (dict(value=KV[:, :5]), ValueError, r"value has shape \(2, 5, 2, 8\); accepted is \(2, 6, 2, 8\)"),
    (dict(p=-0.1), ValueError, "p is -0.1; accepted are numbers from 0 to 1"),
    (dict(p=None), ValueError, "p is None; accepted are numbers"),
    (dict(p=float("nan")), ValueError, "p is nan"),
    (dict(scale="1"), ValueError, "scale is '1'"),
    (dict(scale=float("inf")), ValueError, "scale is inf"),
    (dict(attn_bias=torch.zeros(4, 6)), ValueError, r"attn_bias has shape \(4, 6\); accepted is \(2, 2, 4, 6\)"),
    (dict(attn_bias=torch.zeros(2, 2, 4, 5)), ValueError, "attn_bias has shape .*, or 1 in place of a number"),
    (dict(attn_bias=torch.zeros(2, 2, 4, 6).half()), ValueError, "attn_bias is torch.float16 on cpu; accepted is query's"),
    (dict(attn_bias=torch.zeros(2, 2, 4, 6, dtype=torch.bool)), ValueError, "attn_bias is torch.bool"),
    (dict(attn_bias=attn_bias.LowerTriangularMaskWithTensorBias(None)), ValueError, "attn_bias holds a NoneType"),
    (dict(attn_bias=BLOCKS), ValueError, "query has batch size 2; accepted is 1 with a BlockDiagonalMask"),
    (dict(query=Q[..., 0, :], key=KV[..., 0, :], value=KV[..., 0, :], attn_bias=BLOCKS), ValueError,
     "a BlockDiagonalMask with query .B, M, K.; accepted are NoneType, LowerTriangularMask and tensors"),
    (dict(op=(Operator, None)), ValueError, "op is fa2F@2.5.7, None, which does not run on a CPU; accepted are None, "),
    (dict(query=Q.double(), key=KV.double(), value=KV.double()), NotImplementedError,
     "query has dtype=torch.float64 .supported: torch.float32, torch.bfloat16, torch.float16"),
    (dict(key=KV.int(), value=KV.int()), NotImplementedError, "key has dtype=torch.int32"),
    (dict(query=Q.to("meta"), key=KV.to("meta"), value=KV.to("meta")), NotImplementedError, "device=meta .supported: cpu"),
    (dict(output_dtype=torch.float64), NotImplementedError, "output_dtype=torch.float64 .supported: None, torch.float32"),
    (dict(query=Q[..., :0], key=KV[..., :0]), NotImplementedError, r"query.shape\[-1\]=0 .supported: 1 to 1536"),
    (dict(value=KV.repeat(1, 1, 1, 97)), NotImplementedError, r"value.shape\[-1\]=776 .supported: 1 to 768"),
    (dict(query=Q[:, :, :0], key=KV[:, :, :0], value=KV[:, :, :0]), NotImplementedError, "at least 1 head"),
    (dict(attn_bias=Unknown()), NotImplementedError, "attn_bias type is Unknown .supported: None, tensors, LowerTri"),
    (dict(query=Q.to_sparse()), ValueError, "query has layout torch.sparse_coo"),
]  # fmt: skip


@pytest.mark.parametrize("changed, error, sentence", WRONG, ids=[sentence[:40] for *_, sentence in WRONG])
def test_arguments(changed, error, sentence):
    arguments = dict(query=Q, key=KV, value=KV) | changed
    for _ in range(2):  # what passes once is remembered; what is refused is not
        with pytest.raises(error, match="^memory_efficient_attention: .*" + sentence):
            xformers.memory_efficient_attention(**arguments)


def info(seen, **changed):
    """A bias whose k_seqinfo, or whatever is named, is another."""
    q_info = changed.pop("q_seqinfo", seen.q_seqinfo)
    return replace(seen, q_seqinfo=q_info, k_seqinfo=replace(seen.k_seqinfo, **changed) if changed else seen.k_seqinfo)


MALFORMED = [
    (info(BLOCKS, q_seqinfo=replace(BLOCKS.q_seqinfo, seqstart=ints(1, 4, 15))), "q_seqinfo.seqstart begins with 1"),
    (info(BLOCKS, q_seqinfo=replace(BLOCKS.q_seqinfo, seqstart=ints(0, 16, 15))), "q_seqinfo.seqstart is .*never decrease"),
    (info(BLOCKS, q_seqinfo=replace(BLOCKS.q_seqinfo, seqstart=ints(0, 4, 14))), "q_seqinfo.seqstart ends with 14; .* 15"),
    (info(BLOCKS, q_seqinfo=replace(BLOCKS.q_seqinfo, seqstart=ints())), "q_seqinfo.seqstart begins with nothing"),
    (info(BLOCKS, q_seqinfo=replace(BLOCKS.q_seqinfo, seqstart=ints(0, 4, 15)[None])), "accepted is a tensor .n,., int32"),
    (info(BLOCKS, q_seqinfo=replace(BLOCKS.q_seqinfo, seqstart=torch.ones(3))), "seqstart is torch.float32"),
    (info(BLOCKS, q_seqinfo=replace(BLOCKS.q_seqinfo, seqstart=ints(0, 4, 15).to("meta"))), "seqstart is on meta"),
    (info(BLOCKS, q_seqinfo=SimpleNamespace()), "is a BlockDiagonalMask without q_seqinfo.seqstart; accepted are"),
    (info(BLOCKS, seqstart=ints(0, 40, 41, 48)), "k_seqinfo.seqstart has 4 entries; accepted are 3"),
    (info(BLOCKS, seqstart=ints(0, 40, 49)), "k_seqinfo.seqstart ends with 49"),
    (info(PADDED, seqlen=ints(11, 4, 9)), "k_seqinfo.seqlen has 3 entries; accepted are 4"),
    (info(PADDED, seqlen=ints(11, 4, 9, 13)), "k_seqinfo has keys 36 to 49; accepted are 0 to 48, the keys"),
    (info(PADDED, seqlen=ints(11, -4, 9, 1)), "k_seqinfo has keys 12 to 8"),
    (info(PADDED, seqstart=ints(0, 1)), "k_seqinfo.seqstart has 2 entries"),
    (info(PAGED, seqlen=ints(11, 4, 9, 13)), "keys 0 to 13; accepted are 0 to 12, the rows of its pages"),
    (replace(PAGED, page_size=0), "page_size is 0; accepted are integers from 1 on"),
    (replace(PAGED, page_size=5), "page_size is 5; accepted are divisors of key.shape"),
    (replace(PAGED, block_tables=cases.TABLE[:3]), r"block_tables is torch.int32 \(3, 3\) .*\(4, pages\)"),
    (replace(PAGED, block_tables=cases.TABLE + 1), "block_tables holds 12; accepted is numbers of blocks, 0 to 11"),
    (replace(PAGED, block_tables=cases.TABLE - 1), "block_tables holds -1"),
    (replace(PADDED.make_local_attention(1, 1), window_left=-1), "window_left is -1; accepted are integers from 0 on"),
]  # fmt: skip


@pytest.mark.parametrize("bias, sentence", MALFORMED, ids=[sentence[:40] for _, sentence in MALFORMED])
def test_biases_that_do_not_fit(bias, sentence):
    with pytest.raises(ValueError, match=sentence):
        xformers.memory_efficient_attention(**PACKED, attn_bias=bias)
    out = PACKED["query"]
    with pytest.raises(ValueError, match=sentence):
        xformers.memory_efficient_attention_backward(out, out, torch.zeros(1, 2, 15), **PACKED, attn_bias=bias)


def test_the_tensors_of_a_bias_count_as_they_are():
    """Kernels read seqlen, which decoding changes in place; the lists beside it are for people."""
    bias = cases.biases(attn_bias)["BlockDiagonalPaddedKeysMask"][0]
    bias.k_seqinfo.seqlen.copy_(ints(1, 2, 3, 12))
    wanted = attn_bias.BlockDiagonalPaddedKeysMask.from_seqlens(cases.QUERIES, cases.PADDING, [1, 2, 3, 12])
    out, want = (xformers.memory_efficient_attention(**PACKED, attn_bias=one) for one in (bias, wanted))
    assert torch.equal(out, want)


def test_dropout_where_there_is_none():
    lse = torch.zeros(2, 2, 4)
    for name in ("forward_requires_grad", "partial"):
        with pytest.raises(NotImplementedError, match=f"memory_efficient_attention_{name}: p is 0.5; accepted is 0.0"):
            getattr(xformers, f"memory_efficient_attention_{name}")(Q, KV, KV, p=0.5)
    with pytest.raises(NotImplementedError, match="p is 0.5; accepted is 0.0"):
        xformers.memory_efficient_attention_backward(Q, Q, lse, Q, KV, KV, p=0.5)


def test_what_a_backward_starts_from():
    lse, refused = torch.zeros(2, 2, 4), xformers.memory_efficient_attention_backward
    for given, sentence in (
        ((Q[0], Q, lse), r"grad has shape \(4, 2, 8\); accepted is \(2, 4, 2, 8\), the output's"),
        ((Q, Q[:, :3], lse), "output has shape"),
        ((Q, None, lse), "output has shape a NoneType"),
        ((Q, Q, lse[:, :1]), r"lse is torch.float32 \(2, 1, 4\); accepted is torch.float32 \(2, 2, 4\) on the CPU"),
        ((Q, Q, lse[..., :3]), "lse is torch.float32"),
        ((Q, Q, lse.half()), "lse is torch.float16"),
        ((Q, Q, None), "lse is a NoneType"),
    ):
        with pytest.raises(ValueError, match=sentence):
            refused(*given, Q, KV, KV)


def test_log_sum_exps_may_be_padded():
    """As xFormers' own operators pad them: rows to a multiple, or packed sequences each in a row of its own."""
    grad = golden.draw(2, 4, 2, 8)
    out, lse = xformers.memory_efficient_attention_forward_requires_grad(Q, KV, KV)
    wanted = xformers.memory_efficient_attention_backward(grad, out, lse, Q, KV, KV)
    padded = torch.nn.functional.pad(lse, (0, 28), value=float("inf"))
    for one, other in zip(wanted, xformers.memory_efficient_attention_backward(grad, out, padded, Q, KV, KV), strict=True):
        assert torch.equal(one, other)
    for bias in (BLOCKS, PADDED):
        grad = golden.draw(1, 15, 2, 8)
        out, lse = xformers.memory_efficient_attention_forward_requires_grad(**PACKED, attn_bias=bias)
        lengths = bias.q_seqinfo.seqstart.diff().tolist()
        rows = [torch.nn.functional.pad(part[0], (0, 16 - part.shape[-1])) for part in lse.split(lengths, -1)]
        given = [(grad, out, one) for one in (lse, torch.stack(rows))]
        wanted, got = (xformers.memory_efficient_attention_backward(*g, **PACKED, attn_bias=bias) for g in given)
        assert all(torch.equal(one, other) for one, other in zip(wanted, got, strict=True))


OUT, LSE = golden.draw(2, 3, 2, 8), golden.draw(2, 2, 3)
UNMERGED = [
    ((OUT[0, 0], LSE), ValueError, "attn_split has parts"),
    (([], []), ValueError, "attn_split is a list; accepted is a tensor or a list of tensors, one part at least"),
    (([OUT], [LSE, LSE]), ValueError, "lse_split has 2 parts; accepted are 1"),
    (([OUT, OUT], [LSE, LSE[:1]]), ValueError, r"lse_split\[1\] is torch.float32 \(1, 2, 3\) .*\(2, 2, 3\)"),
    (([OUT, OUT.half()], [LSE, LSE]), ValueError, r"attn_split\[1\] is torch.float16"),
    (([OUT.double()], [LSE]), NotImplementedError, "attn_split is torch.float64; accepted are torch.float32"),
    (([OUT.to("meta")], [LSE.to("meta")]), NotImplementedError, "attn_split is .* on meta"),
    (([OUT], [LSE.int()]), NotImplementedError, "lse_split is torch.int32"),
    (([OUT[..., :0]], [LSE]), ValueError, "at least 1 head and 1 feature"),
]


@pytest.mark.parametrize("given, error, sentence", UNMERGED, ids=[sentence[:40] for *_, sentence in UNMERGED])
def test_merging(given, error, sentence):
    with pytest.raises(error, match=sentence):
        xformers.merge_attentions(*given)


def test_constructors_of_biases():
    for make, error, sentence in (
        (lambda: attn_bias.LocalAttentionFromBottomRightMask(-1, 0), ValueError, "window_left is -1"),
        (lambda: attn_bias.LowerTriangularFromBottomRightLocalAttentionMask(0), ValueError, "window_size is 0"),
        (lambda: BLOCKS.make_local_attention(0), ValueError, "window_size is 0"),
        (lambda: BLOCKS.make_local_attention(3), RuntimeError, "11 queries and 8 keys: with a window of 3 its last"),
        (lambda: BLOCKS.make_causal_from_bottomright(), ValueError, "sequence 1 has 11 queries and 8 keys"),
        (lambda: BLOCKS.split(Q), ValueError, "lengths of their own; accepted are split_queries"),
        (lambda: BLOCKS.split_queries(Q), ValueError, r"x has shape \(2, 4, 2, 8\); accepted is \[1, 15, ...\]"),
        (lambda: attn_bias.BlockDiagonalMask.from_seqlens([1, 2], [3]), ValueError, "2 sequences of queries and 1 of keys"),
        (lambda: attn_bias.BlockDiagonalPaddedKeysMask.from_seqlens([1], 4, [5]), ValueError, "at most padding, 4"),
        (lambda: attn_bias.BlockDiagonalGappyKeysMask.from_seqlens([1], [0], [3]), ValueError, "accepted are 2, one more"),
        (lambda: PADDED.k_seqinfo.from_seqlens_padded_inplace([1, 2]), ValueError, "has 2 entries; accepted are 4"),
        (lambda: BLOCKS.q_seqinfo.from_seqlens_inplace([0, 15]), ValueError, "a length of 15; accepted are at most 11"),
    ):
        with pytest.raises(error, match=sentence):
            make()


def test_lists_become_packed_and_lists_again():
    tensors = [golden.draw(2, 3, 2, 8), golden.draw(1, 5, 2, 8)]
    bias, packed = attn_bias.BlockDiagonalMask.from_tensor_list(tensors)
    assert packed.shape == (1, 11, 2, 8) and bias.q_seqinfo.seqstart.tolist() == [0, 3, 6, 11]
    assert all(torch.equal(one, other) for one, other in zip(bias.split(packed), tensors, strict=True))
    bias, q, k, v = attn_bias.BlockDiagonalMask.from_tensor_lists_qkv(tensors, tensors)
    assert torch.equal(q, packed) and torch.equal(k, packed) and v is None
    assert [t.shape for t in bias.split_kv(k)] == [t.shape for t in tensors]
    bias.q_seqinfo.from_seqlens_inplace([2, 4, 5])
    assert bias.q_seqinfo.seqstart.tolist() == [0, 2, 6, 11] == bias.q_seqinfo.seqstart_py
    made = attn_bias.PagedBlockDiagonalGappyKeysMask.from_seqlens([1, 2], [1, 0], [3, 7], torch.zeros(2, 2).int(), 4)
    assert made.k_seqinfo.seqlen.tolist() == [4, 7] and made.k_seqinfo.seqstart.tolist() == [1, 0, -1]
