"""The SDPA door: `scaled_dot_product_attention` as torch 2.13 has it, for tensors of the CPU.

    from fusedattn.like.sdpa import scaled_dot_product_attention

Importing it changes nothing in torch; `fusedattn.accelerate_torch()` puts it under code that calls torch's own.
"""

from __future__ import annotations

import functools

import torch
from torch.overrides import handle_torch_function, has_torch_function

from .. import extras, ops
from ..mask import Mask, causal, prefix
from ..numerals import real
from ..problem import Terms
from .sdpa_arguments import Call, causal_variant, refusal
from .sdpa_shapes import fold

BANDS = {
    "EVERYTHING": Mask(),
    "UPPER_LEFT": causal(align="top-left"),  # these two as torch.nn.attention.bias.CausalVariant names them
    "LOWER_RIGHT": causal(),
    "NOTHING": prefix(0),
}


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """dropout(softmax(scale * query key^T + attn_mask)) value, as torch.nn.functional's function of this name.

    query [..., Hq, L, E], key [..., H, S, E], value [..., H, S, Ev]: on the CPU, all float32, bfloat16 or
        float16, 2 dimensions or more; the leading ones broadcast. E is 1 to 1536, Ev 1 to 768. Any strides are
        read in place; only a last dimension that is not contiguous, and leading dimensions that no strides
        join, are copied.
    attn_mask: None; bool, True where a query takes part in a key's softmax; a number added to the scores,
        float32 or of query's dtype, with its gradient if it requires one; or a CausalBias of
        torch.nn.attention.bias. It broadcasts to [..., Hq, L, S].
    dropout_p: which share of the weights is dropped, 0 to 1, whenever it is not 0: pass 0.0 for inference.
        torch.manual_seed governs what is dropped, though not the same weights as torch's own function.
    is_causal: query i sees the keys 0 to i (the diagonal starts at the top left), without an attn_mask.
    scale: of the scores; None is 1/sqrt(E).
    enable_gqa: heads of key and value may be fewer than query's, whose number they divide.

    Returns [..., Hq, L, Ev] of query's dtype, in query's order of dimensions in memory. A query that sees no
    key has output 0 and gives gradient 0, as in torch 2.13. Under torch.autocast("cpu") tensors are cast to
    its dtype first, as torch's function does.

    Raises RuntimeError for arguments that contradict each other, TypeError for those of a wrong type (as torch
    does), NotImplementedError for what torch computes and fusedattn does not.
    """
    given = (query, key, value, attn_mask)
    call = Call(*given, dropout_p, is_causal, scale, enable_gqa)
    if has_torch_function(given) and causal_variant(attn_mask) is None:
        words = dict(zip(("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa"), call[3:]))
        return handle_torch_function(scaled_dot_product_attention, given, query, key, value, **words)
    call = autocast(call)
    refused = refusal(call)
    if refused is not None:
        raise refused
    return compute(call)


def autocast(call: Call) -> Call:
    """The call with its tensors in the dtype that torch.autocast("cpu") asks for, if it is on."""
    if not torch.is_autocast_enabled("cpu"):
        return call
    dtype = torch.get_autocast_dtype("cpu")
    return Call(*(_cast(tensor, dtype) for tensor in call[:4]), *call[4:])


def _cast(tensor, dtype):
    """As CPU autocast casts an argument: floating, and no double."""
    if not isinstance(tensor, torch.Tensor) or causal_variant(tensor) is not None:
        return tensor
    eligible = tensor.is_cpu and tensor.is_floating_point() and tensor.dtype != torch.float64
    return tensor.to(dtype) if eligible else tensor


def compute(call: Call) -> torch.Tensor:
    """The output of a call that refusal() has let pass."""
    shape, out, *_ = _attended(call, False)
    return out if shape is None else out.reshape(shape)


def compute_with_lse(call: Call) -> tuple[torch.Tensor, torch.Tensor]:
    """(output, log-sum-exp), the latter float32 [..., Hq, L], -inf where nothing is seen, without a gradient."""
    shape, out, row_max, row_sum = _attended(call, True)
    lse = torch.where(row_sum < torch.finfo(torch.float32).max / 2, row_max + row_sum.log(), -torch.inf)
    return (out, lse) if shape is None else (out.reshape(shape), lse.reshape(shape[:-1]))


def _attended(call: Call, stats: bool) -> tuple:
    """(shape of the output before folding or None, output, maxima and sums if stats else whatever)."""
    shape, query, key, value, attn_mask = fold(call)
    seen, shown, bias = "EVERYTHING", None, None
    if call.is_causal:
        seen = "UPPER_LEFT"
    elif attn_mask is not None:
        seen = causal_variant(attn_mask) or seen
        if attn_mask.dtype == torch.bool:
            shown = attn_mask
        elif seen == "EVERYTHING":
            bias = attn_mask
    dropout_p = call.dropout_p
    if dropout_p == 1:  # every weight is dropped
        seen, dropout_p = "NOTHING", 0.0
    scale = query.shape[-1] ** -0.5 if call.scale is None else call.scale
    if dropout_p != 0:
        asked = extras.read(bias, None, None, None, float(dropout_p), None, 0.0)
    else:
        asked = None if bias is None else extras.Extras(bias)
    step = query.stride()
    if step[1] < step[2] and query.shape[2] > 1:  # rows before heads in memory, as projections leave them
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        out, *statistics = ops.attend(query, key, value, shown, None, None, terms("BSND", scale, seen), stats, asked)
        return shape, out.transpose(1, 2), *statistics  # so is the output
    return shape, *ops.attend(query, key, value, shown, None, None, terms("BNSD", scale, seen), stats, asked)


def terms(layout: str, scale: float, seen: str) -> Terms:
    """The terms of a call; seen: a key of BANDS."""
    if torch.compiler.is_compiling():  # dynamo warns of caches
        return _terms(layout, scale, seen)
    return _kept_terms(layout, scale, seen)


def _terms(layout: str, scale: float, seen: str) -> Terms:
    return Terms.of(layout, real("scale", scale), BANDS[seen])


_kept_terms = functools.lru_cache(256)(_terms)  # 1 µs a call
