"""Names, order, types and defaults of the graph operators, as data that docs, doors and tests share."""

from typing import NamedTuple

INT_MAX = 2**31 - 1

_FLOATS = ("float16", "bfloat16", "float32")


class Input(NamedTuple):
    """An input or an output: its name, the dtypes it may have, and whether it may be left out."""

    name: str
    dtypes: tuple[str, ...]
    optional: bool = False


class Attribute(NamedTuple):
    """An attribute; default is None where it is required."""

    name: str
    type: str  # "float", "int", "str"
    default: float | int | str | None


class Operator(NamedTuple):
    """One graph operator: everything in the order of its registration."""

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[Input, ...]
    attributes: tuple[Attribute, ...]

    def required(self) -> tuple[str, ...]:
        """The names of the inputs that may not be left out."""
        return tuple(one.name for one in self.inputs if not one.optional)


def _optional(dtypes: tuple[str, ...], *names: str) -> tuple[Input, ...]:
    return tuple(Input(name, dtypes, True) for name in names)


_LISTS = ("prefix", "actual_seq_qlen", "actual_seq_kvlen", "q_start_idx", "kv_start_idx")
_MASKS = (
    *_optional(("uint8",), "drop_mask"),
    *_optional(_FLOATS, "padding_mask"),
    *_optional(("bool", "uint8"), "atten_mask"),
)


def _attributes(statistics_layout: str) -> tuple[Attribute, ...]:
    return (
        Attribute("scale_value", "float", 1.0),
        Attribute("keep_prob", "float", 1.0),
        Attribute("pre_tockens", "int", INT_MAX),
        Attribute("next_tockens", "int", INT_MAX),
        Attribute("head_num", "int", None),
        Attribute("input_layout", "str", None),
        Attribute("inner_precise", "int", 0),
        Attribute("sparse_mode", "int", 0),
        Attribute("pse_type", "int", 1),
        Attribute("seed", "int", 0),
        Attribute("offset", "int", 0),
        Attribute("out_dtype", "int", 0),
        Attribute(statistics_layout, "str", ""),
    )


FLASH_ATTENTION_SCORE = Operator(
    "FlashAttentionScore",
    inputs=(
        *(Input(name, _FLOATS) for name in ("query", "key", "value")),
        *_optional(_FLOATS, "real_shift"),
        *_MASKS,
        *_optional(("int64",), *_LISTS),
        *_optional(("float32",), "d_scale_q", "d_scale_k", "d_scale_v"),
        *_optional(("bfloat16",), "query_rope", "key_rope"),
        *_optional(("float32",), "sink", "p_scale"),
    ),
    outputs=(
        Input("softmax_max", ("float32",)),
        Input("softmax_sum", ("float32",)),
        Input("softmax_out", _FLOATS),
        Input("attention_out", _FLOATS),
    ),
    attributes=_attributes("softmax_out_layout"),
)

FLASH_ATTENTION_SCORE_GRAD = Operator(
    "FlashAttentionScoreGrad",
    inputs=(
        *(Input(name, _FLOATS) for name in ("query", "key", "value", "dy")),
        *_optional(_FLOATS, "pse_shift"),
        *_MASKS,
        *_optional(("float32",), "softmax_max", "softmax_sum"),
        *_optional(_FLOATS, "softmax_in", "attention_in"),
        *_optional(("int64",), *_LISTS),
        *_optional(("float32",), "d_scale_q", "d_scale_k", "d_scale_v", "d_scale_dy", "d_scale_o"),
        *_optional(("bfloat16",), "query_rope", "key_rope"),
        *_optional(("float32",), "sink"),
    ),
    outputs=(
        *(Input(name, _FLOATS) for name in ("dq", "dk", "dv", "dpse")),
        *(Input(name, ("bfloat16",)) for name in ("dq_rope", "dk_rope")),
        Input("dsink", ("float32",)),
    ),
    attributes=_attributes("softmax_in_layout"),
)

OPERATORS = {one.name: one for one in (FLASH_ATTENTION_SCORE, FLASH_ATTENTION_SCORE_GRAD)}

# What each door calls the arguments of a Request, where it has words of its own.
SPELLINGS = {
    "graph": {},
    "torch_npu": {"real_shift": "pse", "drop_mask": "dropout_mask", "scale_value": "scale"},
    "torch_npu_v2": {
        "real_shift": "pse",
        "drop_mask": "dropout_mask",
        "scale_value": "scale",
        "pre_tockens": "pre_tokens",
        "next_tockens": "next_tokens",
    },
    "torch_npu_grad": {"real_shift": "pse", "drop_mask": "dropout_mask"},
    "torch_npu_grad_v2": {
        "real_shift": "pse",
        "drop_mask": "dropout_mask",
        "pre_tockens": "pre_tokens",
        "next_tockens": "next_tokens",
    },
    "mindspore": {
        "atten_mask": "attn_mask",
        "scale_value": "scalar_value",
        "pre_tockens": "pre_tokens",
        "next_tockens": "next_tokens",
    },
    "mindspore_speed": {
        "real_shift": "pse",
        "scale_value": "scale",
        "pre_tockens": "pre_tokens",
        "next_tockens": "next_tokens",
    },
}


def spelled(door: str, name: str) -> str:
    """What this door calls an argument of the graph operator."""
    return SPELLINGS[door].get(name, name)
