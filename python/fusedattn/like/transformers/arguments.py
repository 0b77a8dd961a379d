"""What attention_forward accepts of a model's arguments, as a table, and the refusals."""

from __future__ import annotations

import torch

# Keyword arguments of some models that change the result and are not computed: what they would do.
REFUSED = {
    "cache": "a paged cache",
    "indices": "a choice of keys for each query",
    "block_indices": "a choice of blocks of keys for each query",
    "sinks": "a sink for each query",
    "head_mask": "a factor for each head",
}


def check(given: dict) -> None:
    """NotImplementedError, naming the argument, for what would change the result and is not computed."""
    for name, meaning in REFUSED.items():
        if given.get(name) is not None:
            raise NotImplementedError(f"{name}: {meaning} is not computed here; only {name}=None is accepted")
    if given.get("output_attentions"):
        raise NotImplementedError(
            "output_attentions=True: the attention weights are never stored; accepted is False"
            ' (attn_implementation="eager" computes them)'
        )


def check_mask(mask) -> None:
    """Refuses what is no mask of visible keys and no number to be added to the scores."""
    if not isinstance(mask, torch.Tensor):
        raise TypeError(f"attention_mask is a {type(mask).__name__}; accepted are None and a tensor")
    accepted = "bool, True is visible, or a floating type, added to the scores, [B, 1 or N, Sq, Skv]"
    if mask.dim() != 2 and mask.dtype != torch.bool and not mask.is_floating_point():
        raise NotImplementedError(f"attention_mask is {mask.dtype}; accepted are None, {accepted}")
    if mask.dim() not in (2, 4):
        raise ValueError(
            f"attention_mask has shape {tuple(mask.shape)}; accepted are None, {accepted}, and padding [B, Skv]"
        )


def check_shape(mask, query, columns: int) -> None:
    """Refuses a mask [., ., ., .] that does not broadcast to [B, N, Sq, Skv]."""
    wanted = (*query.shape[:3], columns)
    if any(size not in (1, most) for size, most in zip(mask.shape, wanted)):
        raise ValueError(f"attention_mask has shape {tuple(mask.shape)}; accepted is what broadcasts to {wanted}")


def check_window(window) -> None:
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ValueError(f"sliding_window is {window!r}; accepted are None and whole numbers from 1")


def sink_of(s_aux, heads: int):
    """A sink for each head, as the core takes it."""
    if s_aux.numel() != heads:
        raise ValueError(
            f"s_aux has shape {tuple(s_aux.shape)}; accepted is one number for each of {heads} heads"
        )
    return s_aux.reshape(heads).float()


def refuse_window(window, queries: int, keys: int):
    raise NotImplementedError(
        f"sliding_window={window} without an attention_mask, for {queries} queries and {keys} keys that are not"
        " causal self-attention: where it lies is not known; accepted are None, or an attention_mask"
    )


def refuse_packed(name: str, value):
    raise NotImplementedError(
        f"{name} of shape {tuple(value.shape)} beside cu_seq_lens_q: packed sequences have no numbers to be added;"
        f" accepted is {name}=None, or position_ids in place of cu_seq_lens_q"
    )
