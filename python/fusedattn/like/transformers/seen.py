"""A mask that is a tensor to whoever looks at it, and a few numbers to whoever does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_map

from ...mask import Band


class Sight(NamedTuple):
    """What queries see of keys.

    band: row i sees the columns i - left to i + right, counted in its sequence. padding: None, or bool [B, Skv],
    True where a column shows. ends: None, or int64 (of rows, of columns), cumulative lengths with a leading 0 of
    sequences packed in the B * S rows of a batch, each of which sees itself alone.
    """

    band: Band
    padding: torch.Tensor | None = None
    ends: tuple[torch.Tensor, torch.Tensor] | None = None


class _Contents:
    """What a mask and its aliases share: what it shows, as numbers until others may have written to its bytes."""

    def __init__(self, sight: Sight | None, make: Callable[[], torch.Tensor] | None, made: torch.Tensor | None = None):
        self.sight, self.make, self.made = sight, make, made


class SeenMask(torch.Tensor):
    """A bool tensor [B, 1, Sq, Skv], True is visible, that has no memory until an operation of torch needs it.

    Models may index, combine, move or change it as any tensor: the first such operation makes the bytes, as
    transformers makes them for torch's attention, and its results are ordinary tensors. What only passes it on
    (detach, clone, gradient checkpointing) keeps it as it is.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, shape, sight: Sight | None = None, make=None, contents: _Contents | None = None):
        """make: gives the bytes, [B, 1, Sq, Skv]. contents: of another mask, of which this is an alias."""
        return torch.Tensor._make_wrapper_subclass(cls, shape, dtype=torch.bool, device="cpu")

    def __init__(self, shape, sight: Sight | None = None, make=None, contents: _Contents | None = None):
        self._contents = contents or _Contents(sight, make)

    @property
    def sight(self) -> Sight | None:
        """What it shows, as numbers; None once others may have written to its bytes."""
        return self._contents.sight

    @property
    def _bytes(self) -> torch.Tensor:
        """The mask as an ordinary tensor, made when first asked for."""
        contents = self._contents
        if contents.made is None:  # no element twice in memory, or it could not be written to
            contents.made = contents.make().contiguous()
        return contents.made

    def bytes(self) -> torch.Tensor:
        """The mask as an ordinary tensor, made at the first call."""
        return self._bytes

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function in _PASSES_ON and args[0].sight is not None:
            mask, contents = args[0], args[0]._contents
            if function is torch.ops.aten.clone.default:
                return cls(mask.shape, contents.sight, contents.make)
            return cls(mask.shape, contents=contents)
        writes = any(
            argument.alias_info is not None for argument in function._schema.arguments
        )  # or shares memory
        args, kwargs = tree_map(lambda value: _ordinary(value, writes), (args, kwargs or {}))
        return function(*args, **kwargs)

    def __tensor_flatten__(self):
        """For torch.compile, which meets it as an argument: its bytes, and no sight."""
        return ["_bytes"], None

    @staticmethod
    def __tensor_unflatten__(inner, _context, size, _stride):
        return SeenMask(size, contents=_Contents(None, None, inner["_bytes"]))

    def numpy(self, **words):
        return _ordinary(self, True).numpy(**words)

    def share_memory_(self):
        _ordinary(self, True).share_memory_()
        return self

    def __dlpack__(self, **words):
        return _ordinary(self, True).__dlpack__(**words)

    def tolist(self):
        return self.bytes().tolist()

    def __reduce_ex__(self, protocol):
        return self.bytes().__reduce_ex__(protocol)

    def __repr__(self, **_):
        return f"SeenMask({tuple(self.shape)}, {self.sight})"


def _ordinary(value, writes: bool):
    """The bytes of a mask, other values as they are. writes: whether they may be written to from now on."""
    if not isinstance(value, SeenMask):
        return value
    found = value.bytes()
    if writes:
        value._contents.sight = None
    return found


_PASSES_ON = {torch.ops.aten.detach.default, torch.ops.aten.alias.default, torch.ops.aten.clone.default}
