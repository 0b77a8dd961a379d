"""Which derivatives torch's transforms ask for that the operators do not have: found and refused."""

import torch
from torch.autograd import forward_ad

_functorch = torch._C._functorch


def refusing(kernel):
    """An autograd kernel (keyset, q, k, v, ...) that refuses first."""

    def checked(keyset, *given, **named):
        refuse(*(value for value in (*given, *named.values()) if isinstance(value, torch.Tensor)))
        return kernel(keyset, *given, **named)

    return checked


def refuse(*given) -> None:
    """NotImplementedError if a tensor, or one wrapped in it, has a tangent or is under torch.func.grad."""
    for tensor in given:
        for layer in _layers(tensor):
            if _has_tangent(layer):
                raise NotImplementedError(
                    "forward-mode derivatives (torch.func.jvp, jacfwd, dual tensors) of attention are not"
                    " computed; accepted is backward mode: torch.autograd.grad, or .backward()"
                )
            if _functorch.is_gradtrackingtensor(layer) and layer.requires_grad:
                raise NotImplementedError(
                    "torch.func.grad, vjp and jacrev of attention are not computed; accepted are"
                    " torch.autograd.grad and .backward()"
                )


def _layers(tensor):
    """The tensor, and what function transforms have wrapped in it, outermost first."""
    while isinstance(tensor, torch.Tensor):
        yield tensor
        wrapped = _functorch.is_functorch_wrapped_tensor(tensor)
        tensor = _functorch.get_unwrapped(tensor) if wrapped else None


def _has_tangent(tensor) -> bool:
    if forward_ad._current_level < 0 or _functorch.is_batchedtensor(tensor):
        return False
    return forward_ad.unpack_dual(tensor).tangent is not None
