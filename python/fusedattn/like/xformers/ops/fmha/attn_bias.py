"""xformers.ops.fmha.attn_bias: which keys a query sees, without a matrix that says so.

The classes have the names, constructors and attributes of xFormers' own, whose objects are understood as well. What
each shows is one row of the table in biases.py, from which materialize() draws it for debugging and tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from . import biases
from .seqinfo import _GappySeqInfo, _PaddedSeqLenInfo, _SeqLenInfo


class AttentionBias:
    """The base of what may be given as attn_bias besides a tensor."""

    def to(self, device) -> AttentionBias:
        """The same with its tensors on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if hasattr(value, "to")}
        return replace(self, **moved) if moved else self

    def materialize(self, shape: tuple[int, ...], dtype=torch.float32, device="cpu") -> torch.Tensor:
        """What is added to scores of this shape [..., queries, keys]: 0 where a query sees a key, else -inf.

        Slow, and as large as the scores: for debugging and tests.
        """
        rows, columns = shape[-2:]
        seen = biases.read(self, rows, columns)
        shown = torch.zeros(rows, columns, dtype=torch.bool)
        if seen.q_ends is not None:
            blocks = [list(zip(ends, ends[1:])) for ends in (seen.q_ends.tolist(), seen.k_ends.tolist())]
        else:
            blocks = [seen.rows, seen.spans] if seen.rows is not None else [[(0, rows)], [(0, columns)]]
        for b, ((q_first, q_last), (k_first, k_last)) in enumerate(zip(*blocks)):
            block = torch.from_numpy(seen.mask.materialize(q_last - q_first, k_last - k_first))
            places = torch.arange(k_first, k_last)
            if seen.table is not None:
                places = seen.table[b].long()[places // seen.page_size] * seen.page_size + places % seen.page_size
            shown[torch.arange(q_first, q_last)[:, None], places] |= block
        added = torch.zeros(rows, columns).masked_fill(~shown, float("-inf")).to(dtype).to(device)
        return added.expand(shape) if seen.bias is None else added.expand(shape) + seen.bias


class LowerTriangularMask(AttentionBias):
    """Query i sees keys 0 to i: causal, from the top left."""

    def __init__(self, device=None) -> None:
        """device has no effect."""

    def add_bias(self, bias: torch.Tensor) -> LowerTriangularMaskWithTensorBias:
        """The same with numbers that are added to the scores."""
        return LowerTriangularMaskWithTensorBias(bias)


class LowerTriangularMaskWithTensorBias(LowerTriangularMask):
    """Query i sees keys 0 to i, and `bias` is added to the scores."""

    def __init__(self, bias: torch.Tensor) -> None:
        self._bias = bias

    def to(self, device) -> LowerTriangularMaskWithTensorBias:
        return LowerTriangularMaskWithTensorBias(self._bias.to(device))


class LowerTriangularFromBottomRightMask(AttentionBias):
    """Causal, the last query sees the last key."""

    def make_local_attention(self, window_size: int) -> LowerTriangularFromBottomRightLocalAttentionMask:
        """The same, of which each query sees its last window_size keys."""
        return LowerTriangularFromBottomRightLocalAttentionMask(window_size)


@dataclass
class LowerTriangularFromBottomRightLocalAttentionMask(LowerTriangularFromBottomRightMask):
    """Causal from the bottom right, each query sees its last `_window_size` keys."""

    _window_size: int

    def __post_init__(self) -> None:
        _check_window(self)


@dataclass
class LocalAttentionFromBottomRightMask(AttentionBias):
    """From window_left keys before the diagonal, which ends at the last query and key, to window_right after it."""

    window_left: int
    window_right: int

    def __post_init__(self) -> None:
        for name in ("window_left", "window_right"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted are integers from 0 on")


@dataclass
class BlockDiagonalMask(AttentionBias):
    """Packed sequences: queries see the keys of their own sequence."""

    q_seqinfo: _SeqLenInfo
    k_seqinfo: _SeqLenInfo
    _batch_sizes: Sequence[int] | None = None

    @classmethod
    def from_seqlens(cls, q_seqlen: Sequence[int], kv_seqlen: Sequence[int] | None = None, *, device=None):
        """Of the lengths of sequences; keys have those of queries unless kv_seqlen is given."""
        q_info = _SeqLenInfo.from_seqlens(q_seqlen, device=device)
        if kv_seqlen is None or list(kv_seqlen) == list(q_seqlen):
            return cls(q_info, q_info)
        _check_as_many(q_seqlen, kv_seqlen)
        return cls(q_info, _SeqLenInfo.from_seqlens(kv_seqlen, device=device))

    @classmethod
    def from_tensor_list(cls, tensors: Sequence[torch.Tensor]):
        """(bias, tensors [B, M_i, ...] as one [1, sum of B * M_i, ...]); split() is the inverse."""
        bias = cls.from_seqlens([t.shape[1] for t in tensors for _ in range(t.shape[0])])
        bias._batch_sizes = [t.shape[0] for t in tensors]
        return bias, _packed(tensors)

    @classmethod
    def from_tensor_lists_qkv(cls, tensors_q, tensors_k, tensors_v=None):
        """(bias, q, k, v or None) of lists of tensors [B, M_i, ...]."""
        _check_as_many(tensors_q, tensors_k)
        lengths = [[t.shape[1] for t in tensors for _ in range(t.shape[0])] for tensors in (tensors_q, tensors_k)]
        bias = cls.from_seqlens(*lengths)
        bias._batch_sizes = [t.shape[0] for t in tensors_q]
        return bias, _packed(tensors_q), _packed(tensors_k), None if tensors_v is None else _packed(tensors_v)

    def split_queries(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """tensor [1, all queries, ...] as the list of tensors that it was."""
        return self.q_seqinfo.split(tensor, self._batch_sizes)

    def split_kv(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """tensor [1, all keys, ...] as the list of tensors that it was."""
        return self.k_seqinfo.split(tensor, self._batch_sizes)

    def split(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """split_queries() where queries and keys have the same lengths."""
        if self.q_seqinfo is not self.k_seqinfo:
            raise ValueError("queries and keys have lengths of their own; accepted are split_queries() and split_kv()")
        return self.split_queries(tensor)

    def make_causal(self) -> BlockDiagonalCausalMask:
        return self._as(BlockDiagonalCausalMask)

    def make_causal_from_bottomright(self) -> BlockDiagonalCausalFromBottomRightMask:
        return self._as(BlockDiagonalCausalFromBottomRightMask)

    def make_local_attention(self, window_size: int) -> BlockDiagonalCausalLocalAttentionMask:
        return self._as(BlockDiagonalCausalLocalAttentionMask, _window_size=window_size)

    def make_local_attention_from_bottomright(self, window_size: int):
        return self._as(BlockDiagonalCausalLocalAttentionFromBottomRightMask, _window_size=window_size)

    def _as(self, kind, **more):
        return kind(q_seqinfo=self.q_seqinfo, k_seqinfo=self.k_seqinfo, _batch_sizes=self._batch_sizes, **more)


@dataclass
class BlockDiagonalCausalMask(BlockDiagonalMask):
    """The same, each sequence causal from the top left."""


@dataclass
class BlockDiagonalCausalFromBottomRightMask(BlockDiagonalMask):
    """The same, each sequence causal from the bottom right; none may have more queries than keys."""

    def __post_init__(self) -> None:
        for b, (queries, keys) in enumerate(_lengths(self)):
            if keys < queries:
                raise ValueError(f"sequence {b} has {queries} queries and {keys} keys; accepted are at least as many keys")


@dataclass
class BlockDiagonalCausalLocalAttentionMask(BlockDiagonalCausalMask):
    """Causal from the top left, each query sees its last `_window_size` keys."""

    _window_size: int = 0

    def __post_init__(self) -> None:
        _check_window(self)
        for queries, keys in _lengths(self):
            if queries - self._window_size >= keys:
                raise RuntimeError(
                    f"a sequence has {queries} queries and {keys} keys: with a window of {self._window_size} its last"
                    " queries see nothing"
                )


@dataclass
class BlockDiagonalCausalLocalAttentionFromBottomRightMask(BlockDiagonalCausalFromBottomRightMask):
    """Causal from the bottom right, each query sees its last `_window_size` keys."""

    _window_size: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_window(self)


@dataclass
class BlockDiagonalPaddedKeysMask(AttentionBias):
    """Packed queries; keys have room for kv_padding rows in each sequence, of which the first are used."""

    q_seqinfo: _SeqLenInfo
    k_seqinfo: _PaddedSeqLenInfo

    @classmethod
    def from_seqlens(cls, q_seqlen, kv_padding: int, kv_seqlen, causal_diagonal: Any = None, *, device=None):
        """causal_diagonal has no effect."""
        return cls(*_padded(q_seqlen, kv_padding, kv_seqlen, device))

    def make_paged(self, block_tables: torch.Tensor, page_size: int, paged_type):
        """The same lengths where keys lie in pages."""
        info = replace(self.k_seqinfo, padding=block_tables.shape[1] * page_size)
        return paged_type(q_seqinfo=self.q_seqinfo, k_seqinfo=info, block_tables=block_tables, page_size=page_size)

    def make_local_attention(self, window_left: int, window_right: int) -> BlockDiagonalLocalAttentionPaddedKeysMask:
        return BlockDiagonalLocalAttentionPaddedKeysMask(self.q_seqinfo, self.k_seqinfo, window_left, window_right)


@dataclass
class BlockDiagonalCausalWithOffsetPaddedKeysMask(BlockDiagonalPaddedKeysMask):
    """The same, each sequence causal: its last query sees its last key."""

    causal_diagonal: Any = None


@dataclass
class BlockDiagonalLocalAttentionPaddedKeysMask(BlockDiagonalPaddedKeysMask):
    """The same with a window around the diagonal, which ends at the last query and key of each sequence."""

    window_left: int
    window_right: int

    @classmethod
    def from_seqlens_local(cls, q_seqlen, kv_padding: int, kv_seqlen, window_left: int, window_right: int):
        return cls(*_padded(q_seqlen, kv_padding, kv_seqlen, None), window_left, window_right)


@dataclass
class BlockDiagonalCausalLocalAttentionPaddedKeysMask(BlockDiagonalPaddedKeysMask):
    """Causal from the bottom right, each query sees its last `_window_size` keys."""

    _window_size: int

    @classmethod
    def from_seqlens_local(cls, q_seqlen, kv_padding: int, kv_seqlen, window_size: int):
        return cls(*_padded(q_seqlen, kv_padding, kv_seqlen, None), window_size)


@dataclass
class PagedBlockDiagonalPaddedKeysMask(AttentionBias):
    """Packed queries; the keys of sequence b lie in pages of page_size rows, block_tables[b] in their order."""

    q_seqinfo: _SeqLenInfo
    k_seqinfo: _PaddedSeqLenInfo
    block_tables: torch.Tensor
    page_size: int

    _UNPAGED_TYPE: ClassVar[type] = BlockDiagonalPaddedKeysMask

    @classmethod
    def from_seqlens(cls, q_seqlen, kv_seqlen, block_tables: torch.Tensor, page_size: int, *, device=None):
        infos = _padded(q_seqlen, block_tables.shape[1] * page_size, kv_seqlen, device)
        return cls(*infos, block_tables, page_size)


@dataclass
class PagedBlockDiagonalCausalWithOffsetPaddedKeysMask(PagedBlockDiagonalPaddedKeysMask):
    """The same, each sequence causal: its last query sees its last key."""

    _UNPAGED_TYPE = BlockDiagonalCausalWithOffsetPaddedKeysMask


@dataclass
class BlockDiagonalGappyKeysMask(AttentionBias):
    """Packed queries; the keys of each sequence start at kv_seqstarts and are kv_seqlen many."""

    q_seqinfo: _SeqLenInfo
    k_seqinfo: _GappySeqInfo

    @classmethod
    def from_seqlens(cls, q_seqlen, kv_seqstarts, kv_seqlen, *, device=None):
        """kv_seqstarts: one more than sequences, the last one is the number of keys."""
        _check_as_many(q_seqlen, kv_seqlen)
        keys = _GappySeqInfo.from_seqlens_gappy(kv_seqstarts, kv_seqlen, False, device=device)
        return cls(_SeqLenInfo.from_seqlens(q_seqlen, device=device), keys)

    def make_paged(self, block_tables: torch.Tensor, page_size: int, notional_padding: int, paged_type):
        """The same keys where each notional_padding rows are the pages of one sequence."""
        if notional_padding % page_size:
            raise ValueError(
                "Notional padding should be divisible by the page size:"
                f" notional_padding is {notional_padding}, page_size {page_size}"
            )
        starts = [start - b * notional_padding for b, start in enumerate(self.k_seqinfo.seqstart_py[:-1])]
        most = block_tables.shape[1] * page_size
        if not all(0 <= start < most for start in starts):
            raise ValueError(f"keys start at {starts} of their pages; accepted are 0 to {most - 1}")
        keys = _GappySeqInfo.from_seqlens_gappy(starts, self.k_seqinfo.seqlen_py, True, device=block_tables.device)
        return paged_type(q_seqinfo=self.q_seqinfo, k_seqinfo=keys, block_tables=block_tables, page_size=page_size)


@dataclass
class BlockDiagonalCausalWithOffsetGappyKeysMask(BlockDiagonalGappyKeysMask):
    """The same, each sequence causal: its last query sees its last key."""


@dataclass
class PagedBlockDiagonalGappyKeysMask(AttentionBias):
    """Packed queries; of the rows in its pages, sequence b sees kv_seqlen[b] from kv_seqstarts[b] on."""

    q_seqinfo: _SeqLenInfo
    k_seqinfo: _GappySeqInfo
    block_tables: torch.Tensor
    page_size: int

    _UNPAGED_TYPE: ClassVar[type] = BlockDiagonalGappyKeysMask

    @classmethod
    def from_seqlens(cls, q_seqlen, kv_seqstarts, kv_seqlen, block_tables: torch.Tensor, page_size: int, *, device=None):
        """kv_seqstarts: as many as sequences, each within the pages of its own."""
        _check_as_many(q_seqlen, kv_seqlen)
        keys = _GappySeqInfo.from_seqlens_gappy(kv_seqstarts, kv_seqlen, True, device=device)
        return cls(_SeqLenInfo.from_seqlens(q_seqlen, device=device), keys, block_tables, page_size)


@dataclass
class PagedBlockDiagonalCausalWithOffsetGappyKeysMask(PagedBlockDiagonalGappyKeysMask):
    """The same, each sequence causal: its last query sees its last key."""

    _UNPAGED_TYPE = BlockDiagonalCausalWithOffsetGappyKeysMask


VARLEN_BIASES = (
    BlockDiagonalMask,
    BlockDiagonalGappyKeysMask,
    BlockDiagonalPaddedKeysMask,
    PagedBlockDiagonalPaddedKeysMask,
    PagedBlockDiagonalGappyKeysMask,
)


def _padded(q_seqlen, kv_padding: int, kv_seqlen, device):
    _check_as_many(q_seqlen, kv_seqlen)
    keys = _PaddedSeqLenInfo.from_seqlens_padded(kv_seqlen, kv_padding, device=device)
    return _SeqLenInfo.from_seqlens(q_seqlen, device=device), keys


def _packed(tensors) -> torch.Tensor:
    return torch.cat([t.reshape(1, -1, *t.shape[2:]) for t in tensors], dim=1)


def _lengths(bias) -> list[tuple[int, int]]:
    pairs = zip(bias.q_seqinfo.intervals(), bias.k_seqinfo.intervals())
    return [(q_last - q_first, k_last - k_first) for (q_first, q_last), (k_first, k_last) in pairs]


def _check_as_many(queries, keys) -> None:
    if len(queries) != len(keys):
        raise ValueError(f"{len(queries)} sequences of queries and {len(keys)} of keys; accepted are equal numbers")


def _check_window(bias) -> None:
    if bias._window_size <= 0:
        raise ValueError(f"window_size is {bias._window_size}; accepted are integers from 1 on")
