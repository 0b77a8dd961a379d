"""The Hugging Face door: `attn_implementation="fusedattn"` for the models of `transformers`.

    from fusedattn.like.transformers import register
    register()
    model = AutoModel.from_pretrained(path, attn_implementation="fusedattn")

Two functions are registered under that name: the attention itself, and the function that builds its mask. A
padding mask alone stays one row per sequence, seen by stride 0 from every query.
"""

from __future__ import annotations

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

import fusedattn

NAME = "fusedattn"

# Keyword arguments of some models that change the result, and what they would add to attention.
_REFUSED = {
    "softcap": "a soft cap on the scores",
    "s_aux": "attention sinks",
    "position_bias": "a bias added to the scores",
    "head_mask": "a factor per head",
    "cache": "a paged cache",
}


def register(name: str = NAME) -> str:
    """Makes `attn_implementation=name` known to transformers and returns the name. May be called again."""
    AttentionInterface.register(name, attention_forward)
    AttentionMaskInterface.register(name, attention_mask)
    return name


def attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it.

    query [B, N, Sq, D], key [B, H, Skv, D], value [B, H, Skv, Dv], where N is a multiple of H: key heads are
    shared, not repeated. attention_mask is None or broadcasts to [B, N, Sq, Skv]: bool (True is visible), or
    float with zeros and "minus infinities" only. A query that sees nothing gives 0.
    Returns the output, [B, Sq, N, Dv] and contiguous, and None in place of the weights.
    Raises NotImplementedError, naming the argument, for what would change the result and is not computed.
    """
    _refuse(dropout, kwargs)
    if attention_mask is None:
        mask = _mask_of_flags(_wants_causal(module, is_causal, query), query.shape[2], key.shape[2], kwargs)
    else:
        mask = _visible(attention_mask)[..., : key.shape[2]]
    out = fusedattn.attention(query, key, value, mask=mask, scale=scaling, layout="BNSD")
    return out.transpose(1, 2).contiguous(), None


def attention_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    kv_offset: int = 0,
    mask_function=None,
    attention_mask: torch.Tensor | None = None,
    **kwargs,
) -> torch.Tensor | None:
    """The mask for `attention_forward`: None, or bool [B, 1, Sq, Skv], True is visible.

    attention_mask is the model's padding, bool [B, tokens]. Where the padding is all that hides anything, the
    result is a view with stride 0 over the queries; other patterns (windows, packed sequences) are made as
    for torch's own attention.
    """
    if mask_function is bidirectional_mask_function and attention_mask is not None:
        beyond = max(0, kv_offset + kv_length - attention_mask.shape[-1])
        padding = torch.nn.functional.pad(attention_mask, (0, beyond))[:, kv_offset : kv_offset + kv_length]
        may_skip = kwargs.get("allow_is_bidirectional_skip", False) and not torch.compiler.is_compiling()
        if may_skip and bool(padding.all()):
            return None
        return padding[:, None, None, :].expand(batch_size, 1, q_length, kv_length)
    arguments = dict(kwargs, kv_offset=kv_offset, attention_mask=attention_mask)
    if mask_function is not None:
        arguments["mask_function"] = mask_function
    return sdpa_mask(batch_size, q_length, kv_length, **arguments)


def _refuse(dropout: float, kwargs: dict) -> None:
    if dropout:
        raise NotImplementedError(
            f"dropout={dropout}: attention dropout is not computed here; set the model's to 0 "
            "(for BERT: attention_probs_dropout_prob=0.0) or call model.eval()"
        )
    for name, meaning in _REFUSED.items():
        if kwargs.get(name) is not None:
            raise NotImplementedError(f"{name}: {meaning} is not computed here; only {name}=None is accepted")
    if kwargs.get("output_attentions"):
        raise NotImplementedError(
            "output_attentions=True: the attention weights are never stored; "
            'use attn_implementation="eager" to see them'
        )


def _wants_causal(module: torch.nn.Module, is_causal: bool | None, query: torch.Tensor) -> bool:
    """Without a mask the flag decides, else the module's own; a single query sees all that came before it."""
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    return bool(is_causal) and query.shape[2] > 1


def _mask_of_flags(causal: bool, q_length: int, kv_length: int, kwargs: dict):
    """The mask of a call that carries none: nothing, the causal band, or a causal window."""
    if kwargs.get("cu_seq_lens_q") is not None:
        raise NotImplementedError(
            "cu_seq_lens_q without an attention_mask: packed sequences are recognised by their position_ids; "
            "pass those alone"
        )
    window = kwargs.get("sliding_window")
    if window is not None and window < kv_length:
        if causal and q_length == kv_length:
            return fusedattn.window(window - 1, 0)
        if q_length > 1:
            raise NotImplementedError(
                f"sliding_window={window} without an attention_mask, for {q_length} queries and {kv_length} "
                "keys that are not causal self-attention: where it lies is not known; pass an attention_mask"
            )
        return fusedattn.window(window - 1, 0)  # one query: the newest keys
    # A cache may be longer than its contents: the diagonal starts at the first key.
    return fusedattn.causal(align="top-left") if causal else None


def _visible(mask: torch.Tensor) -> torch.Tensor:
    """The mask as bool, True is visible. A float mask may hold 0 and its type's lowest value or -inf."""
    if mask.dtype == torch.bool:
        return mask
    if not mask.is_floating_point():
        raise NotImplementedError(f"attention_mask of {mask.dtype}: bool or a floating type is accepted")
    visible = mask == 0
    if not bool((visible | (mask <= torch.finfo(mask.dtype).min)).all()):
        raise NotImplementedError(
            f"attention_mask of {mask.dtype} adds finite values to the scores: a bias is not computed here; "
            "accepted are bool, or 0 (visible) and the type's lowest value or -inf (hidden)"
        )
    return visible
