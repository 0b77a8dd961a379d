"""What npu_fusion_attention refuses: sentences that name the argument, its value and what is accepted."""

import numpy
import pytest
import torch
from fusedattn.like.torch_npu import (
    _npu_dropout_gen_mask,
    npu_confusion_transpose,
    npu_fusion_attention,
    npu_fusion_attention_grad,
    npu_fusion_attention_grad_v2,
    npu_fusion_attention_grad_v3,
    npu_fusion_attention_v2,
    npu_fusion_attention_v3,
)
from test_like_torch_npu import COMPRESSED, check_packed, draw, draw_packed

MASK = torch.zeros(37, 53, dtype=torch.bool)
NESTED = torch.nested.nested_tensor([torch.ones(2, 53, 40)] * 2)
REFUSED = [
    (dict(head_num=0), "head_num is 0"),
    (dict(head_num=True), "head_num is True"),
    (dict(head_num=4.0), "head_num is 4.0; accepted is an integer"),
    (dict(scale="0.5"), "scale is '0.5'; accepted is a number"),
    (dict(scale=None), "scale is None"),
    (dict(scale=float("nan")), "scale is nan"),
    (dict(keep_prob="1"), "keep_prob is '1'"),
    (dict(keep_prob=None), "keep_prob is None"),
    (dict(pre_tockens="a"), "pre_tockens is 'a'"),
    (dict(pre_tockens=float("nan"), atten_mask=MASK), "pre_tockens is nan"),
    (dict(next_tockens=1.5), "next_tockens is 1.5"),
    (dict(inner_precise="x"), "inner_precise is 'x'"),
    (dict(gen_mask_parallel="x"), "gen_mask_parallel is 'x'; accepted: True, False"),
    (dict(sync="x"), "sync is 'x'"),
    (dict(seed="x"), "seed is 'x'"),
    (dict(offset=None), "offset is None"),
    (dict(sparse_mode=True), "sparse_mode is True"),
    (dict(sparse_mode="0"), "sparse_mode is '0'"),
    (dict(value=torch.ones(2, 2, 53, 0)), "value has head size 0"),
    (dict(query=torch.ones(2, 4, 37, 40).to_sparse()), "query has layout torch.sparse_coo"),
    (dict(atten_mask=MASK.to_sparse()), "atten_mask has layout torch.sparse_coo"),
    (dict(key=NESTED), "key has layout torch.strided, nested"),
    (dict(prefix=torch.eye(2).to_sparse()), "prefix has layout torch.sparse_coo"),
    (dict(prefix=torch.ones(2, device="meta")), "prefix is on device meta, .*accepted: a list of integers"),
    (dict(actual_seq_kvlen=torch.eye(2).to_sparse()), "actual_seq_kvlen has layout torch.sparse_coo"),
    (dict(head_num=3), "head_num is 3; query has 4 heads"),
    (dict(input_layout=""), "input_layout is ''; accepted: BSH"),
    (dict(input_layout="BND"), "input_layout is 'BND'"),
    (dict(input_layout="BSH"), "query has shape .* BSH needs as many dimensions as it has letters"),
    (dict(keep_prob=0.0), "keep_prob is 0.0; accepted"),
    (dict(keep_prob=1.5), "keep_prob is 1.5"),
    (dict(keep_prob=float("nan")), "keep_prob is nan"),
    (dict(sparse_mode=-1), "sparse_mode is -1"),
    (dict(sparse_mode=7), "sparse_mode is 7; accepted with input_layout BNSD"),
    (dict(softmax_layout="SBH"), "softmax_layout is 'SBH'"),
    (dict(softmax_layout="TND"), "softmax_layout is 'TND' with input_layout BNSD"),
    (dict(softmax_layout=numpy.array(["", "TND"])), "softmax_layout is array"),
    (dict(actual_seq_qlen=[3]), "actual_seq_qlen is given with input_layout BNSD"),
    (dict(key=torch.ones(2, 3, 53, 40), value=torch.ones(2, 3, 53, 24)), "key has 3 heads"),
    (dict(key=torch.ones(2, 2, 53, 41)), "key has head size 41"),
    (dict(value=torch.ones(2, 2, 53, 41)), "value has head size 41; accepted: at most key's, 40"),
    (dict(value=torch.ones(2, 2, 52, 24)), "value has 2 heads and 52 rows"),
    (dict(key=torch.ones(1, 2, 53, 40)), "key has batch 1"),
    (dict(key=torch.ones(2, 2, 53, 40).half()), "key has dtype float16; accepted: query's, float32"),
    (dict(value=None), "value is a NoneType"),
    (dict(atten_mask=torch.zeros(37, 53)), "atten_mask has dtype float32; accepted: bool and uint8"),
    (dict(atten_mask=torch.zeros(36, 53, dtype=torch.bool)), r"atten_mask has shape \[36, 53\]"),
    (dict(atten_mask=torch.zeros(1, 4, 37, 53, dtype=torch.bool)), "atten_mask has shape"),
    (dict(atten_mask=torch.zeros(2, 37, 53, dtype=torch.bool)), "atten_mask has shape"),
    (dict(atten_mask=MASK, sparse_mode=2), r"sparse_mode 2 takes the compressed \[2048, 2048\]"),
    (dict(atten_mask=MASK, pre_tockens=-3, next_tockens=-1), "pre_tockens is -3, next_tockens is -1"),
    (dict(atten_mask=MASK, pre_tockens=-3, next_tockens=2), "pre_tockens leaves no column"),
    (dict(atten_mask=MASK, pre_tockens=3, next_tockens=-4), "next_tockens leaves no column"),
]
# Refused by the operator itself: the sentence begins with its name and the device's code.
BY_THE_OPERATOR = [
    (dict(pse=torch.ones(2, 4, 10, 53)), "aclnnFlashAttentionScore failed with 561002: pse has shape"),
    (dict(key=torch.ones(2, 2, 53, 40).half()), "aclnnFlashAttentionScore failed with 161002: key has dtype"),
    (dict(sink=torch.ones(3)), "aclnnFlashAttentionScoreV3 failed with 561002: sink has shape"),
    (
        dict(keep_prob=0.9, dropout_mask=torch.ones(4).byte()),
        "561002: dropout_mask has 4 bytes for 15688 scores",
    ),
    (dict(atten_mask=MASK, sparse_mode=6), "561002: atten_mask has shape"),
    (dict(scale=3e38), r"aclnnFlashAttentionScore failed with 561002: scale is 3e\+38; accepted: numbers"),
    (
        dict(atten_mask=torch.zeros(3072, 2048).byte(), sparse_mode=6),
        "561002: prefix is None with sparse_mode 6",
    ),
]


def call(**given):
    query, key, value, _ = draw()
    base = dict(query=query, key=key, value=value, head_num=4, input_layout="BNSD")
    return npu_fusion_attention(**base | given)


@pytest.mark.parametrize(("given", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_refused(given, sentence):
    with pytest.raises(RuntimeError, match=sentence):
        call(**given)


@pytest.mark.parametrize(
    ("given", "sentence"), BY_THE_OPERATOR, ids=[sentence for _, sentence in BY_THE_OPERATOR]
)
def test_refused_by_the_operator(given, sentence):
    with pytest.raises(RuntimeError, match=sentence):
        call(**given)


def test_what_has_no_effect():
    same = dict(zip(("query", "key", "value"), draw()))
    wanted = call(**same)
    given = dict(
        padding_mask=torch.ones(2), inner_precise=3, gen_mask_parallel=False, sync=True, prefix=[1, 2]
    )
    assert torch.equal(call(**same, **given)[0], wanted[0])


def test_integers_of_numpy_are_taken():
    same = dict(zip(("query", "key", "value"), draw()))
    got = call(**same, head_num=numpy.int64(4), sparse_mode=numpy.int32(0))
    assert torch.equal(got[0], call(**same)[0])


PACKED_REFUSED = [
    (dict(actual_seq_qlen=None), "actual_seq_qlen is None"),
    (dict(actual_seq_kvlen=[]), r"actual_seq_kvlen is \(\); accepted with TND"),
    (dict(actual_seq_qlen=[2.7, 60]), r"actual_seq_qlen\[0\] is 2.7; accepted is an integer"),
    (dict(actual_seq_qlen=[-3]), r"actual_seq_qlen\[0\] is -3"),
    (dict(actual_seq_qlen=["4", "9"]), r"actual_seq_qlen\[0\] is '4'"),
    (dict(actual_seq_qlen="9"), "actual_seq_qlen is '9'; accepted is a list of integers"),
    (dict(actual_seq_qlen=[True]), r"actual_seq_qlen\[0\] is True"),
    (dict(actual_seq_qlen=torch.tensor([4.0, 60.0])), r"actual_seq_qlen\[0\] is 4.0"),
    (dict(actual_seq_qlen=torch.tensor(9)), "actual_seq_qlen is tensor"),
    (dict(actual_seq_kvlen=9), "actual_seq_kvlen is 9"),
    (dict(actual_seq_kvlen=[[9]]), r"actual_seq_kvlen\[0\] is \[9\]"),
    (dict(actual_seq_kvlen=[None]), r"actual_seq_kvlen\[0\] is None"),
    (dict(actual_seq_qlen=[60]), "actual_seq_qlen has 1 entries"),
    (dict(actual_seq_qlen=[5, 5, 42, 30, 43, 60]), "actual_seq_qlen is .*decreasing at the end alone"),
    (dict(actual_seq_kvlen=[7, 19, 60, 60, 63, 91]), "actual_seq_kvlen ends with 91"),
    (dict(sparse_mode=5), "sparse_mode is 5; accepted with input_layout TND"),
    (dict(atten_mask=torch.zeros(36, 41, dtype=torch.bool)), r"atten_mask has shape \[36, 41\]"),
    (
        dict(atten_mask=torch.zeros(60, 91, dtype=torch.bool)),
        r"VarLenScore failed .*atten_mask has shape \[60, 91\]",
    ),
    (dict(atten_mask=COMPRESSED, sparse_mode=7), "with sparse_mode 7 and lengths q 17, kv 27 of sequence 5"),
    (
        dict(atten_mask=COMPRESSED[:36], softmax_layout="TND"),
        "aclnnFlashAttentionVarLenScoreV4 failed with 561002",
    ),
    (dict(atten_mask=torch.zeros(37, 41, dtype=torch.bool), next_tockens=-1), "next_tockens is -1"),
    (dict(atten_mask=COMPRESSED, sparse_mode=4, pre_tockens=-1), "pre_tockens is -1"),
    (
        dict(atten_mask=COMPRESSED, sparse_mode=3, actual_seq_kvlen=[4, 19, 60, 60, 63, 90]),
        "q length <= kv length",
    ),
]


@pytest.mark.parametrize(
    ("given", "sentence"), PACKED_REFUSED, ids=[sentence for _, sentence in PACKED_REFUSED]
)
def test_packed_refused(given, sentence):
    with pytest.raises(RuntimeError, match=sentence):
        check_packed(draw_packed(), **given)


SCORE = (2, 4, 5, 8)  # the shape of statistics, too
FORWARDS = npu_fusion_attention, npu_fusion_attention_v2, npu_fusion_attention_v3
GRADIENTS = npu_fusion_attention_grad, npu_fusion_attention_grad_v2, npu_fusion_attention_grad_v3
LENT = {
    "query": torch.ones(SCORE),
    "key": torch.ones(SCORE),
    "value": torch.ones(SCORE),
    "pse": torch.ones(2, 4, 5, 5),
    "atten_mask": torch.zeros(5, 5, dtype=torch.bool),
    "sink": torch.ones(4),
}
SAVED = {name: torch.ones(SCORE) for name in ("dy", "softmax_max", "softmax_sum", "attention_in")}


def elsewhere(function, tensors, name, **more):
    """A call with one tensor on meta is refused; the first tensor, query, says where the others should be."""
    given = {other: tensor.to("meta") if other == name else tensor for other, tensor in tensors.items()}
    blamed = "key" if name == "query" else name
    sentence = f"{function.__name__}: {blamed} is on device (meta|cpu); accepted: that of query, (cpu|meta)"
    with pytest.raises(RuntimeError, match=sentence):
        function(head_num=4, input_layout="BNSD", **given, **more)


@pytest.mark.parametrize("name", [*LENT, "actual_seq_qlen", "actual_seq_kvlen"])
@pytest.mark.parametrize("function", FORWARDS, ids=lambda function: function.__name__)
def test_tensors_of_two_devices(function, name):
    elsewhere(function, LENT | {name: LENT.get(name, torch.tensor([5]))}, name)


@pytest.mark.parametrize("name", [*LENT, *SAVED])
@pytest.mark.parametrize("function", GRADIENTS, ids=lambda function: function.__name__)
def test_tensors_of_two_devices_in_gradients(function, name):
    elsewhere(function, LENT | SAVED, name)


def test_other_tensors_of_two_devices():
    bits = {"dropout_mask": torch.ones(64, dtype=torch.uint8)}
    for function in FORWARDS[:2]:
        elsewhere(function, LENT | bits, "dropout_mask", keep_prob=0.5)
    seeds = {"seed": torch.tensor([1]), "offset": torch.tensor([0])}
    for name in seeds:
        elsewhere(npu_fusion_attention_grad_v3, LENT | SAVED | seeds, name, keep_prob=0.5)
    meta = {name: tensor.to("meta") for name, tensor in LENT.items()}
    with pytest.raises(RuntimeError, match="actual_seq_qlen is on device cpu; accepted: that of query, meta"):
        npu_fusion_attention_v3(**meta, head_num=4, input_layout="BNSD", actual_seq_qlen=torch.tensor([5]))
    with pytest.raises(RuntimeError, match="key is on device meta"):
        operators = torch.ops.fusedattn
        operators.npu_score(LENT["query"], meta["key"], LENT["value"], *[None] * 10, *TERMS)


TERMS = (4, "BNSD", 1.0, 1.0, 9, 9, 0, 0, 1, "", None, None, None, True, 1)


@pytest.mark.parametrize(
    "seed", [True, 10**400, -(2**63) - 1, "x", None, 1.0, torch.tensor([1, 2]), torch.ones(1)], ids=repr
)
@pytest.mark.parametrize("name", ["seed", "offset"])
def test_seeds_of_the_gradient(name, seed):
    numbers = {"seed": 1, "offset": 0} | {name: seed}
    with pytest.raises(RuntimeError, match=f"npu_fusion_attention_grad_v3: {name} (is|has)"):
        given = LENT | SAVED | numbers
        npu_fusion_attention_grad_v3(**given, head_num=4, input_layout="BNSD", keep_prob=0.5)


@pytest.mark.parametrize("name", ["q_start_idx", "kv_start_idx"])
def test_far_starts(name):
    starts = {"q_start_idx": [0], "kv_start_idx": [0]} | {name: [2**60]}
    given = LENT | {"pse": torch.ones(4)}
    with pytest.raises(RuntimeError, match=rf"aclnn\w+ failed with 561002: {name}\[0\] is {2**60}; accepted"):
        npu_fusion_attention_v2(**given, head_num=4, input_layout="BNSD", pse_type=2, **starts)


@pytest.mark.parametrize(
    "size, sentence",
    [
        (None, "size is None"),
        ([2**40, 2**40], "1208925819614629174706176 bits; accepted: up to"),
        ([2**60], "accepted: what memory can hold"),
        ([-1], r"size\[0\] is -1"),
        (torch.eye(2).to_sparse(), "size has layout torch.sparse_coo"),
    ],
    ids=str,
)
def test_sizes_of_bits(size, sentence):
    with pytest.raises(RuntimeError, match=f"_npu_dropout_gen_mask: .*{sentence}"):
        _npu_dropout_gen_mask(torch.empty(0), size, 0.5, 1, 0)


@pytest.mark.parametrize("transpose_first", [True, False])
@pytest.mark.parametrize(
    "perm, shape, blamed",
    [
        ([4, 1, 2, 7], [2, 4, 5, 8], "perm"),
        ([-5, 1, 2, 3], [2, 4, 5, 8], "perm"),
        (None, [2, 4, 5, 8], "perm"),
        ([0, 1, 2, 3], None, "shape"),
        ([0, 1, 2, 3], [-2, -4, 5, 8], "shape"),
        ([0, 1, 2, 3], torch.ones(4, device="meta"), "shape"),
    ],
    ids=str,
)
def test_transposes(perm, shape, blamed, transpose_first):
    with pytest.raises(RuntimeError, match=f"npu_confusion_transpose: {blamed} is"):
        npu_confusion_transpose(torch.ones(2, 4, 5, 8), perm, shape, transpose_first)
