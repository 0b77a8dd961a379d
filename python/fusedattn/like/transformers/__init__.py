"""The Hugging Face door: `attn_implementation="fusedattn"` for the models of `transformers`.

    from fusedattn.like.transformers import register
    register()
    model = AutoModel.from_pretrained(path, attn_implementation="fusedattn")

Two functions are registered under that name: the attention itself, and the function that builds its mask. On
request models that ask for flash-attn run here too. docs/huggingface.md has what is accepted and what differs.
"""

import inspect

import transformers
from transformers import masking_utils

if "q_length" not in inspect.signature(masking_utils.sdpa_mask).parameters:
    raise ImportError(
        f"transformers {transformers.__version__} asks for masks by other arguments; accepted are versions whose"
        " masking_utils.sdpa_mask has q_length, as 5.12 to 5.23 do"
    )

# ruff: noqa: E402
from .attention import attention_forward
from .masks import attention_mask
from .registration import NAME, Registration, register

__all__ = ["NAME", "Registration", "attention_forward", "attention_mask", "register"]
