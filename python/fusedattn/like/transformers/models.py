"""Which models may take a name of ours: those that ask transformers' AttentionInterface for their attention."""

from __future__ import annotations

import functools
import inspect
import re
import sys

from transformers import PreTrainedModel

_ATTENTION = re.compile(r"^class \w*Attention\w*\(nn\.Module\):", re.MULTILINE)

_OF_TRANSFORMERS = ("sdpa", "flash_attention_2")  # which models without the interface may have classes for


class Check:
    """Models without the interface refuse the names: they would add our masks, which are bool, to their scores."""

    def __init__(self, names):
        """names: those to be refused, as they are at the time of a call."""
        self._before = before = PreTrainedModel.get_correct_attn_implementation

        @functools.wraps(before)
        def get_correct_attn_implementation(model, requested_attention, *arguments, **words):
            if requested_attention in names and requested_attention not in _OF_TRANSFORMERS:
                _refuse(type(model), requested_attention)
            return before(model, requested_attention, *arguments, **words)

        PreTrainedModel.get_correct_attn_implementation = get_correct_attn_implementation

    def remove(self) -> None:
        PreTrainedModel.get_correct_attn_implementation = self._before


def _refuse(model_class: type, name: str) -> None:
    modules = {base.__module__ for base in model_class.__mro__ if issubclass(base, PreTrainedModel)}
    for module in modules - {PreTrainedModel.__module__}:
        if _has_attention_of_its_own(module):
            raise ValueError(
                f'attn_implementation is "{name}", but {model_class.__name__} does not ask transformers\''
                f" AttentionInterface for its attention ({module}); accepted is what the model names itself:"
                ' "eager", and for some "sdpa" or "flash_attention_2"'
            )


@functools.cache
def _has_attention_of_its_own(module: str) -> bool:
    """As far as its source tells: a class of attention, and no word of the interface."""
    try:
        source = inspect.getsource(sys.modules[module])
    except (KeyError, OSError, TypeError):
        return False
    return _ATTENTION.search(source) is not None and "ALL_ATTENTION_FUNCTIONS" not in source
