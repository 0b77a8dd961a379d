"""register(): the door's functions in transformers' tables, until the handle is undone."""

from __future__ import annotations

import threading

from transformers import AttentionInterface, AttentionMaskInterface

from .attention import attention_forward
from .flash import FlashAttention
from .masks import attention_mask
from .models import Check

NAME = "fusedattn"

_lock = threading.RLock()
_installed: dict = {}  # what undoes an installation, with the handles that hold it, by name
_CHECK = "check of models"  # an installation that all share


class Registration(str):
    """What register() returns: the name, and undo(), which gives transformers back what it had under it."""

    _held: tuple[str, ...] = ()

    def undo(self) -> None:
        """Ends this registration; names that no other holds are as before. A second call does nothing."""
        with _lock:
            held, self._held = self._held, ()
            for name in held:
                installation, handles = _installed[name]
                handles.remove(id(self))
                if not handles:
                    del _installed[name]
                    installation.remove()

    def __reduce_ex__(self, _protocol):  # a copy, of a configuration for one, holds nothing
        return str, (str(self),)

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, *_) -> None:
        self.undo()


def register(name: str = NAME, *, flash_attention_2: bool = False) -> Registration:
    """Makes `attn_implementation=name` known to transformers, for the whole process, and returns the name.

    name: whatever transformers should call it; "sdpa" puts fusedattn where models ask for nothing. Names that
        contain "flash" mean flash-attn to transformers and are refused.
    flash_attention_2: models with attn_implementation="flash_attention_2" then run on the CPU, in transformers' own
        path for flash-attn with the functions of fusedattn.like.flash_attn, float32 too.

    May be called again. The returned handle's undo() takes back what this call did; it is also a context manager.
    Raises ValueError for a name that is refused.
    """
    if not isinstance(name, str) or not name or "flash" in name:
        raise ValueError(
            f'name is {name!r}; accepted are strings without "flash", which transformers takes for flash-attn:'
            " register(flash_attention_2=True) answers for that"
        )
    handle = Registration(name)
    wanted = {_CHECK: lambda: Check(_installed), name: lambda: _Names(name)}
    if flash_attention_2:
        wanted["flash_attention_2"] = FlashAttention
    with _lock:
        for key, install in wanted.items():
            if key not in _installed:
                _installed[key] = install(), []
            _installed[key][1].append(id(handle))
            handle._held += (key,)
    return handle


class _Names:
    """Two entries in transformers' tables, under one name."""

    def __init__(self, name: str):
        self._name = name
        self._tables = {AttentionInterface: attention_forward, AttentionMaskInterface: attention_mask}
        self._before = {table: table._global_mapping.get(name) for table in self._tables}
        for table, function in self._tables.items():
            table.register(name, function)

    def remove(self) -> None:
        for table, before in self._before.items():
            if before is None:
                table._global_mapping.pop(self._name, None)
            else:
                table.register(self._name, before)
