"""The diffusers door: an attention backend named "fusedattn" for models of `diffusers`.

    from fusedattn.like.diffusers import register
    handle = register()
    model.set_attention_backend("fusedattn")  # or: with attention_backend("fusedattn"):
    handle.undo()

What it computes is what diffusers' backend "native" does, torch's scaled_dot_product_attention, on rows before heads.
"""

from __future__ import annotations

import torch

from ..installations import Handle, Installation
from . import sdpa
from .sdpa_arguments import Call, refusal

NAME = "fusedattn"
_NATIVE = "native"
_TRIED = "0.42.1"


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    _parallel_config=None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """The backend, called by diffusers for query [B, Sq, N, D], key [B, Skv, H, D], value [B, Skv, H, Dv].

    attn_mask: None; bool (True takes part), or numbers added to the scores, float32 or of query's dtype, with
        their gradient: [B, Skv] hides keys of each sequence; other shapes broadcast to [B, N, Sq, Skv].
    dropout_p, is_causal (from the top left, and without an attn_mask), scale, enable_gqa: as fusedattn.like.sdpa
        describes them.
    return_lse: also the log-sum-exp, float32 [B, N, Sq], -inf where nothing is seen, without a gradient.

    Returns [B, Sq, N, Dv] of query's dtype. Raises NotImplementedError for context parallelism, and what
    fusedattn.like.sdpa raises.
    """
    if _parallel_config is not None:
        raise NotImplementedError(
            f"_parallel_config is a {type(_parallel_config).__name__}: the backend {NAME!r} does not compute context"
            f" parallelism; accepted is None, and diffusers' backend {_NATIVE!r} with it"
        )
    if type(return_lse) is not bool:
        raise TypeError(f"return_lse is {return_lse!r}; accepted are True and False")
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if not isinstance(tensor, torch.Tensor) or tensor.dim() != 4:
            found = f"shape {tuple(tensor.shape)}" if isinstance(tensor, torch.Tensor) else f"type {type(tensor).__name__}"
            raise ValueError(f"{name} has {found}; accepted are tensors [B, S, N, D]")
    if attn_mask is not None and not isinstance(attn_mask, torch.Tensor):
        raise TypeError(f"attn_mask is a {type(attn_mask).__name__}; accepted are None and a tensor")
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    if attn_mask is not None and attn_mask.ndim == 2 and attn_mask.shape == (query.shape[0], key.shape[2]):
        attn_mask = attn_mask[:, None, None, :]
    call = sdpa.autocast(Call(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa))
    refused = refusal(call)
    if refused is not None:
        raise refused
    if return_lse:
        out, lse = sdpa.compute_with_lse(call)
        return out.transpose(1, 2), lse
    return sdpa.compute(call).transpose(1, 2)


class Registration(Handle):
    """What register() returns: undo() makes the backend unknown again, as does leaving a with block.

    If it is what diffusers uses unless told otherwise, the backend before it becomes that again. Models that were set
    to it have to be set to another. Not for use within a block attention_backend("...") that another backend's
    block or set_active_backend surrounds: at its end diffusers puts back what it found.
    """

    def __repr__(self) -> str:
        return f"<diffusers' attention backend {NAME!r}, {'registered' if self.holds else 'undone'}>"


def register() -> Registration:
    """Makes the backend "fusedattn" known to diffusers, for model.set_attention_backend and attention_backend.

    With DIFFUSERS_ATTN_BACKEND=fusedattn in the environment it is also the one in use from now on; for that
    register before anything imports diffusers.models, which refuses names it does not know. Calls may nest.

    Raises ImportError without diffusers, RuntimeError for one whose backends are registered in another way.
    """
    return Registration(_backend)


class _Backend:
    """One member of diffusers' enumeration of backends, and what its registry keeps about each."""

    def __init__(self):
        dispatch, is_wanted = _dispatch()
        self._names, self._registry = dispatch.AttentionBackendName, dispatch._AttentionBackendRegistry
        if NAME in self._names._value2member_map_:
            raise RuntimeError(f"diffusers knows a backend {NAME!r} already; accepted is a diffusers without one")
        self._member = _added(self._names)
        self._registry.register(self._member)(attention)
        self._before = self._registry._active_backend
        if is_wanted:
            self._registry.set_active_backend(self._member)

    def remove(self) -> None:
        if self._registry._active_backend == self._member:
            self._registry.set_active_backend(self._before)
        for table in ("_backends", "_constraints", "_supported_arg_names"):
            getattr(self._registry, table).pop(self._member, None)
        _removed(self._names, self._member)


_backend = Installation(_Backend)


def _dispatch():
    """(diffusers' module of backends, whether the environment asks for ours), which that module would refuse."""
    from diffusers.utils import constants

    asked = getattr(constants, "DIFFUSERS_ATTN_BACKEND", None)
    if asked == NAME:
        constants.DIFFUSERS_ATTN_BACKEND = _NATIVE
    try:
        from diffusers.models import attention_dispatch
    finally:
        if asked == NAME:
            constants.DIFFUSERS_ATTN_BACKEND = NAME
    registry = getattr(attention_dispatch, "_AttentionBackendRegistry", None)
    used = ("_backends", "_constraints", "_supported_arg_names", "_active_backend", "register", "set_active_backend")
    missing = [name for name in used if not hasattr(registry, name)]
    if missing:
        import diffusers

        raise RuntimeError(
            f"diffusers {diffusers.__version__} has no {missing[0]} in its registry of attention backends; accepted are"
            f" versions that register backends as {_TRIED} does"
        )
    return attention_dispatch, asked == NAME


def _added(names):
    """A new member of an enumeration of strings: Python has no call for that, so its tables are written."""
    member = str.__new__(names, NAME)
    member._name_, member._value_ = NAME.upper(), NAME
    names._member_map_[member._name_] = names._value2member_map_[NAME] = member
    names._member_names_.append(member._name_)
    type.__setattr__(names, member._name_, member)
    return member


def _removed(names, member) -> None:
    del names._member_map_[member._name_], names._value2member_map_[NAME]
    names._member_names_.remove(member._name_)
    type.__delattr__(names, member._name_)
