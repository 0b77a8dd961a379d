"""attn_implementation="flash_attention_2" on the CPU: transformers' own path for flash-attn, with our functions."""

from __future__ import annotations

import sys

from transformers import modeling_flash_attention_utils as flash_utils
from transformers import modeling_utils

from ..flash_attn.arguments import check_tensors, named, read
from ..flash_attn.bert_padding import pad_input, unpad_input
from ..flash_attn.flash_attn_interface import flash_attn_with_kvcache
from ..flash_attn.raw import PACKED, PADDED, forward, forward_packed

NAME = "flash_attention_2"
_CONDITIONAL = (
    "bark",
    "falcon",
    "gpt_neo",
    "gptj",
)  # models that import the forward only where flash-attn is found


def flash_attn_func(
    q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0,
    deterministic=False, learnable_sink=None,
):  # fmt: skip
    """flash_attn's, with the sink that transformers passes where a function names it."""
    with named("flash_attn_func"):
        asked = read(dropout_p, softmax_scale, causal, window_size, softcap, None, learnable_sink)
        check_tensors(PADDED, q=q, k=k, v=v)
        return forward(asked, q, k, v, False)[0]


def flash_attn_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q=None, max_seqlen_k=None, dropout_p=0.0, softmax_scale=None,
    causal=False, window_size=(-1, -1), softcap=0.0, deterministic=False, block_table=None, learnable_sink=None,
):  # fmt: skip
    """The same of packed sequences."""
    with named("flash_attn_varlen_func"):
        asked = read(dropout_p, softmax_scale, causal, window_size, softcap, None, learnable_sink)
        check_tensors(PACKED, q=q, k=k, v=v)
        return forward_packed(
            asked, q, k, v, (cu_seqlens_q, cu_seqlens_k), (block_table, None, None, None), False
        )[0]


class FlashAttention:
    """Three changes in transformers: whether flash-attn is there, whether a model may use it, what it is."""

    def __init__(self):
        self._given = []
        self._matrix = modeling_utils.FLASH_ATTENTION_COMPATIBILITY_MATRIX
        self._before = (
            self._matrix[2],
            modeling_utils.PreTrainedModel._flash_attn_can_dispatch,
            flash_utils._lazy_imports,
        )
        _, can_dispatch, lazy_imports = self._before

        def _flash_attn_can_dispatch(model, flash_attn_version, is_init_check=False):
            if flash_attn_version == 2 and model._supports_flash_attn:
                self._give_forward(sys.modules[type(model).__module__])
                return True
            return can_dispatch(model, flash_attn_version, is_init_check)

        def _lazy_imports(implementation, *arguments, **words):
            if implementation == NAME:
                return (
                    flash_attn_func,
                    flash_attn_varlen_func,
                    flash_attn_with_kvcache,
                    pad_input,
                    unpad_input,
                )
            return lazy_imports(implementation, *arguments, **words)

        self._matrix[2] = dict(self._matrix[2], general_availability_check=lambda *_, **__: True)
        modeling_utils.PreTrainedModel._flash_attn_can_dispatch = _flash_attn_can_dispatch
        flash_utils._lazy_imports = _lazy_imports
        flash_utils._loaded_implementation = None

    def _give_forward(self, module) -> None:
        """Gives a module of _CONDITIONAL the name that it did not import."""
        known = [f"transformers.models.{name}.modeling_{name}" for name in _CONDITIONAL]
        if module.__name__ in known and not hasattr(module, "_flash_attention_forward"):
            module._flash_attention_forward = flash_utils._flash_attention_forward
            self._given.append(module)

    def remove(self) -> None:
        for module in self._given:
            del module._flash_attention_forward
        (
            self._matrix[2],
            modeling_utils.PreTrainedModel._flash_attn_can_dispatch,
            flash_utils._lazy_imports,
        ) = self._before
        flash_utils._loaded_implementation = None
