"""The attention function, as transformers' models call it."""

from __future__ import annotations

import functools

import torch

from ... import extras, ops
from ...mask import UNBOUNDED, Band
from ...numerals import real
from ...problem import Terms
from . import arguments
from .scores import Scores, read_mask, without_mask


def attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it.

    query [B, N, Sq, D], key [B, H, Skv, D], value [B, H, Skv, Dv], where N is a multiple of H: key heads are
        shared, not repeated. float32, bfloat16, float16; cast as torch.autocast("cpu") asks, if it is on.
    attention_mask: None: what is_causal says, else module.is_causal, where a single query sees all keys and the
        diagonal begins at the first key. Else what attention_mask() in masks.py returns; bool that broadcasts to
        [B, N, Sq, Skv], True is visible; padding [B, Skv]; or a floating type, added to the scores, with its gradient
        if it requires one (its lowest value and -inf hide).
    dropout: the share of the weights that is dropped, by torch's default generator. scaling: None is 1/sqrt(D).
    softcap: None, or scores become softcap * tanh(score / softcap). s_aux: [N], one more score for every query of a
        head, without a value. position_bias: added to the scores, [1 or B, N, Sq, Skv]. The last two with gradients.
    sliding_window, without a mask: of causal self-attention. cu_seq_lens_q, cu_seq_lens_k: cumulative lengths of
        sequences packed in the rows of a batch of 1.

    Returns the output, [B, Sq, N, Dv] and contiguous, and None in place of the weights. A query that sees nothing
    gives 0. Raises NotImplementedError, naming the argument, for what would change the result and is not computed.
    """
    if kwargs:
        arguments.check(kwargs)
    if torch.is_autocast_enabled("cpu"):
        query, key, value = _cast(query, key, value)
    if query.shape[0] != key.shape[0]:  # learned queries of a batch of 1
        batch = max(query.shape[0], key.shape[0])
        query, key, value = (t.expand(batch, *t.shape[1:]) for t in (query, key, value))
    if attention_mask is None:
        scores = without_mask(module, is_causal, query, key, kwargs)
    else:
        scores = read_mask(module, is_causal, query, key, attention_mask, kwargs)
    if position_bias is not None:
        scores = scores.biased(position_bias[..., : key.shape[2]])
    asked = None
    if scores.bias is not None or dropout or softcap is not None or s_aux is not None:
        sink = None if s_aux is None else arguments.sink_of(s_aux, query.shape[1])
        asked = extras.read(scores.bias, None, sink, None, float(dropout), None, float(softcap or 0.0))
    return (
        _attend(query, key, value, scores, query.shape[3] ** -0.5 if scaling is None else scaling, asked),
        None,
    )


def _attend(query, key, value, scores: Scores, scale, asked):
    """[B, Sq, N, Dv]. Tensors are read where they lie."""
    if scores.ends is None and query.shape[2] == 1:
        terms = _terms("BNSD", scale, scores.band, False)
        return ops.attend(query, key, value, scores.shown, None, None, terms, False, asked)[0].transpose(1, 2)
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    if scores.ends is None:
        terms = _terms("BSND", scale, scores.band, False)
        return ops.attend(query, key, value, scores.shown, None, None, terms, False, asked)[0]
    shape = query.shape[:2]
    query, key, value = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
    terms = _terms("TND", scale, scores.band, scores.from_the_end)
    return ops.attend(query, key, value, None, *scores.ends, terms, False, asked)[0].unflatten(0, shape)


def _terms(layout: str, scale, band: Band, from_the_end: bool) -> Terms:
    if torch.compiler.is_compiling():  # dynamo warns of caches
        return _new_terms(layout, scale, band, from_the_end)
    return _kept_terms(layout, scale, band, from_the_end)


def _new_terms(layout: str, scale, band: Band, from_the_end: bool) -> Terms:
    edges = (*_OPEN, *band) if from_the_end else (*band, *_OPEN)
    return Terms(layout, real("scaling", scale), *edges, False)


_OPEN = (UNBOUNDED, UNBOUNDED)
_kept_terms = functools.lru_cache(256)(_new_terms)


def _cast(*tensors):
    dtype = torch.get_autocast_dtype("cpu")
    return [t.to(dtype) if t.is_floating_point() and t.dtype != torch.float64 else t for t in tensors]
