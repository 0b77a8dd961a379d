"""Puts this door's functions where MindSpore programs look for them, and takes them away again."""

import mindspore

from .attention import flash_attention_score
from .compression import nsa_compress
from .ring import ring_attention_update
from .speed_fusion import speed_fusion_attention

_FUNCTIONS = (flash_attention_score, nsa_compress, ring_attention_update, speed_fusion_attention)
_ABSENT = object()


class Installation:
    """The functions under `mindspore.ops`; undo() puts back what was there. Also a context manager."""

    def __init__(self):
        self._before = {one.__name__: getattr(mindspore.ops, one.__name__, _ABSENT) for one in _FUNCTIONS}
        for one in _FUNCTIONS:
            setattr(mindspore.ops, one.__name__, one)

    def undo(self) -> None:
        """Puts back what was there before. A second call does nothing."""
        for name, function in self._before.items():
            if function is _ABSENT:
                delattr(mindspore.ops, name)
            else:
                setattr(mindspore.ops, name, function)
        self._before = {}

    def __enter__(self) -> "Installation":
        return self

    def __exit__(self, *exception) -> None:
        self.undo()


def install() -> Installation:
    """Makes four functions of mindspore.ops, named as those of this package, these.

    Names that a program took from mindspore.ops before stay what they were.
    """
    return Installation()
