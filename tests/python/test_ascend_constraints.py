"""One request for each row of the table of constraints: it is refused by that row, with its kind and a sentence."""

import re
import subprocess
import sys

import pytest
from fusedattn.like.ascend import (
    NULL,
    STATUS,
    TILING,
    VALUE,
    Operand,
    Refusal,
    Request,
    backward_plan,
    forward_plan,
)
from fusedattn.like.ascend.constraints import TABLE
from fusedattn.like.ascend.operand import contiguous


def operand(*shape, dtype="float16"):
    return Operand(shape, contiguous(shape), dtype)


def bnsd(B=2, N1=4, N2=2, Sq=37, Skv=53, D=40, Dv=24, dtype="float16", **more):
    words = dict(
        query=operand(B, N1, Sq, D, dtype=dtype), key=operand(B, N2, Skv, D, dtype=dtype),
        value=operand(B, N2, Skv, Dv, dtype=dtype), head_num=N1, input_layout="BNSD",
    )  # fmt: skip
    saved = dict(
        dy=operand(B, N1, Sq, Dv, dtype=dtype), attention_in=operand(B, N1, Sq, Dv, dtype=dtype),
        softmax_max=operand(B, N1, Sq, 8, dtype="float32"), softmax_sum=operand(B, N1, Sq, 8, dtype="float32"),
    )  # fmt: skip
    return words | saved | more


def tnd(q=(5, 37), kv=(7, 53), N1=4, N2=2, D=40, Dv=24, dtype="float16", **more):
    words = dict(
        query=operand(q[-1], N1, D, dtype=dtype), key=operand(kv[-1], N2, D, dtype=dtype),
        value=operand(kv[-1], N2, Dv, dtype=dtype), head_num=N1, input_layout="TND",
        actual_seq_qlen=tuple(q), actual_seq_kvlen=tuple(kv),
        dy=operand(q[-1], N1, Dv, dtype=dtype), attention_in=operand(q[-1], N1, Dv, dtype=dtype),
        softmax_max=operand(q[-1], N1, 8, dtype="float32"), softmax_sum=operand(q[-1], N1, 8, dtype="float32"),
    )  # fmt: skip
    return words | more


def roped(**more):
    ropes = dict(
        query_rope=operand(37, 4, 16, dtype="bfloat16"), key_rope=operand(53, 2, 16, dtype="bfloat16")
    )
    return tnd(dtype="bfloat16", **dict(atten_mask=COMPRESSED, sparse_mode=3) | ropes | more)


def bsh(**more):
    words = dict(
        query=operand(2, 37, 160), key=operand(2, 53, 80), value=operand(2, 53, 48), input_layout="BSH"
    )
    saved = dict(dy=operand(2, 37, 96), attention_in=operand(2, 37, 96))
    return bnsd() | words | saved | more


COMPRESSED = operand(2048, 2048, dtype="bool")
PREFIXED = operand(3072, 2048, dtype="uint8")
MASK = operand(37, 53, dtype="bool")
LOCAL = operand(32, 46, dtype="bool")
LONG = dict(B=1, N1=2, N2=2, Sq=1500, Skv=1500)

# (row, kind forward, kind backward, request, what the sentence says)
REFUSED = [
    ("null.inputs", NULL, NULL, bnsd(key=None), "key is None"),
    ("null.gradient", None, NULL, bnsd(attention_in=None), "attention_in is None"),
    ("null.gradient", None, NULL, bnsd(dy=None), "dy is None"),
    ("layout.known", VALUE, VALUE, bnsd(input_layout="BND"), "input_layout is 'BND'; accepted: BSH"),
    ("layout.sequences", VALUE, VALUE, bnsd(actual_seq_qlen=(3,)), "actual_seq_qlen is given with input_layout BNSD"),
    ("layout.rank", VALUE, VALUE, bnsd(input_layout="BSH"), r"query has shape \[2, 4, 37, 40\]"),
    ("dtype.float", VALUE, VALUE, bnsd(dtype="float64"), "query has dtype float64"),
    ("dtype.same", VALUE, TILING, bnsd(value=operand(2, 2, 53, 24, dtype="float32")), "value has dtype float32"),
    ("dtype.pse", VALUE, TILING, bnsd(real_shift=operand(2, 4, 37, 53, dtype="float32")), "pse has dtype float32"),
    ("dtype.slopes", VALUE, TILING, bnsd(pse_type=2), "pse is None with pse_type 2"),
    ("dtype.slopes", VALUE, TILING, bnsd(pse_type=3, real_shift=operand(4)), "pse has dtype float16 with pse_type 3"),
    ("heads.positive", VALUE, VALUE, bnsd(head_num=0), "head_num is 0; accepted: integers above 0"),
    ("features.folded", None, VALUE,
     bsh(query=operand(2, 37, 0), key=operand(2, 53, 0), value=operand(2, 53, 0)), "head size 0"),
    ("features.key", VALUE, VALUE, bnsd(key=operand(2, 2, 53, 41)), "key has head size 41; accepted: query's, 40"),
    ("features.value", VALUE, VALUE, bnsd(Dv=41), "value has head size 41; accepted: at most key's, 40"),
    ("features.most", VALUE, TILING, bnsd(D=896), "query has head size 896; accepted: 1 to 768"),
    ("statistics.layout", None, VALUE, tnd(softmax_layout="TND"), "softmax_layout is 'TND'"),
    ("rope.both", VALUE, VALUE, roped(key_rope=None), "query_rope is given alone"),
    ("rope.layout", VALUE, VALUE,
     bnsd(query_rope=operand(1), key_rope=operand(1), dtype="bfloat16"), "query_rope is given with input_layout BNSD"),
    ("rope.dtype", VALUE, VALUE,
     tnd(query_rope=operand(37, 4, 16), key_rope=operand(53, 2, 16)), "query has dtype float16 beside query_rope"),
    ("rope.shape", VALUE, VALUE, roped(key_rope=operand(53, 4, 16, dtype="bfloat16")), r"key_rope has shape \[53, 4"),
    ("rope.features", VALUE, VALUE, roped(
        query_rope=operand(37, 4, 12, dtype="bfloat16"), key_rope=operand(53, 2, 12, dtype="bfloat16")), "head size 12"),
    ("rope.features", VALUE, VALUE, roped(
        query_rope=operand(37, 4, 48, dtype="bfloat16"), key_rope=operand(53, 2, 48, dtype="bfloat16")), "head size 48"),
    ("rope.alone", VALUE, VALUE, roped(keep_prob=0.5), "keep_prob is 0.5 beside query_rope"),
    ("rope.alone", VALUE, VALUE, roped(sparse_mode=6), "sparse_mode is 6 beside query_rope"),
    ("rope.alone", VALUE, VALUE, roped(drop_mask=operand(9999, dtype="uint8")), "dropout_mask is given beside"),
    ("rope.mask", NULL, NULL, roped(atten_mask=None), "atten_mask is None beside query_rope"),
    ("probability.range", TILING, TILING, bnsd(keep_prob=1.2), "keep_prob is 1.2"),
    ("probability.range", TILING, TILING, bnsd(keep_prob=0.0), "keep_prob is 0.0"),
    ("probability.range", TILING, TILING, bnsd(keep_prob=1e-50), "keep_prob is 1e-50"),
    ("probability.range", TILING, TILING, bnsd(keep_prob=-0.5), "keep_prob is -0.5"),
    ("probability.range", TILING, TILING, bnsd(keep_prob=float("nan")), "keep_prob is nan"),
    ("scale.range", TILING, TILING, bnsd(scale_value=3e38), "scale.* is 3e\\+38; accepted: numbers from -2.3e38 to"),
    ("heads.query", TILING, TILING, bsh(query=operand(2, 37, 163)), "query has hidden size 163"),
    ("heads.key", TILING, TILING, bsh(key=operand(2, 53, 90)), "key has hidden size 90"),
    ("heads.value", TILING, TILING, bsh(value=operand(2, 53, 49)), "value has hidden size 49"),
    ("heads.number", TILING, TILING, bnsd(head_num=8), "head_num is 8; query has 4 heads"),
    ("heads.groups", TILING, TILING, bnsd(N1=10, N2=9), "key has 9 heads; accepted: divisors of head_num = 10"),
    ("shapes.batch", TILING, TILING, bnsd(key=operand(1, 2, 53, 40)), "key has batch 1, value has batch 2"),
    ("shapes.value", TILING, TILING, bnsd(value=operand(2, 2, 52, 24)), "value has 2 heads and 52 rows"),
    ("shapes.features", TILING, TILING, bnsd(Dv=0), "value has head size 0"),
    ("shapes.rows", TILING, TILING, bnsd(B=1, Skv=2**31), "key has 2147483648"),
    ("sequences.number", TILING, TILING, tnd(actual_seq_kvlen=(53,)), "actual_seq_qlen has 2 entries"),
    ("sequences.number", TILING, TILING, tnd(actual_seq_qlen=None), "actual_seq_qlen has 0 entries"),
    ("sequences.rising", TILING, TILING, tnd(q=(5, 3, 37), kv=(7, 8, 53)), r"actual_seq_qlen is \[5, 3, 37\]"),
    ("sequences.rising", TILING, TILING, tnd(actual_seq_qlen=(-1, 37)), r"actual_seq_qlen is \[-1, 37\]"),
    ("sequences.total", TILING, TILING, tnd(actual_seq_kvlen=(7, 54)), "actual_seq_kvlen ends with 54 of 53"),
    ("sink.shape", TILING, TILING, bnsd(sink=operand(2, dtype="float32")), r"sink has shape \[2\]"),
    ("sink.shape", TILING, TILING, bnsd(sink=operand(4)), "dtype float16; accepted: float32"),
    ("sparse.mode", TILING, TILING, bnsd(sparse_mode=7), "sparse_mode is 7 with input_layout BNSD"),
    ("sparse.mode", TILING, TILING, bnsd(sparse_mode=-1), "sparse_mode is -1"),
    ("sparse.mode", TILING, TILING, tnd(sparse_mode=5), "sparse_mode is 5 with input_layout TND"),
    ("sparse.mode", TILING, TILING, tnd(sparse_mode=9), "sparse_mode is 9"),
    ("mask.dtype", TILING, TILING, bnsd(atten_mask=operand(37, 53)), "atten_mask has dtype float16"),
    ("mask.compressed", TILING, TILING, bnsd(atten_mask=MASK, sparse_mode=2), r"takes the compressed \[2048, 2048\]"),
    ("mask.compressed", TILING, TILING, bnsd(atten_mask=COMPRESSED, sparse_mode=6, prefix=(16, 20)), r"\[3072, 2048\]"),
    ("mask.compressed", TILING, TILING, tnd(atten_mask=LOCAL, sparse_mode=8), r"atten_mask has shape \[32, 46\]"),
    ("mask.full", TILING, TILING, bnsd(atten_mask=operand(36, 53, dtype="bool")), r"\[36, 53\] with sparse_mode 0"),
    ("mask.full", TILING, TILING, bnsd(atten_mask=operand(1, 4, 37, 53, dtype="bool")), "accepted: .*37, 53"),
    ("mask.full", TILING, TILING, bnsd(atten_mask=operand(2, 37, 53, dtype="bool"), sparse_mode=1), "mode 1"),
    ("mask.full", TILING, TILING, bnsd(B=3, atten_mask=operand(2, 2, 37, 53, dtype="bool")), "atten_mask has shape"),
    ("mask.full", TILING, TILING,
     bnsd(B=3, atten_mask=MASK, sparse_mode=5, prefix=(16, 17, 18)), "with sparse_mode 5; accepted"),
    ("mask.full", TILING, TILING, tnd(atten_mask=operand(31, 46, dtype="bool")), r"\[32, 46\]"),
    ("mask.full", TILING, TILING, tnd(atten_mask=operand(2, 1, 32, 46, dtype="bool")), "atten_mask has shape"),
    ("tokens.band", TILING, TILING, bnsd(atten_mask=MASK, pre_tockens=-3, next_tockens=-1), "both edges"),
    ("tokens.band", TILING, TILING, bnsd(atten_mask=MASK, pre_tockens=-3, next_tockens=2), "pre_tockens leaves no"),
    ("tokens.band", TILING, TILING, bnsd(atten_mask=MASK, pre_tockens=-53, next_tockens=60), "pre_tockens leaves no"),
    ("tokens.band", TILING, TILING, bnsd(atten_mask=MASK, pre_tockens=3, next_tockens=-4), "next_tockens leaves no"),
    ("tokens.band", TILING, TILING, bnsd(atten_mask=MASK, pre_tockens=60, next_tockens=-37), "next_tockens leaves no"),
    ("tokens.band", TILING, TILING,
     bnsd(atten_mask=COMPRESSED, sparse_mode=4, pre_tockens=10, next_tockens=-20), "with sparse_mode 4"),
    ("tokens.band", TILING, TILING, tnd(atten_mask=LOCAL, next_tockens=-1), "next_tockens is -1"),
    ("tokens.band", TILING, TILING, tnd(q=(30, 37), kv=(7, 53), atten_mask=operand(30, 46, dtype="bool"),
                                        pre_tockens=22, next_tockens=3), "pre_tockens is 22"),
    ("tokens.band", TILING, TILING, tnd(atten_mask=LOCAL, pre_tockens=-3, next_tockens=2), "pre_tockens is -3"),
    ("tokens.band", TILING, TILING, tnd(atten_mask=COMPRESSED, sparse_mode=4, pre_tockens=-1), "pre_tockens is -1"),
    ("tokens.band", TILING, TILING,
     tnd(atten_mask=COMPRESSED, sparse_mode=4, pre_tockens=2, next_tockens=-3), "next_tockens is -3"),
    ("tokens.band", TILING, TILING,
     tnd(q=(9, 37), atten_mask=COMPRESSED, sparse_mode=4, pre_tockens=9, next_tockens=1), "lengths q 9, kv 7"),
    ("tokens.lengths", TILING, TILING, tnd(q=(9, 37), atten_mask=COMPRESSED, sparse_mode=3), "q length 9"),
    ("tokens.lengths", TILING, TILING, tnd(q=(9, 37), atten_mask=COMPRESSED, sparse_mode=7), "with sparse_mode 7"),
    ("tokens.cut", TILING, TILING,
     tnd(atten_mask=COMPRESSED, sparse_mode=7, pre_tockens=45, next_tockens=0), "pre_tockens is 45"),
    ("tokens.cut", TILING, TILING, tnd(atten_mask=COMPRESSED, sparse_mode=7, next_tockens=1), "next_tockens is 1"),
    ("tokens.cut", TILING, TILING, tnd(atten_mask=COMPRESSED, sparse_mode=7, next_tockens=-15), "sequence 1"),
    ("tokens.cut", TILING, TILING, tnd(atten_mask=COMPRESSED, sparse_mode=8, pre_tockens=6), "pre_tockens is 6"),
    ("tokens.cut", TILING, TILING, tnd(atten_mask=COMPRESSED, sparse_mode=8, next_tockens=-3), "sequence 0"),
    ("prefix.number", TILING, TILING, bnsd(atten_mask=PREFIXED, sparse_mode=6), "prefix is None with sparse_mode 6"),
    ("prefix.number", TILING, TILING, bnsd(atten_mask=PREFIXED, sparse_mode=6, prefix=(20,)), "prefix has 1 entries"),
    ("prefix.range", TILING, TILING, bnsd(atten_mask=PREFIXED, sparse_mode=6, prefix=(16, 15)), r"prefix\[1\] is 15"),
    ("prefix.range", TILING, TILING, bnsd(atten_mask=PREFIXED, sparse_mode=6, prefix=(54, 16)), r"prefix\[0\] is 54"),
    ("prefix.range", TILING, TILING, tnd(atten_mask=PREFIXED, sparse_mode=6, prefix=(8, 20)), r"prefix\[0\] is 8"),
    ("pse.type", TILING, TILING, bnsd(pse_type=4), "pse_type is 4; accepted: 0, 1, 2, 3"),
    ("pse.missing", TILING, TILING, bnsd(pse_type=0), "pse is None with pse_type 0"),
    ("pse.mode", TILING, TILING, tnd(
        real_shift=operand(4 * 53), atten_mask=COMPRESSED, sparse_mode=7, next_tockens=0), "pse is given"),
    ("pse.shape", TILING, TILING, bnsd(real_shift=operand(37, 53)), r"pse has shape \[37, 53\]"),
    ("pse.shape", TILING, TILING, bnsd(real_shift=operand(2, 1, 37, 53)), "pse has shape"),
    ("pse.shape", TILING, TILING, bnsd(real_shift=operand(2, 4, 10, 53)), "pse has shape"),
    ("pse.shape", TILING, TILING, bnsd(real_shift=operand(1, 4, 1, 53)), r"pse has shape \[1, 4, 1, 53\]"),
    ("pse.shape", TILING, TILING, tnd(real_shift=operand(2, 4, 1, 46)), r"pse has shape \[2, 4, 1, 46\]"),
    ("pse.shape", TILING, TILING, tnd(real_shift=operand(4 * 53 + 1)), "pse has shape"),
    ("pse.compressed", TILING, TILING, bnsd(
        B=1, N1=2, N2=2, Sq=512, Skv=512, real_shift=operand(1, 2, 1024, 512), sparse_mode=2, atten_mask=COMPRESSED),
     "q length 512"),
    ("pse.compressed", TILING, TILING, bnsd(**LONG, real_shift=operand(1, 2, 1024, 1500)), "1024 rows"),
    ("pse.compressed", TILING, TILING, bnsd(
        **LONG | dict(Skv=1600), real_shift=operand(1, 2, 1024, 1600), sparse_mode=2, atten_mask=COMPRESSED), "1600"),
    ("pse.compressed", TILING, TILING, bnsd(
        **LONG, real_shift=operand(1, 2, 1024, 1500), atten_mask=operand(1500, 1500, dtype="bool"), next_tockens=1),
     "sparse_mode 0"),
    ("pse.compressed", TILING, TILING, tnd(
        real_shift=operand(1, 4, 1024, 46), atten_mask=COMPRESSED, sparse_mode=2), "several lengths"),
    ("pse.slopes", TILING, TILING, bnsd(Skv=37, pse_type=2, real_shift=operand(1, 4, dtype="float32")), "with pse_type 2"),
    ("pse.lengths", TILING, TILING, bnsd(pse_type=2, real_shift=operand(4, dtype="float32")), "q length 37"),
    ("pse.lengths", TILING, TILING, tnd(pse_type=3, real_shift=operand(4, dtype="float32")), "sequence 0 has q length 5"),
    ("pse.range", TILING, TILING, bnsd(
        Skv=37, pse_type=2, real_shift=operand(4, dtype="float32"), q_start_idx=(2**52 + 1,), kv_start_idx=(0,)),
     r"q_start_idx\[0\] is 4503599627370497; accepted: -2\^52 to 2\^52"),
    ("pse.starts", TILING, TILING, tnd(
        q=(5, 37), kv=(7, 39), pse_type=2, real_shift=operand(4, dtype="float32"), atten_mask=COMPRESSED, sparse_mode=8,
        q_start_idx=(3,), kv_start_idx=(2,)), "q_start_idx is 3, kv_start_idx is 2"),
    ("dropout.dtype", TILING, TILING, bnsd(keep_prob=0.5, drop_mask=operand(9999, dtype="bool")), "dtype bool"),
    ("dropout.size", TILING, TILING, bnsd(keep_prob=0.5, drop_mask=operand(1960, dtype="uint8")), "1960 bytes for 15688"),
    ("dropout.missing", None, TILING, bnsd(keep_prob=0.5), "dropout_mask is None with keep_prob 0.5"),
    ("gradient.outputs", None, TILING, bnsd(dy=operand(2, 4, 37, 40)), r"dy has shape \[2, 4, 37, 40\]"),
    ("gradient.outputs", None, TILING, bnsd(attention_in=operand(2, 4, 37, 24, dtype="float32")), "dtype float32"),
    ("gradient.statistics", None, TILING, bnsd(softmax_max=None), "softmax_max is None"),
    ("gradient.statistics", None, TILING, bnsd(softmax_sum=operand(2, 4, 37, dtype="float32")), "softmax_sum has shape"),
    ("gradient.statistics", None, TILING, tnd(softmax_max=operand(37, 4, 8)), "dtype float16"),
]  # fmt: skip


def plans(backward):
    return backward_plan if backward else forward_plan


@pytest.mark.filterwarnings("ignore:softmax_layout is")
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(
    ("row", "forward_kind", "backward_kind", "words", "sentence"),
    REFUSED,
    ids=[f"{r[0]} {r[4]}" for r in REFUSED],
)
def test_refused(row, forward_kind, backward_kind, words, sentence, backward):
    kind = backward_kind if backward else forward_kind
    if kind is None:
        assert plans(backward)(Request(**words)).numels >= 0
        return
    with pytest.raises(Refusal) as caught:
        plans(backward)(Request(**words))
    refusal = caught.value
    assert (refusal.row, refusal.kind, refusal.status) == (row, kind, STATUS[kind]), str(refusal)
    assert re.search(sentence, str(refusal)) and "; accepted: " in str(refusal), str(refusal)


def test_every_row_is_tested_with_its_kinds():
    assert {(row, forward, backward) for row, forward, backward, *_ in REFUSED} == {row[:3] for row in TABLE}
    assert len({row.id for row in TABLE}) == len(TABLE)


ACCEPTED = {
    "no mask, any mode and tokens": bnsd(sparse_mode=6, pre_tockens=-9, next_tockens=-9),
    "any inner_precise": bnsd(inner_precise=3),
    "head sizes that no vector divides": bnsd(D=125, Dv=21),
    "768 features": bnsd(D=768, Dv=768),
    "a mask of 2048 as four dimensions": bnsd(atten_mask=operand(2, 4, 2048, 2048, dtype="bool"), sparse_mode=3),
    "the diagonal alone": tnd(
        q=(7, 53), atten_mask=COMPRESSED, sparse_mode=4, pre_tockens=0, next_tockens=0),
    "a prefix of no use": bnsd(B=3, atten_mask=MASK, sparse_mode=5, prefix=(1,)),
    "one of the two start lists": bnsd(q_start_idx=(3,)),
    "start lists of a band without pse": tnd(
        q=(128, 256), kv=(256, 512), atten_mask=COMPRESSED, sparse_mode=8, next_tockens=64, q_start_idx=(64,),
        kv_start_idx=(32,)),
    "a mask over all packed rows": tnd(atten_mask=operand(37, 53, dtype="uint8"), sparse_mode=1),
    "a batch of one may repeat a row of pse": bnsd(B=1, real_shift=operand(1, 4, 1, 53)),
    "no rows at all": bnsd(Sq=0, real_shift=operand(3)),
}  # fmt: skip


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("words", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(words, backward):
    plan = plans(backward)(Request(**words))
    assert set(plan.outputs) >= (
        {"dq", "dk", "dv"} if backward else {"attention_out", "softmax_max", "softmax_sum"}
    )


def test_2049_sequences():
    ends = tuple(range(1, 2050))
    assert forward_plan(Request(**tnd(q=ends, kv=ends))).numels == 4 * 2049


def test_sentences_use_the_words_of_the_caller():
    words = bnsd(real_shift=operand(37, 53), pse_type=0)
    for door, word in (("graph", "real_shift"), ("torch_npu_v2", "pse"), ("mindspore", "real_shift")):
        with pytest.raises(Refusal, match=f"^{word} has shape"):
            forward_plan(Request(**words, door=door))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (bnsd(pre_tockens=2**40), "pre_tockens is 1099511627776; it is clamped to 32 bits"),
        (tnd(softmax_layout="NTD"), "softmax_layout is 'NTD', which is taken as ''"),
        (tnd(q=tuple(range(1, 20002)), kv=tuple(range(1, 20002))), "devices take up to 20000"),
        (bnsd(B=2049, prefix=(16,) * 2049), "prefix has 2049 entries; devices take up to 2048"),
    ],
)
def test_warnings(words, sentence):
    for _ in range(2):
        with pytest.warns(UserWarning, match=sentence):
            forward_plan(Request(**words))


def test_plans_are_found_again():
    assert forward_plan(Request(**bnsd())) is forward_plan(Request(**bnsd()))


def test_the_layer_imports_no_framework():
    code = "import sys, fusedattn.like.ascend; print('torch' in sys.modules, 'mindspore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
