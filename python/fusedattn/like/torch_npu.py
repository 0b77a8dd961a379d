"""torch_npu.npu_fusion_attention on CPU tensors: the vendor's signature, layouts, modes and seven outputs."""

from typing import NamedTuple

import torch

from ..mask import Mask
from ..numerals import integer, integers, real
from ..ops import attend
from ..problem import Terms
from .ascend_tensors import (
    LAYOUTS,
    Shapes,
    check_mask,
    ends_of,
    lengths_of,
    packed_statistics,
    unfold,
    with_lanes,
)
from .sparse_mode import INT_MAX, mask_of

__all__ = ["npu_fusion_attention"]


def npu_fusion_attention(
    query,
    key,
    value,
    head_num,
    input_layout,
    pse=None,
    padding_mask=None,
    atten_mask=None,
    scale=1.0,
    keep_prob=1.0,
    pre_tockens=INT_MAX,
    next_tockens=INT_MAX,
    inner_precise=0,
    prefix=None,
    actual_seq_qlen=None,
    actual_seq_kvlen=None,
    sparse_mode=0,
    gen_mask_parallel=True,
    sync=False,
    softmax_layout="",
    sink=None,
    dropout_mask=None,
    seed=0,
    offset=0,
):
    """Fused attention with the arguments and results of torch_npu; differentiable in query, key and value.

    query, key, value: CPU tensors, all float16, bfloat16 or float32, in input_layout: BSH, SBH, BSND, BNSD or
        TND (in any case), head_num query heads, a multiple of the key heads; value's head size at most key's.
    atten_mask: bool or uint8, nonzero = masked. Without it nothing is masked, whatever sparse_mode says.
        Modes 0 and 1: [Sq,Skv], [1,1,Sq,Skv], [B,1,Sq,Skv] or [B,N1,Sq,Skv]; TND: [longest q, longest kv],
        shared by all sequences. Modes 2, 3, 4: [2048,2048], whose content is not read: the mode's rule is
        evaluated.
    scale: of the scores; the default is 1.0, not 1/sqrt(D).
    sparse_mode: 0 (mask and window from the left top), 1 (mask alone), 2 (causal from the left top), 3
        (causal from the right bottom), 4 (window from the right bottom).
    pre_tockens, next_tockens: the window of modes 0 and 4: columns before and after the diagonal.
    actual_seq_qlen, actual_seq_kvlen: with TND, cumulative lengths without a leading 0.
    softmax_layout: "" or, with TND, "TND": the memory order of the statistics (blockwise, or as the
        shape says).
    inner_precise, gen_mask_parallel, sync: without effect. Rows that see no column always give 0, and nothing
        runs behind the caller's back.
    seed, offset: returned as given; they matter with dropout alone.

    Returns (attention_out, softmax_max, softmax_sum, softmax_out, seed, offset, numels): attention_out in
    input_layout; the statistics float32 [B,N1,Sq,8] (TND: [T1,N1,8]) without gradient; softmax_out empty,
    [0]; three ints, of which numels is the number of scores. Rows that see no column: out 0, max
    -3.4028235e38, sum 3.4028235e38; sequences without keys and rows after the last sequence: all three 0.

    Raises RuntimeError for what the device refuses, NotImplementedError (a RuntimeError too) for pse,
    padding_mask, keep_prob below 1, prefix, sink, dropout_mask and masked sparse modes 5 to 8, which are not
    computed.
    """
    absent = {
        "pse": pse,
        "padding_mask": padding_mask,
        "prefix": prefix,
        "sink": sink,
        "dropout_mask": dropout_mask,
    }
    layout = _checked_layout(input_layout, softmax_layout)
    _check_tensors(query, key, value)
    _check_switches(gen_mask_parallel=gen_mask_parallel, sync=sync)
    numbers = _read_numbers(
        scale=scale,
        keep_prob=keep_prob,
        head_num=head_num,
        pre_tockens=pre_tockens,
        next_tockens=next_tockens,
        sparse_mode=sparse_mode,
        inner_precise=inner_precise,
        seed=seed,
        offset=offset,
    )
    _check_numbers(numbers, layout)
    _refuse_absent(absent, numbers.keep_prob)
    q, k, v, shapes = unfold(query, key, value, numbers.head_num, layout)
    q_ends, kv_ends = _ends(layout, shapes, actual_seq_qlen, actual_seq_kvlen)
    lengths = (
        [(shapes.Sq, shapes.Skv)] if q_ends is None else list(zip(lengths_of(q_ends), lengths_of(kv_ends)))
    )
    bands, masked = _bands(atten_mask, numbers, shapes, lengths)
    if shapes.N2 == 0 or shapes.D == 0:
        out, row_max, row_sum = _nothing_to_see(q, k, v, shapes)
    else:
        terms = Terms.of(shapes.layout, numbers.scale, bands, nonzero_hides=True)
        out, row_max, row_sum = attend(q, k, v, masked, q_ends, kv_ends, terms)
    statistics = [_statistic(s, shapes, q_ends, kv_ends, softmax_layout) for s in (row_max, row_sum)]
    if layout in ("BSH", "SBH"):
        out = out.view(*out.shape[:2], shapes.N1 * shapes.Dv)
    batch = 1 if q_ends is not None else shapes.B
    numels = batch * shapes.N1 * sum(q_len * kv_len for q_len, kv_len in lengths)
    return out, *statistics, query.new_empty(0), seed, offset, numels


class Numbers(NamedTuple):
    """The arguments that are numbers."""

    scale: float
    keep_prob: float
    head_num: int
    pre_tockens: int
    next_tockens: int
    sparse_mode: int
    inner_precise: int
    seed: int
    offset: int


def _read_numbers(**given) -> Numbers:
    """What is no number, or too large a one, is a RuntimeError, as on the device."""
    readers = {"scale": real, "keep_prob": real}
    try:
        return Numbers(**{name: readers.get(name, integer)(name, value) for name, value in given.items()})
    except (TypeError, ValueError) as refusal:
        raise RuntimeError(str(refusal)) from None


def _check_switches(**given) -> None:
    for name, value in given.items():
        if not isinstance(value, int) or value not in (0, 1):
            raise RuntimeError(f"{name} is {value!r}; accepted are True and False")


def _checked_layout(input_layout, softmax_layout) -> str:
    layout = input_layout.upper() if isinstance(input_layout, str) else None
    if layout not in LAYOUTS:
        raise RuntimeError(f"input_layout is {input_layout!r}; accepted are {', '.join(LAYOUTS)}")
    if softmax_layout not in ("", "TND"):
        raise RuntimeError(f"softmax_layout is {softmax_layout!r}; accepted are '' and 'TND'")
    if softmax_layout == "TND" and layout != "TND":
        raise RuntimeError(f"softmax_layout is 'TND' with input_layout {layout}; accepted with TND alone")
    return layout


def _check_tensors(query, key, value) -> None:
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if not isinstance(tensor, torch.Tensor):
            raise RuntimeError(f"{name} is a {type(tensor).__name__}; accepted is a torch tensor")
        if not tensor.is_cpu:
            raise RuntimeError(f"{name} is on device {tensor.device}; accepted is the CPU")
        if tensor.layout is not torch.strided:
            raise RuntimeError(
                f"{name} has layout {tensor.layout}; accepted is torch.strided, a dense tensor"
            )
        if tensor.dtype != query.dtype:
            raise RuntimeError(f"{name} has dtype {tensor.dtype}; accepted is query's, {query.dtype}")
    if query.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise RuntimeError(
            f"query has dtype {query.dtype}; accepted are torch.float16, torch.bfloat16, torch.float32"
        )


def _check_numbers(numbers: Numbers, layout: str) -> None:
    if numbers.head_num <= 0:
        raise RuntimeError(f"head_num is {numbers.head_num}; accepted are integers above 0")
    if not 0 < numbers.keep_prob <= 1:
        raise RuntimeError(f"keep_prob is {numbers.keep_prob}; accepted are numbers above 0 up to 1")
    modes = (0, 1, 2, 3, 4, 6, 7, 8) if layout == "TND" else range(7)
    if numbers.sparse_mode not in modes:
        raise RuntimeError(
            f"sparse_mode is {numbers.sparse_mode}; accepted with input_layout {layout} are {[*modes]}"
        )


def _refuse_absent(absent: dict, keep_prob) -> None:
    for name, value in absent.items():
        if value is not None:
            given = (
                f"a tensor of shape {list(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
            )
            raise NotImplementedError(
                f"{name} is {given}, which is not computed by this version; accepted is None"
            )
    if keep_prob != 1:
        raise NotImplementedError(
            f"keep_prob is {keep_prob}; dropout is not computed by this version; accepted is 1.0"
        )


def _ends(layout: str, shapes: Shapes, actual_seq_qlen, actual_seq_kvlen):
    """(q ends, kv ends) with leading zeros for TND, else (None, None)."""
    given = {"actual_seq_qlen": actual_seq_qlen, "actual_seq_kvlen": actual_seq_kvlen}
    for name, value in given.items():
        if layout != "TND" and value is not None:
            raise RuntimeError(f"{name} is given with input_layout {layout}; accepted with TND alone")
    if layout != "TND":
        return None, None
    q_ends, kv_ends = (_read_ends(name, value) for name, value in given.items())
    if len(q_ends) != len(kv_ends):
        raise RuntimeError(
            f"actual_seq_qlen has {len(q_ends)} entries, actual_seq_kvlen has {len(kv_ends)}; accepted are"
            " equal numbers"
        )
    return (
        ends_of("actual_seq_qlen", q_ends, shapes.Sq),
        ends_of("actual_seq_kvlen", kv_ends, shapes.Skv),
    )


def _read_ends(name: str, value) -> list[int]:
    try:
        ends = [] if value is None else integers(name, value)
    except (TypeError, ValueError) as refusal:
        raise RuntimeError(str(refusal)) from None
    if not ends:
        raise RuntimeError(f"{name} is {value}; input_layout TND needs cumulative lengths, one per sequence")
    return ends


def _bands(atten_mask, numbers: Numbers, shapes: Shapes, lengths):
    """(Mask, mask bytes or None) of a sparse mode."""
    sparse_mode, pre, following = numbers.sparse_mode, numbers.pre_tockens, numbers.next_tockens
    if atten_mask is None:
        return Mask(), None
    if not isinstance(atten_mask, torch.Tensor):
        raise RuntimeError(
            f"atten_mask is a {type(atten_mask).__name__}; accepted are None and a torch tensor"
        )
    if sparse_mode > 4:
        raise NotImplementedError(
            f"sparse_mode is {sparse_mode} with atten_mask, which is not computed by this version; accepted"
            " are 0 to 4"
        )
    check_mask(atten_mask, sparse_mode, shapes, lengths)
    bands = mask_of(sparse_mode, pre, following, lengths, shapes.layout == "TND")
    if sparse_mode > 1:
        return bands, None
    packed = shapes.layout == "TND" and atten_mask.dim() == 4
    return bands, atten_mask[0, 0] if packed else atten_mask


def _nothing_to_see(query, key, value, shapes: Shapes):
    """Zeros for keys without heads or features. Empty sums tie them to the inputs, whose gradients are 0."""
    out = query.new_zeros((*query.shape[:-1], shapes.Dv))
    for tensor in (query, key, value):
        out = out + tensor[..., :0].sum()
    rows = query.new_zeros(shapes.B * shapes.N1 * shapes.Sq, dtype=torch.float32)
    shape = (shapes.N1, shapes.Sq) if shapes.layout == "TND" else (shapes.B, shapes.N1, shapes.Sq)
    return out, rows.view(shape), rows.view(shape)


def _statistic(statistic, shapes: Shapes, q_ends, kv_ends, softmax_layout: str):
    """A row statistic as the device returns it."""
    if q_ends is not None:
        return packed_statistics(statistic, q_ends, kv_ends, softmax_layout == "TND")
    return with_lanes(statistic if shapes.Skv else torch.zeros_like(statistic))
