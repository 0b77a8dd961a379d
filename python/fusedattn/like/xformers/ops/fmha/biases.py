"""What each class of attn_bias shows, as data: the bands of its blocks, and where their keys lie.

Classes are known by their names, so that xFormers' own objects are understood as well as those of attn_bias here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from fusedattn.mask import Mask, causal, window
from fusedattn.problem import check_ends

DENSE = "dense"  # every row of a batch against every key of its sequence
BLOCKS = "blocks"  # packed sequences, whose keys follow one another
SPANS = "spans"  # packed rows; the keys of each sequence are somewhere among the keys, with room beside them
PAGES = "pages"  # the same, in pages that a table names

_EVERYTHING, _CAUSAL, _CAUSAL_TOP_LEFT = Mask(), causal(), causal(align="top-left")


def _all(bias) -> Mask:
    return _EVERYTHING


def _causal(bias) -> Mask:
    return _CAUSAL


def _causal_top_left(bias) -> Mask:
    return _CAUSAL_TOP_LEFT


def _local(bias) -> Mask:
    return window(_count(bias, "_window_size", 1) - 1, 0)


def _local_top_left(bias) -> Mask:
    return window(_count(bias, "_window_size", 1) - 1, 0, align="top-left")


def _window(bias) -> Mask:
    return window(_count(bias, "window_left", 0), _count(bias, "window_right", 0))


class Kind(NamedTuple):
    """keys: where they lie; mask: what a block shows; tensor: whether numbers are added, bias._bias."""

    keys: str
    mask: Callable[[object], Mask]
    tensor: bool = False


KINDS = {
    "NoneType": Kind(DENSE, _all),
    "LowerTriangularMask": Kind(DENSE, _causal_top_left),
    "LowerTriangularMaskWithTensorBias": Kind(DENSE, _causal_top_left, True),
    "LowerTriangularFromBottomRightMask": Kind(DENSE, _causal),
    "LowerTriangularFromBottomRightLocalAttentionMask": Kind(DENSE, _local),
    "LocalAttentionFromBottomRightMask": Kind(DENSE, _window),
    "BlockDiagonalMask": Kind(BLOCKS, _all),
    "BlockDiagonalCausalMask": Kind(BLOCKS, _causal_top_left),
    "BlockDiagonalCausalFromBottomRightMask": Kind(BLOCKS, _causal),
    "BlockDiagonalCausalLocalAttentionMask": Kind(BLOCKS, _local_top_left),
    "BlockDiagonalCausalLocalAttentionFromBottomRightMask": Kind(BLOCKS, _local),
    "BlockDiagonalPaddedKeysMask": Kind(SPANS, _all),
    "BlockDiagonalCausalWithOffsetPaddedKeysMask": Kind(SPANS, _causal),
    "BlockDiagonalLocalAttentionPaddedKeysMask": Kind(SPANS, _window),
    "BlockDiagonalCausalLocalAttentionPaddedKeysMask": Kind(SPANS, _local),
    "BlockDiagonalGappyKeysMask": Kind(SPANS, _all),
    "BlockDiagonalCausalWithOffsetGappyKeysMask": Kind(SPANS, _causal),
    "PagedBlockDiagonalPaddedKeysMask": Kind(PAGES, _all),
    "PagedBlockDiagonalCausalWithOffsetPaddedKeysMask": Kind(PAGES, _causal),
    "PagedBlockDiagonalGappyKeysMask": Kind(PAGES, _all),
    "PagedBlockDiagonalCausalWithOffsetGappyKeysMask": Kind(PAGES, _causal),
}
_TENSOR = Kind(DENSE, _all, True)


class Seen(NamedTuple):
    """What a bias shows, once it is known to fit its tensors.

    bias: numbers to be added, or None. q_ends, k_ends: cumulative lengths of packed sequences. Where keys do not
    follow one another: rows, spans: of each sequence its rows and its keys, (first, one after the last), and with
    pages `table` and `page_size`.
    """

    mask: Mask
    bias: torch.Tensor | None = None
    q_ends: torch.Tensor | None = None
    k_ends: torch.Tensor | None = None
    rows: list[tuple[int, int]] | None = None
    spans: list[tuple[int, int]] | None = None
    table: torch.Tensor | None = None
    page_size: int = 0


def kind_of(bias) -> Kind | None:
    """The kind of an attn_bias; None for a class that is not known."""
    return _TENSOR if isinstance(bias, torch.Tensor) else KINDS.get(type(bias).__name__)


def tensor_of(bias) -> torch.Tensor | None:
    """The numbers that a bias adds."""
    return bias if isinstance(bias, torch.Tensor) else getattr(bias, "_bias", None)


def read(bias, rows: int, columns: int) -> Seen:
    """What a bias of a known kind shows of so many rows and keys (packed: of all sequences). ValueError."""
    kind = kind_of(bias)
    mask = kind.mask(bias)
    if kind.keys == DENSE:
        return Seen(mask, tensor_of(bias) if kind.tensor else None)
    q_ends = _numbers(bias, "q_seqinfo", "seqstart")
    if torch.compiler.is_compiling() and kind.keys == BLOCKS:  # the numbers are not there yet
        return Seen(mask, None, q_ends, _numbers(bias, "k_seqinfo", "seqstart"))
    ends = _ends("q_seqinfo", q_ends, rows)
    if kind.keys == BLOCKS:
        k_ends = _numbers(bias, "k_seqinfo", "seqstart")
        _check_count("k_seqinfo.seqstart", len(_ends("k_seqinfo", k_ends, columns)), len(ends))
        return Seen(mask, None, q_ends, k_ends)
    starts, lengths = (_numbers(bias, "k_seqinfo", name).tolist() for name in ("seqstart", "seqlen"))
    _check_count("k_seqinfo.seqlen", len(lengths), len(ends) - 1)
    _check_count("k_seqinfo.seqstart", min(len(starts), len(ends)), len(ends))
    q_rows = list(zip(ends, ends[1:]))
    if kind.keys == SPANS:
        spans = [(start, start + length) for start, length in zip(starts, lengths)]
        return Seen(mask, rows=q_rows, spans=_checked(spans, columns, "keys"))
    table, size = _pages(bias, len(lengths), columns)
    spans = list(zip(starts if "Gappy" in type(bias).__name__ else [0] * len(lengths), lengths))
    most = table.shape[1] * size
    return Seen(mask, rows=q_rows, spans=_checked(spans, most, "rows of its pages"), table=table, page_size=size)


def _attribute(bias, *path: str):
    value = bias
    for name in path:
        if not hasattr(value, name):
            raise ValueError(f"attn_bias is a {type(bias).__name__} without {'.'.join(path)}; accepted are xFormers' own")
        value = getattr(value, name)
    return value


def _count(bias, name: str, least: int) -> int:
    value = _attribute(bias, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"attn_bias.{name} is {value!r}; accepted are integers from {least} on")
    return value


def _numbers(bias, *path: str) -> torch.Tensor:
    given = _attribute(bias, *path)
    if not isinstance(given, torch.Tensor) or given.dim() != 1 or given.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"attn_bias.{'.'.join(path)} is {_described(given)}; accepted is a tensor (n,), int32 or int64")
    if given.device.type != "cpu":
        raise ValueError(f"attn_bias.{'.'.join(path)} is on {given.device}; accepted is query's device, the CPU")
    return given


def _ends(which: str, given: torch.Tensor, total: int) -> list[int]:
    """Cumulative lengths that must end with the last row."""
    numbers = given.tolist()
    check_ends(f"attn_bias.{which}.seqstart", numbers, total)
    if numbers[-1] != total:
        raise ValueError(f"attn_bias.{which}.seqstart ends with {numbers[-1]}; accepted is the number of rows, {total}")
    return numbers


def _check_count(name: str, given: int, wanted: int) -> None:
    if given != wanted:
        raise ValueError(f"attn_bias.{name} has {given} entries; accepted are {wanted}, as q_seqinfo has sequences")


def _checked(spans, most: int, what: str):
    for first, last in spans:
        if not 0 <= first <= last <= most:
            raise ValueError(f"attn_bias.k_seqinfo has keys {first} to {last}; accepted are 0 to {most}, the {what}")
    return spans


def _pages(bias, sequences: int, columns: int) -> tuple[torch.Tensor, int]:
    size, table = _count(bias, "page_size", 1), _attribute(bias, "block_tables")
    whole = isinstance(table, torch.Tensor) and table.dim() == 2 and table.dtype in (torch.int32, torch.int64)
    if not whole or table.device.type != "cpu" or len(table) != sequences:
        raise ValueError(
            f"attn_bias.block_tables is {_described(table)}; accepted is int32 or int64 on the CPU, ({sequences}, pages)"
        )
    if columns % size:
        raise ValueError(f"attn_bias.page_size is {size}; accepted are divisors of key.shape[1], {columns}")
    return table, size


def _described(value) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)} on {value.device}"
    return f"a {type(value).__name__}"
