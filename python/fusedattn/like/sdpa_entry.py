"""What stands in torch.nn.functional in place of scaled_dot_product_attention while torch is accelerated."""

from __future__ import annotations

import sys

import torch
from torch.overrides import _get_current_function_mode_stack, handle_torch_function, has_torch_function

from ..ops import is_ordinary, nobody_looks_on
from ..problem import verbose
from . import sdpa
from .sdpa_arguments import Call, causal_variant, refusal

NAME = "scaled_dot_product_attention"


def entry(original, state):
    """A function like `original` that computes what is covered here while state.on, and leaves it the rest."""

    def scaled_dot_product_attention(
        query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, enable_gqa=False
    ):
        if state.on:
            call = Call(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
            reason = _onlooker(call)
            if reason is None:
                cast = sdpa.autocast(call)
                reason = refusal(cast)
                if reason is None:
                    return sdpa.compute(cast)
            tell(NAME, call, reason)
        given = query, key, value, attn_mask
        words = {"dropout_p": dropout_p, "is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
        if causal_variant(attn_mask) is not None:  # which looks for the function of this name
            function = torch.nn.functional.scaled_dot_product_attention
            return handle_torch_function(function, given, *given, **words)
        return original(*given, **words)

    scaled_dot_product_attention.__doc__ = original.__doc__
    scaled_dot_product_attention.__module__ = "torch.nn.functional"
    scaled_dot_product_attention.__qualname__ = NAME
    return scaled_dot_product_attention


def tell(name: str, call: Call, reason) -> None:
    """With FUSEDATTN_VERBOSE=1, says on stderr why a call of a function or operator is left to torch."""
    if verbose() and not torch.compiler.is_compiling():
        sizes = ",".join(_sizes(tensor) for tensor in call[:3])
        print(f"fusedattn,torch,{name},{sizes},{reason}", file=sys.stderr)


def _sizes(tensor) -> str:
    try:
        return "x".join(map(str, tensor.shape)) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
    except RuntimeError:  # of torch, for a nested tensor
        return "nested"


def _onlooker(call: Call) -> str | None:
    """Why a call goes through torch's own function whatever its arguments; it may end in our kernels all the same."""
    query, key, value, mask, *_ = call
    if not torch._C._get_flash_sdp_enabled():
        return "flash attention is switched off (torch.nn.attention.sdpa_kernel)"
    if torch.compiler.is_compiling():
        return "torch.export makes a program for elsewhere" if torch.compiler.is_exporting() else _transform()
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode derivatives may be asked for"
    if causal_variant(mask) is not None:
        mask = None
    if nobody_looks_on(query, key, value) and (mask is None or is_ordinary(mask)) and not _modes():
        return None
    if has_torch_function((query, key, value, mask)):
        return "a subclass of Tensor or a TorchFunctionMode takes the call"
    if not all(isinstance(given, torch.Tensor) for given in (query, key, value)):
        return None  # refusal() says it better
    return "a device, mode, tracer or transform that only torch's function knows"


def _modes() -> bool:
    """Whether a TorchFunctionMode takes calls: any but that of torch.device and torch.set_default_device."""
    if torch._C._len_torch_function_stack() == 0:
        return False
    from torch.utils._device import DeviceContext

    return any(type(mode) is not DeviceContext for mode in _get_current_function_mode_stack())


def _transform() -> str | None:
    if torch._C._functorch.maybe_current_level() is None:
        return None
    return "a function transform (torch.func) that only torch's function knows"
