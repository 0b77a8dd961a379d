"""What flash_attention_score and speed_fusion_attention refuse, row by row of the contract: exception and sentence."""

import mindspore
import numpy as np
import pytest
from fusedattn.like.mindspore import flash_attention_score, speed_fusion_attention
from fusedattn.like.mindspore.table import OF_ARGUMENTS, OF_SHAPES, OF_THE_OPERATOR
from layouts import tensor
from mindspore import Tensor

B, N, N2, SQ, SKV, D = 2, 4, 2, 4, 8, 16


def ones(*shape, dtype="float16"):
    return tensor(np.ones(shape), dtype)


def zeros(*shape, dtype=np.uint8):
    return Tensor(np.zeros(shape, dtype))


KEY, BITS, MASK = ones(B, N2, SKV, D), zeros(B, N, SQ, 1), zeros(SQ, SKV)
COMPRESSED = zeros(2048, 2048)
NO_TENSOR = np.ones((B, N, SQ, SKV), np.float16)
THREE = ones(B, 3, SKV, D)
PACKED = dict(query=ones(6, N, D), key=ones(6, N2, D), value=ones(6, N2, D), input_layout="TND")

# id of the constraint, exception, arguments, what the sentence begins with
ROWS = [
    ("type.tensor", TypeError, dict(query=NO_TENSOR), "query is a ndarray; accepted: a mindspore.Tensor"),
    ("type.tensor", TypeError, dict(value=None), "value is a NoneType"),
    ("type.optional_tensor", TypeError, dict(real_shift=NO_TENSOR), "real_shift is a ndarray"),
    ("type.optional_tensor", TypeError, dict(drop_mask=[1]), "drop_mask is a list"),
    ("type.optional_tensor", TypeError, dict(padding_mask=[1]), "padding_mask is a list"),
    ("type.optional_tensor", TypeError, dict(attn_mask=[1]), "attn_mask is a list; accepted: None or a mindspore.Tensor"),
    ("type.float", TypeError, dict(scalar_value=1), "scalar_value is 1; accepted: a float"),
    ("type.float", TypeError, dict(scalar_value="1"), "scalar_value is '1'"),
    ("type.float", TypeError, dict(keep_prob=1), "keep_prob is 1"),
    ("type.float", TypeError, dict(keep_prob=None), "keep_prob is None"),
    ("type.str", TypeError, dict(input_layout=3), "input_layout is 3; accepted: a str"),
    ("type.int", TypeError, dict(sparse_mode=0.0), "sparse_mode is 0.0; accepted: an int"),
    ("type.int", TypeError, dict(sparse_mode=True), "sparse_mode is True"),
    ("type.int", TypeError, dict(head_num=4.0), "head_num is 4.0"),
    ("type.int", TypeError, dict(head_num="4"), "head_num is '4'"),
    ("type.int", TypeError, dict(pre_tokens=1.5), "pre_tokens is 1.5"),
    ("type.int", TypeError, dict(inner_precise="a"), "inner_precise is 'a'"),
    ("type.list", TypeError, dict(prefix=3), "prefix is 3; accepted: None, or a tuple"),
    ("type.list", TypeError, dict(PACKED, actual_seq_qlen=(1.5, 6)), r"actual_seq_qlen is \(1.5, 6\)"),
    ("type.list", TypeError, dict(PACKED, actual_seq_qlen=Tensor([[6]])), "actual_seq_qlen is "),
    ("range.int", ValueError, dict(pre_tokens=2**63), "pre_tokens is 9223372036854775808; accepted: integers of 64 bits"),
    ("range.scale", ValueError, dict(scalar_value=float("nan")), "scalar_value is nan; accepted: finite numbers"),
    ("padding_mask", RuntimeError, dict(padding_mask=MASK), r"padding_mask is a Tensor of shape \[4, 8\]; accepted: None"),
    ("layout.known", ValueError, dict(input_layout="BHS"), "input_layout is 'BHS'; accepted: BSH, SBH"),
    ("dtype.float", TypeError, dict.fromkeys(("query", "key", "value"), KEY.astype(mindspore.float64)) | {"head_num": 2}, "query has dtype float64"),
    ("dtype.float", TypeError, dict.fromkeys(("query", "key", "value"), KEY.astype(mindspore.int32)) | {"head_num": 2}, "query has dtype int32"),
    ("dtype.same", TypeError, dict(key=ones(B, N2, SKV, D, dtype="bfloat16")), "key has dtype bfloat16; accepted: query's"),
    ("dtype.same", TypeError, dict(value=ones(B, N2, SKV, D, dtype="float32")), "value has dtype float32"),
    ("dtype.pse", TypeError, dict(real_shift=ones(B, N, SQ, SKV, dtype="float32")), "real_shift has dtype float32"),
    ("mask.dtype", TypeError, dict(attn_mask=ones(SQ, SKV)), "attn_mask has dtype float16; accepted: bool and uint8"),
    ("dropout.dtype", TypeError, dict(drop_mask=ones(B, N, SQ, 1), keep_prob=0.5), "drop_mask has dtype float16"),
    ("heads.positive", RuntimeError, dict(head_num=0), "head_num is 0; accepted: integers above 0"),
    ("heads.positive", RuntimeError, dict(head_num=-4), "head_num is -4"),
    ("heads.number", RuntimeError, dict(head_num=2), "head_num is 2; query has 4 heads"),
    ("heads.groups", RuntimeError, dict(key=THREE, value=THREE), "key has 3 heads; accepted: divisors of head_num = 4"),
    ("heads.query", RuntimeError, dict(query=ones(B, SQ, 66), key=ones(B, SKV, 66), value=ones(B, SKV, 66), input_layout="BSH"), "query has hidden size 66"),
    ("layout.rank", RuntimeError, dict(input_layout="BSH"), "query has shape .* BSH needs as many dimensions"),
    ("mask.full", RuntimeError, dict(attn_mask=zeros(SQ, SKV + 1)), r"attn_mask has shape \[4, 9\]"),
    ("mask.full", RuntimeError, dict(attn_mask=zeros(1, 1, SQ, SKV)), r"attn_mask has shape \[1, 1, 4, 8\] with sparse_mode 0"),
    ("mask.full", RuntimeError, dict(attn_mask=MASK, sparse_mode=5, prefix=(4, 4)), r"attn_mask has shape \[4, 8\]"),
    ("mask.full", RuntimeError, dict(attn_mask=COMPRESSED, sparse_mode=5, prefix=(4, 4)), "attn_mask has shape"),
    ("mask.compressed", RuntimeError, dict(attn_mask=MASK, sparse_mode=2), r"attn_mask has shape \[4, 8\]; sparse_mode 2 takes"),
    ("mask.compressed", RuntimeError, dict(attn_mask=zeros(1, 1, 2048, 2048), sparse_mode=3), r"accepted: \[2048, 2048\]"),
    ("mask.missing", RuntimeError, dict(sparse_mode=1), "attn_mask is None with sparse_mode 1"),
    ("mask.missing", RuntimeError, dict(sparse_mode=3), "attn_mask is None with sparse_mode 3"),
    ("shift.shape", RuntimeError, dict(real_shift=ones(B, N, SQ, SKV + 1)), r"real_shift has shape \[2, 4, 4, 9\]"),
    ("shift.shape", RuntimeError, dict(real_shift=ones(B, N, 1, SKV)), r"real_shift has shape \[2, 4, 1, 8\]"),
    ("shift.shape", RuntimeError, dict(real_shift=ones(N, SQ, SKV)), r"real_shift has shape \[4, 4, 8\]"),
    ("drop_mask.shape", RuntimeError, dict(drop_mask=zeros(B, N, SQ, 2), keep_prob=0.5), r"drop_mask has shape \[2, 4, 4, 2\]"),
    ("drop_mask.shape", RuntimeError, dict(key=ones(B, N2, 9, D), value=ones(B, N2, 9, D), drop_mask=zeros(B, N, SQ, 2), keep_prob=0.5), "drop_mask is given with S2 9"),
    ("drop_mask.unused", RuntimeError, dict(drop_mask=BITS), "drop_mask is given with keep_prob 1"),
    ("drop_mask.missing", RuntimeError, dict(keep_prob=0.5), "drop_mask is None with keep_prob 0.5"),
    ("sparse_mode", RuntimeError, dict(attn_mask=zeros(3072, 2048), sparse_mode=6, prefix=(4, 4)), "sparse_mode is 6; accepted: 0 to 5"),
    ("sparse.mode", RuntimeError, dict(attn_mask=COMPRESSED, sparse_mode=7), "sparse_mode is 7"),
    ("sparse.mode", RuntimeError, dict(attn_mask=COMPRESSED, sparse_mode=-1), "sparse_mode is -1"),
    ("tokens.band", RuntimeError, dict(attn_mask=MASK, pre_tokens=-1, next_tokens=-1), "pre_tokens is -1, next_tokens is -1"),
    ("features.key", RuntimeError, dict(key=ones(B, N2, SKV, 8), value=ones(B, N2, SKV, 8)), "key has head size 8; accepted: query's, 16"),
    ("value.shape", RuntimeError, dict(value=ones(B, N2, SKV, 8)), r"value has shape \[2, 2, 8, 8\], key has shape"),
    ("shapes.value", RuntimeError, dict(value=ones(B, N2, SKV + 1, D)), "value has 2 heads and 9 rows"),
    ("shapes.batch", RuntimeError, dict(key=ones(1, N2, SKV, D), value=ones(1, N2, SKV, D)), "key has batch 1"),
    ("probability.range", RuntimeError, dict(keep_prob=1.5), "keep_prob is 1.5; accepted: numbers above 0 up to 1"),
    ("probability.range", RuntimeError, dict(keep_prob=-0.5, drop_mask=BITS), "keep_prob is -0.5"),
    ("probability.range", RuntimeError, dict(keep_prob=0.0, drop_mask=BITS), "keep_prob is 0.0"),
    ("prefix.missing", RuntimeError, dict(attn_mask=zeros(B, 1, SQ, SKV), sparse_mode=5), "prefix is None with sparse_mode 5"),
    ("prefix.missing", RuntimeError, dict(attn_mask=zeros(B, 1, SQ, SKV), sparse_mode=5, prefix=(4,)), r"prefix is \[4\]"),
    ("prefix.unused", RuntimeError, dict(prefix=(4, 4)), r"prefix is \[4, 4\] with sparse_mode 0"),
    ("sequences.number", RuntimeError, PACKED, "actual_seq_qlen has 0 entries"),
    ("sequences.number", RuntimeError, dict(PACKED, actual_seq_qlen=(2, 6), actual_seq_kvlen=(6,)), "actual_seq_qlen has 2 entries"),
    ("sequences.total", RuntimeError, dict(PACKED, actual_seq_qlen=(2, 7), actual_seq_kvlen=(2, 6)), "actual_seq_qlen ends with 7"),
    ("layout.sequences", RuntimeError, dict(actual_seq_qlen=(4, 8)), "actual_seq_qlen is given with input_layout BNSD"),
    ("sparse.mode", RuntimeError, dict(PACKED, actual_seq_qlen=(2, 6), actual_seq_kvlen=(2, 6), attn_mask=MASK, sparse_mode=5), "sparse_mode is 5"),
]  # fmt: skip

SPEED_ROWS = [
    ("type.float", TypeError, dict(scale=1), "scale is 1; accepted: a float"),
    ("type.int", TypeError, dict(pse_type=1.0), "pse_type is 1.0; accepted: an int"),
    ("type.optional_tensor", TypeError, dict(pse=NO_TENSOR), "pse is a ndarray"),
    ("type.optional_tensor", TypeError, dict(atten_mask=[1]), "atten_mask is a list"),
    ("type.bool", TypeError, dict(sync="x"), "sync is 'x'; accepted: True and False"),
    ("type.list", TypeError, dict(q_start_idx=1), "q_start_idx is 1"),
    ("range.pse_type", ValueError, dict(pse_type=4), "pse_type is 4; accepted: 0, 1, 2, 3"),
    ("layout.known", ValueError, dict(input_layout="BND"), "input_layout is 'BND'"),
    ("dtype.same", TypeError, dict(key=ones(B, N2, SKV, D, dtype="bfloat16")), "key has dtype bfloat16"),
    ("dtype.pse", TypeError, dict(pse=ones(B, N, SQ, SKV, dtype="float32")), "pse has dtype float32"),
    ("dtype.slopes", TypeError, dict(pse=ones(N), pse_type=2), "pse has dtype float16 with pse_type 2"),
    ("mask.dtype", TypeError, dict(atten_mask=ones(SQ, SKV)), "atten_mask has dtype float16"),
    ("padding_mask", RuntimeError, dict(padding_mask=MASK), "padding_mask is a Tensor"),
    ("probability.range", RuntimeError, dict(keep_prob=0.0), "keep_prob is 0.0"),
    ("sparse.mode", RuntimeError, dict(sparse_mode=7), "sparse_mode is 7"),
    ("heads.positive", RuntimeError, dict(head_num=0), "head_num is 0"),
    ("pse.shape", RuntimeError, dict(pse=ones(B, N, SQ, 10)), r"pse has shape \[2, 4, 4, 10\]"),
    ("features.value", RuntimeError, dict(value=ones(B, N2, SKV, 32)), "value has head size 32"),
]  # fmt: skip


def base():
    return dict(query=ones(B, N, SQ, D), key=KEY, value=KEY, head_num=N, input_layout="BNSD")


@pytest.mark.parametrize(
    ("row", "exception", "given", "sentence"), ROWS, ids=[f"{r[0]}: {r[3]}" for r in ROWS]
)
def test_flash_attention_score_refuses(row, exception, given, sentence):
    with pytest.raises(exception, match=sentence) as caught:
        flash_attention_score(**base() | given)
    assert type(caught.value) is exception


@pytest.mark.parametrize(
    ("row", "exception", "given", "sentence"), SPEED_ROWS, ids=[f"{r[0]}: {r[3]}" for r in SPEED_ROWS]
)
def test_speed_fusion_attention_refuses(row, exception, given, sentence):
    with pytest.raises(exception, match=sentence) as caught:
        speed_fusion_attention(**base() | given)
    assert type(caught.value) is exception


def test_every_row_of_the_table_has_a_test():
    tested = {row for row, *_ in (*ROWS, *SPEED_ROWS)}
    known = {row.id for row in (*OF_ARGUMENTS, *OF_SHAPES)} | set(OF_THE_OPERATOR)
    assert known - tested == {"device"}  # there are no other devices here
    for row, exception, *_ in (*ROWS, *SPEED_ROWS):
        assert exception is OF_THE_OPERATOR.get(row, exception)


@pytest.mark.parametrize("name", ["head_num", "input_layout"])
def test_arguments_that_have_no_default(name):
    given = base()
    del given[name]
    with pytest.raises(TypeError, match=name):
        speed_fusion_attention(**given)
