"""The graph operators' names as data: their order and defaults, and that the doors use no others."""

import inspect

import pytest
from fusedattn.like import torch_npu
from fusedattn.like.ascend.registry import OPERATORS, SPELLINGS
from fusedattn.like.ascend.request import Request

FORWARD_INPUTS = (
    "query key value real_shift drop_mask padding_mask atten_mask prefix actual_seq_qlen actual_seq_kvlen q_start_idx"
    " kv_start_idx d_scale_q d_scale_k d_scale_v query_rope key_rope sink p_scale"
)
BACKWARD_INPUTS = (
    "query key value dy pse_shift drop_mask padding_mask atten_mask softmax_max softmax_sum softmax_in attention_in"
    " prefix actual_seq_qlen actual_seq_kvlen q_start_idx kv_start_idx d_scale_q d_scale_k d_scale_v d_scale_dy"
    " d_scale_o query_rope key_rope sink"
)
ATTRIBUTES = {
    "scale_value": 1.0, "keep_prob": 1.0, "pre_tockens": 2147483647, "next_tockens": 2147483647, "head_num": None,
    "input_layout": None, "inner_precise": 0, "sparse_mode": 0, "pse_type": 1, "seed": 0, "offset": 0, "out_dtype": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "layout"),
    [
        (
            "FlashAttentionScore",
            FORWARD_INPUTS,
            "softmax_max softmax_sum softmax_out attention_out",
            "softmax_out_layout",
        ),
        (
            "FlashAttentionScoreGrad",
            BACKWARD_INPUTS,
            "dq dk dv dpse dq_rope dk_rope dsink",
            "softmax_in_layout",
        ),
    ],
)
def test_names_order_and_defaults(name, inputs, outputs, layout):
    operator = OPERATORS[name]
    assert [one.name for one in operator.inputs] == inputs.split()
    assert [one.name for one in operator.outputs] == outputs.split()
    found = {one.name: one.default for one in operator.attributes}
    assert found == ATTRIBUTES | {layout: ""} and [*found] == [*ATTRIBUTES, layout]
    kinds = {"float": float, "int": int, "str": str}
    assert all(one.default is None or type(one.default) is kinds[one.type] for one in operator.attributes)


def test_required_inputs():
    assert OPERATORS["FlashAttentionScore"].required() == ("query", "key", "value")
    assert OPERATORS["FlashAttentionScoreGrad"].required() == ("query", "key", "value", "dy")


def test_a_request_has_the_operators_names_and_defaults():
    operator = OPERATORS["FlashAttentionScore"]
    known = {one.name for one in operator.inputs} | {one.name for one in operator.attributes}
    backward = {one.name for one in OPERATORS["FlashAttentionScoreGrad"].inputs}
    own = {"softmax_layout", "generate", "drop_always", "needs", "door"}
    assert set(Request._fields) <= known | backward | own
    for one in operator.attributes:
        if one.default is not None and one.name in Request._field_defaults:
            assert Request._field_defaults[one.name] == one.default


@pytest.mark.parametrize(
    ("function", "door"),
    [
        ("npu_fusion_attention", "torch_npu"),
        ("npu_fusion_attention_v2", "torch_npu_v2"),
        ("npu_fusion_attention_v3", "torch_npu"),
        ("npu_fusion_attention_grad", "torch_npu_grad"),
        ("npu_fusion_attention_grad_v2", "torch_npu_grad_v2"),
        ("npu_fusion_attention_grad_v3", "torch_npu_grad"),
    ],
)
def test_functions_have_the_operators_arguments_by_their_own_words(function, door):
    parameters = inspect.signature(getattr(torch_npu, function)).parameters
    spelled = {word: name for name, word in SPELLINGS[door].items()}
    operator = OPERATORS["FlashAttentionScoreGrad" if "grad" in function else "FlashAttentionScore"]
    attributes = {one.name: one.default for one in operator.attributes}
    inputs = {one.name for one in operator.inputs} | {"real_shift"}
    switches = {"gen_mask_parallel": True, "sync": False, "softmax_layout": "", "numels": 0}
    for word, parameter in parameters.items():
        name = spelled.get(word, word)
        if word in switches:
            assert parameter.default == switches[word]
        elif name in attributes:
            tensor = function.endswith("grad_v3") and name in ("seed", "offset")
            default = None if tensor else attributes[name]
            assert parameter.default == (
                inspect.Parameter.empty if name in ("head_num", "input_layout") else default
            )
        else:
            assert name in inputs
