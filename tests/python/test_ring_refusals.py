"""What the joining operators refuse: one test per row of ring_checks, and what only torch can get wrong."""

import pytest
import torch
from fusedattn.like import ring_checks
from fusedattn.like.ring_checks import LISTS, RING, STATISTICS, TENSORS, Given, Lists, Update, first_refusal
from fusedattn.like.torch_npu_ring import npu_attention_update, npu_ring_attention_update


def update(packed=False, **changes):
    """A call that passes, with fields or tensors (by name) changed."""
    out, statistic = ((6, 2, 64), (6, 2, 8)) if packed else ((6, 3, 8), (3, 2, 6, 8))
    tensors = {name: Given(statistic if name in STATISTICS else out, "float32") for name in TENSORS}
    fields = {"actual_seq_qlen": Given((3,), "int64") if packed else None, "ends": [0, 4, 6] if packed else None}
    fields |= {"input_layout": "TND" if packed else "SBH"}
    for name, value in changes.items():
        (tensors if name in tensors else fields)[name] = value
    return Update(tensors, **fields)


def parts(**changes):
    fields = {"lse": [Given((5,), "float32")] * 2, "local_out": [Given((5, 16), "bfloat16")] * 2, "update_type": 1}
    return Lists(**fields | changes)


OUT, PACKED_OUT = (6, 3, 8), (6, 2, 64)
BROKEN = {
    **{f"null.{name}": update(**{name: None}) for name in TENSORS},
    "layout": update(input_layout="BSH"),
    "layout.softmax": update(True, input_softmax_layout="NTD"),
    "null.actual_seq_qlen": update(True, actual_seq_qlen=None),
    "dtype.prev_attn_out": update(prev_attn_out=Given(OUT, "float64")),
    "dtype.cur_attn_out": update(cur_attn_out=Given(OUT, "bfloat16")),
    **{f"dtype.{name}": update(**{name: Given((3, 2, 6, 8), "bfloat16")}) for name in STATISTICS},
    "dtype.actual_seq_qlen": update(True, actual_seq_qlen=Given((3,), "int32")),
    **{f"rank.{name}": update(**{name: Given((6, 8), "float32")}) for name in TENSORS},
    "rank.actual_seq_qlen": update(True, actual_seq_qlen=Given((3, 1), "int64")),
    "lanes": update(prev_softmax_max=Given((3, 2, 6, 1), "float32")),
    "empty.prev_attn_out": update(prev_attn_out=Given((0, 3, 8), "float32")),
    "empty.prev_softmax_max": update(prev_softmax_max=Given((3, 0, 6, 8), "float32")),
    "same.cur_attn_out": update(cur_attn_out=Given((6, 3, 16), "float32")),
    **{f"same.{name}": update(**{name: Given((3, 2, 7, 8), "float32")}) for name in STATISTICS[1:]},
    "agree": update(**dict.fromkeys(STATISTICS, Given((3, 2, 5, 8), "float32"))),
    "heads": update(**dict.fromkeys(STATISTICS, Given((3, 3, 6, 8), "float32"))),
    "lengths": update(True, ends=[0, 4, 5]),
    "strict.features": update(True, strict=True, **dict.fromkeys(("prev_attn_out", "cur_attn_out"), Given((6, 2, 63), "float32"))),
    "strict.size": update(
        True,
        strict=True,
        **dict.fromkeys(("prev_attn_out", "cur_attn_out"), Given((6, 72, 128), "float16")),
        **dict.fromkeys(STATISTICS, Given((6, 72, 8), "float32")),
    ),
}  # fmt: skip
BROKEN_LISTS = {
    "null.lse": parts(lse=[None]),
    "null.local_out": parts(local_out=[Given((5, 16), "float32"), None]),
    "type": parts(update_type=2),
    "count": parts(lse=[], local_out=[]),
    "pairs": parts(local_out=[Given((5, 16), "bfloat16")]),
    "dtype.lse": parts(lse=[Given((5,), "float32"), Given((5,), "float16")]),
    "dtype.local_out": parts(local_out=[Given((5, 16), "bfloat16"), Given((5, 16), "float32")]),
    "rank.lse": parts(lse=[Given((5, 1), "float32")] * 2),
    "rank.local_out": parts(local_out=[Given((5,), "float32")] * 2),
    "same.lse": parts(lse=[Given((5,), "float32"), Given((6,), "float32")]),
    "same.local_out": parts(local_out=[Given((5, 16), "float32"), Given((5, 8), "float32")]),
    "strict.features": parts(local_out=[Given((5, 20), "float32")] * 2, strict=True),
}


@pytest.mark.parametrize("row", RING, ids=lambda row: row.id)
def test_every_row_of_the_ring(row):
    refusal = first_refusal(RING, BROKEN[row.id])
    assert (refusal.id, refusal.argument, refusal.kind) == (row.id, row.argument, row.kind)
    assert row.argument in refusal.sentence and "accepted" in refusal.sentence or "needs" in refusal.sentence


@pytest.mark.parametrize("row", LISTS, ids=lambda row: row.id)
def test_every_row_of_the_lists(row):
    refusal = first_refusal(LISTS, BROKEN_LISTS[row.id])
    assert (refusal.id, refusal.argument, refusal.kind) == (row.id, row.argument, row.kind)
    assert row.argument in refusal.sentence and "accepted" in refusal.sentence


def test_every_row_has_a_test_and_good_calls_pass():
    assert set(BROKEN) == {row.id for row in RING} and set(BROKEN_LISTS) == {row.id for row in LISTS}
    for call in (update(), update(True), update(True, strict=True), update(input_softmax_layout="TND")):
        assert first_refusal(RING, call) is None
    assert first_refusal(LISTS, parts()) is None and first_refusal(LISTS, parts(strict=True)) is None


@pytest.mark.parametrize("ends", [[], [1, 6], [0, 5], [0, 4, 3, 6], [0, 7]])
def test_lengths_count_in_blocks_alone(ends):
    assert first_refusal(RING, update(True, ends=ends)).id == "lengths"
    assert first_refusal(RING, update(True, ends=ends, input_softmax_layout="TND")) is None


def test_what_fits_the_device():
    def sized(heads, dim, dtype):
        out, statistic = Given((6, heads, dim), dtype), Given((6, heads, 8), "float32")
        outs = dict.fromkeys(("prev_attn_out", "cur_attn_out"), out)
        return update(True, strict=True, **outs, **dict.fromkeys(STATISTICS, statistic))

    assert first_refusal(RING, sized(64, 128, "float16")) is None
    assert first_refusal(RING, sized(32, 128, "float32")) is None
    assert "216576 bytes" in first_refusal(RING, sized(72, 128, "float16")).sentence


def tensors(packed=False):
    out, statistic = (torch.ones(6, 2, 64), torch.ones(6, 2, 8)) if packed else (torch.ones(6, 3, 8), torch.ones(3, 2, 6, 8))
    return dict(zip(TENSORS, (out, statistic, statistic, out, statistic, statistic)))


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize(
    "value",
    [None, [1.0], torch.ones(6, 3, 8).to_sparse(), torch.nested.nested_tensor([torch.ones(3, 8)] * 6)],
)
def test_what_is_no_dense_tensor(name, value):
    with pytest.raises(RuntimeError, match=f"{name} (is|has layout)"):
        npu_ring_attention_update(**tensors() | {name: value})


@pytest.mark.parametrize(
    "more, sentence",
    [
        ({"input_layout": "BNSD"}, "input_layout is 'BNSD'; accepted are 'SBH', 'TND'"),
        ({"input_layout": 3}, "input_layout is 3"),
        ({"input_layout": "TND"}, "actual_seq_qlen is None"),
        ({"input_layout": "TND", "actual_seq_qlen": [0, 6]}, "actual_seq_qlen is a list"),
        ({"input_layout": "TND", "actual_seq_qlen": torch.tensor([0, 6], dtype=torch.int32)}, "has dtype int32"),
        ({"input_layout": "TND", "actual_seq_qlen": torch.tensor([2, 6])}, r"actual_seq_qlen is \[2, 6\]"),
        ({"input_layout": "TND", "actual_seq_qlen": torch.tensor([0, 9])}, r"accepted are numbers from 0 to 6"),
    ],
)
def test_the_door_raises_as_the_device(more, sentence):
    with pytest.raises(RuntimeError, match=sentence):
        npu_ring_attention_update(**tensors(packed=True), **more)


def test_meta_is_checked_too():
    given = {name: tensor.to("meta") for name, tensor in tensors().items()}
    given["cur_attn_out"] = torch.ones(6, 3, 16, device="meta")
    with pytest.raises(RuntimeError, match="cur_attn_out has shape"):
        npu_ring_attention_update(**given)
    with pytest.raises(RuntimeError, match="cur_attn_out is on device meta; accepted is cpu"):
        npu_ring_attention_update(**tensors() | {"cur_attn_out": given["cur_attn_out"]})


def test_attention_update_refuses():
    lse, outs = [torch.ones(4)], [torch.ones(4, 8)]
    with pytest.raises(RuntimeError, match="lse is a Tensor; accepted is a list"):
        npu_attention_update(lse[0], outs, 0)
    with pytest.raises(RuntimeError, match=r"local_out\[0\] is a float"):
        npu_attention_update(lse, [1.0], 0)
    with pytest.raises(RuntimeError, match="update_type is True"):
        npu_attention_update(lse, outs, True)
    with pytest.raises(RuntimeError, match=f"lse has 129 entries; accepted are 1 to {ring_checks.MOST_PARTS}"):
        npu_attention_update(lse * 129, outs * 129, 0)
    with pytest.raises(RuntimeError, match=r"lse\[0\] is None"):
        npu_attention_update([None], outs, 0)
    outs[0].requires_grad_()
    with pytest.raises(NotImplementedError, match=r"local_out\[0\] requires grad"):
        npu_attention_update(lse, outs, 0)


@pytest.mark.parametrize("name, index", [("lse", 1), ("local_out", 0), ("local_out", 1)])
def test_attention_update_of_two_devices(name, index):
    given = {"lse": [torch.ones(4)] * 2, "local_out": [torch.ones(4, 8)] * 2}
    given[name] = list(given[name])
    given[name][index] = given[name][index].to("meta")
    with pytest.raises(RuntimeError, match=rf"{name}\[{index}\] is on device meta; accepted is cpu"):
        npu_attention_update(**given, update_type=1)
