"""Ascend tensors as the operators take them: layouts, sequence ends, masks, statistics in lanes."""

from typing import NamedTuple

import torch

from .. import layout as layouts
from .sparse_mode import COMPRESSED

LAYOUTS = ("BSH", "SBH", "BSND", "BNSD", "TND")
LANES = 8  # the device repeats each statistic over eight floats


class Shapes(NamedTuple):
    """The sizes of one call, under the names of the vendor's documents."""

    layout: str  # unfolded
    B: int
    N1: int
    N2: int
    Sq: int  # T1 with TND
    Skv: int  # T2 with TND
    D: int
    Dv: int


def unfold(query, key, value, head_num: int, layout: str):
    """(query, key, value, Shapes), heads as an axis of their own. RuntimeError where shapes contradict."""
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        wanted = 4 if layout in ("BSND", "BNSD") else 3
        if tensor.dim() != wanted:
            raise RuntimeError(
                f"{name} has shape {_list(tensor)}; input_layout {layout} needs {wanted} dimensions"
            )
    if layout in layouts.FOLDED:
        query, key, value = _split_heads(query, key, value, head_num)
        layout = layouts.FOLDED[layout]
    q, k, v = (layouts.sizes(layout, tensor.shape) for tensor in (query, key, value))
    shapes = Shapes(layout, q.batch, q.heads, k.heads, q.rows, k.rows, q.dim, v.dim)
    _check_agreement(q, k, v, head_num)
    return query, key, value, shapes


def _split_heads(query, key, value, head_num: int):
    hidden_q, hidden_k, hidden_v = query.shape[-1], key.shape[-1], value.shape[-1]
    if hidden_q % head_num:
        raise RuntimeError(
            f"query has hidden size {hidden_q}; accepted is a multiple of head_num = {head_num}"
        )
    dim = hidden_q // head_num
    if (hidden_k % dim) if dim else hidden_k:
        raise RuntimeError(
            f"key has hidden size {hidden_k}; accepted is a multiple of query's head size, {dim}"
        )
    kv_heads = hidden_k // dim if dim else 0
    if (hidden_v % kv_heads) if kv_heads else hidden_v:
        raise RuntimeError(
            f"value has hidden size {hidden_v}; accepted is a multiple of key's {kv_heads} heads"
        )
    dim_v = hidden_v // kv_heads if kv_heads else 0
    return (
        query.view(*query.shape[:2], head_num, dim),
        key.view(*key.shape[:2], kv_heads, dim),
        value.view(*value.shape[:2], kv_heads, dim_v),
    )


def _check_agreement(q: layouts.Sizes, k: layouts.Sizes, v: layouts.Sizes, head_num: int) -> None:
    if q.heads != head_num:
        raise RuntimeError(f"head_num is {head_num}; query has {q.heads} heads")
    if k.heads and q.heads % k.heads:
        raise RuntimeError(f"key has {k.heads} heads; accepted are divisors of head_num = {head_num}")
    if (k.batch, v.batch) != (q.batch, q.batch):
        raise RuntimeError(
            f"key has batch {k.batch}, value has batch {v.batch}; accepted is query's, {q.batch}"
        )
    if (v.heads, v.rows) != (k.heads, k.rows):
        raise RuntimeError(
            f"value has {v.heads} heads and {v.rows} rows; accepted are key's, {k.heads} heads and {k.rows}"
            " rows"
        )
    if k.dim != q.dim:
        raise RuntimeError(f"key has head size {k.dim}; accepted is query's, {q.dim}")
    if v.dim > k.dim:
        raise RuntimeError(f"value has head size {v.dim}; accepted is at most key's, {k.dim}")
    if v.heads and k.dim and not v.dim:
        raise RuntimeError(f"value has head size 0; accepted are 1 to key's, {k.dim}")
    if q.dim > 768:
        raise RuntimeError(f"query has head size {q.dim}; accepted are 1 to 768")


def ends_of(name: str, cumulative: list[int], rows: int) -> list[int]:
    """Cumulative lengths with a leading 0. Trailing decreases (padded batches) count as empty sequences."""
    ends, previous, falling = [0], 0, False
    for end in cumulative:
        if end > previous and falling:
            raise RuntimeError(
                f"{name} is {cumulative}; accepted are cumulative lengths, decreasing at the end alone"
            )
        falling = falling or end < previous
        previous = end
        ends.append(max(end, ends[-1]))
    if ends[-1] > rows:
        raise RuntimeError(
            f"{name} ends with {ends[-1]}; accepted is at most the number of packed rows, {rows}"
        )
    return ends


def lengths_of(ends: list[int]) -> list[int]:
    return [later - earlier for earlier, later in zip(ends, ends[1:])]


def check_mask(mask, mode: int, shapes: Shapes, lengths: list[tuple[int, int]]) -> None:
    """Refuses mask dtypes and shapes that the mode does not take. RuntimeError with what it takes."""
    if mask.dtype not in (torch.bool, torch.uint8):
        raise RuntimeError(f"atten_mask has dtype {mask.dtype}; accepted are torch.bool and torch.uint8")
    if not mask.is_cpu:
        raise RuntimeError(f"atten_mask is on device {mask.device}; accepted is the CPU")
    if mask.layout is not torch.strided:
        raise RuntimeError(f"atten_mask has layout {mask.layout}; accepted is torch.strided, a dense tensor")
    shape = tuple(mask.shape)
    if mode in (2, 3, 4):
        if len(shape) not in (2, 4) or shape[-2:] != (COMPRESSED, COMPRESSED):
            raise RuntimeError(
                f"atten_mask has shape {_list(mask)}; sparse_mode {mode} takes the compressed [2048, 2048]"
            )
        return
    if shapes.layout == "TND":
        _check_packed_mask(shape, lengths)
        return
    B, N1, scores = shapes.B, shapes.N1, (shapes.Sq, shapes.Skv)
    if shape not in (scores, (1, 1, *scores), (B, 1, *scores), (B, N1, *scores)):
        raise RuntimeError(
            f"atten_mask has shape {_list(mask)}; accepted with sparse_mode {mode} are {list(scores)},"
            f" {[1, 1, *scores]}, {[B, 1, *scores]} and {[B, N1, *scores]}"
        )


def _check_packed_mask(shape: tuple[int, ...], lengths: list[tuple[int, int]]) -> None:
    longest = tuple(max(column) for column in zip(*lengths))
    if shape in (longest, (1, 1, *longest)):
        return
    whole = tuple(sum(column) for column in zip(*lengths))
    if shape == whole:
        raise NotImplementedError(
            f"atten_mask has shape {list(shape)}, one mask over all packed rows, which is not computed;"
            f" accepted is {list(longest)}, the longest lengths, shared by all sequences"
        )
    raise RuntimeError(
        f"atten_mask has shape {list(shape)}; accepted with input_layout TND are {list(longest)} (the longest"
        f" lengths, shared by all sequences) and {[1, 1, *longest]}"
    )


def with_lanes(statistic):
    """[..., rows] to [..., rows, 8]: every lane the same number, as the device writes it."""
    return statistic.unsqueeze(-1).expand(*statistic.shape, LANES).contiguous()


def packed_statistics(statistic, q_ends: list[int], kv_ends: list[int], token_major: bool):
    """[N,T] to [T,N,8]. Rows of sequences without keys and rows after the last sequence hold 0, as on device.

    token_major: memory as the shape says. Else blockwise, the device's default: one [N, length, 8] block per
    sequence, so that the [T,N,8] tensor must be read by its memory order (element (N*begin + n*length +
    i)*8).
    """
    heads, tokens = statistic.shape
    lengths = torch.tensor(lengths_of(q_ends) + [tokens - q_ends[-1]])
    begins = torch.tensor(q_ends)
    touched = torch.tensor([length > 0 for length in lengths_of(kv_ends)] + [False])
    of_token = torch.repeat_interleave(torch.arange(len(q_ends)), lengths, output_size=tokens)
    statistic = torch.where(touched[of_token], statistic, 0.0)
    if token_major:
        return with_lanes(statistic.t())
    begin, length = begins[of_token], lengths[of_token]
    place = heads * begin + torch.arange(tokens) - begin + torch.arange(heads).unsqueeze(1) * length
    blockwise = torch.empty_like(statistic).view(-1).scatter(0, place.view(-1), statistic.reshape(-1))
    return with_lanes(blockwise).view(tokens, heads, LANES)


def _list(tensor) -> list[int]:
    return list(tensor.shape)
