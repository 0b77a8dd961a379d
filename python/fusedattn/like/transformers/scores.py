"""From a mask, or its absence, to which scores there are: a band, bytes, sequence lengths, what is added."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ...mask import UNBOUNDED, Band
from . import arguments
from .seen import SeenMask

_EVERYTHING, _CAUSAL = Band(), Band(right=0)


class Scores(NamedTuple):
    """Which scores a call computes: those inside the band that the bytes show, plus the bias.

    band: of rows and columns of a sequence, from the top left; from_the_end: from the bottom right. shown: bool that
    broadcasts to [B, N, Sq, Skv]. ends: cumulative lengths of packed sequences, of rows and of columns; then there
    are neither bytes nor a bias. whole: the mask as bytes, should it be needed.
    """

    band: Band = _EVERYTHING
    shown: torch.Tensor | None = None
    ends: tuple[torch.Tensor, torch.Tensor] | None = None
    bias: torch.Tensor | None = None
    from_the_end: bool = False
    whole: SeenMask | None = None

    def biased(self, bias) -> Scores:
        """With more to be added. Packed sequences become bytes: a bias belongs to pairs of the whole."""
        if self.ends is not None:
            if self.whole is None:
                arguments.refuse_packed("position_bias", bias)
            return Scores(shown=self.whole.bytes(), bias=bias)
        return self._replace(bias=bias if self.bias is None else self.bias + bias)


def without_mask(module, is_causal, query, key, kwargs: dict) -> Scores:
    """The scores of a call that carries no mask: by its flag, its window, its cumulative lengths."""
    rows, columns = query.shape[2], key.shape[2]
    causal = _wants_causal(module, is_causal)
    window, ends = kwargs.get("sliding_window"), _ends_of(kwargs)
    if window is not None:
        arguments.check_window(window)
    if ends is not None:  # of flash-attn: the diagonal ends at the last row and column
        left = UNBOUNDED if window is None else window - 1
        return Scores(Band(left, 0 if causal else left), ends=ends, from_the_end=True)
    if window is not None and window < columns:
        if rows == 1:
            return Scores(Band(left=window - columns))  # the newest keys
        if not causal or rows != columns:
            arguments.refuse_window(window, rows, columns)
        return Scores(Band(window - 1, 0))
    # A cache may be longer than its contents: the diagonal starts at the first key.
    return Scores(_CAUSAL) if causal and rows > 1 else _ALL


_ALL = Scores()


def read_mask(module, is_causal, query, key, mask, kwargs: dict) -> Scores:
    """The scores of a call with a mask."""
    rows, columns, ends = query.shape[2], key.shape[2], _ends_of(kwargs)
    if isinstance(mask, SeenMask):
        if torch.compiler.is_compiling():
            mask = mask & True  # its bytes, as an operation of the graph
        else:
            found = _by_sight(mask, query, key, ends)
            if found is not None:
                return found
            mask = mask.bytes()
    arguments.check_mask(mask)
    if mask.dim() == 2:
        return _padded(module, is_causal, rows, columns, mask)
    mask = mask[..., :columns]
    if mask.shape[-1] == 1:
        mask = mask.expand(*mask.shape[:-1], columns)
    arguments.check_shape(mask, query, columns)
    shown, bias = (mask, None) if mask.dtype == torch.bool else _read_numbers(mask)
    if ends is not None:
        alone = _together(ends, rows, columns)
        shown = alone if shown is None else shown & alone
    return Scores(shown=shown, bias=bias)


def _by_sight(mask: SeenMask, query, key, ends) -> Scores | None:
    """The scores that a mask's numbers tell; None where they are not about these queries and keys."""
    sight = mask.sight
    if sight is None or mask.shape[2:] != (query.shape[2], key.shape[2]) or mask.shape[0] != query.shape[0]:
        return None
    if ends is None or sight.ends is not None:
        shown = None if sight.padding is None else sight.padding[:, None, None, :]
        return Scores(sight.band, shown, sight.ends, whole=mask)
    return None if sight.padding is not None else Scores(sight.band, ends=ends, whole=mask)


def _wants_causal(module, is_causal) -> bool:
    """The flag decides, else the module's own."""
    return bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)


def _ends_of(kwargs: dict):
    """Cumulative lengths (of rows, of columns) of packed sequences, if a call names them."""
    rows, columns = kwargs.get("cu_seq_lens_q"), kwargs.get("cu_seq_lens_k")
    if rows is None:
        if columns is not None:
            raise ValueError("cu_seq_lens_k is given without cu_seq_lens_q; accepted are both, or cu_seq_lens_q alone")
        return None
    return rows, rows if columns is None else columns


def _padded(module, is_causal, rows: int, columns: int, padding) -> Scores:
    """Padding [B, Skv] as flash-attn's callers give it: a causal diagonal ends at the last row and column."""
    padding = padding.bool()
    if padding.shape[-1] < columns:  # of a cache longer than its contents
        padding = torch.nn.functional.pad(padding, (0, columns - padding.shape[-1]))
    causal = _wants_causal(module, is_causal) and rows > 1
    return Scores(Band(right=columns - rows) if causal else _EVERYTHING, padding[:, None, None, :columns])


def _read_numbers(mask):
    """(what shows, what is added) of a mask of numbers; None for what is nothing."""
    if mask.requires_grad or torch.compiler.is_compiling():
        return None, mask
    hidden = mask <= torch.finfo(mask.dtype).min
    shown = ~hidden if bool(hidden.any()) else None
    return shown, None if bool((hidden | (mask == 0)).all()) else mask


def _together(ends, rows: int, columns: int):
    """bool [rows, columns], True where row and column are of one packed sequence."""
    of_row, of_column = (
        torch.bucketize(torch.arange(count), end[1:], right=True) for end, count in zip(ends, (rows, columns))
    )
    return of_row[:, None] == of_column[None, :]
