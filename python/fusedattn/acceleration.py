"""accelerate_torch(): torch's scaled_dot_product_attention on fusedattn, for as long as a handle lives."""

from __future__ import annotations

import contextlib
import warnings

from .installations import Handle, Installation


class Acceleration(Handle):
    """What accelerate_torch() returns: undo() gives torch its own back, as does leaving a with block."""

    def __repr__(self) -> str:
        return f"<torch's attention {'runs on fusedattn' if self.holds else 'as before'}>"


def accelerate_torch() -> Acceleration:
    """From now on every scaled_dot_product_attention on CPU tensors runs on fusedattn, forward and backward.

    Whoever calls it: nn.MultiheadAttention, nn.Transformer, models of Hugging Face with attn_implementation
    "sdpa", compiled graphs, C++. float32, bfloat16 and float16; what fusedattn.like.sdpa refuses goes to torch's
    own function as before, and FUSEDATTN_VERBOSE=1 says on stderr why. So does everything while
    torch.nn.attention.sdpa_kernel switches flash attention off.

    It holds for the whole process, all threads: until undo() of the handle returned, or the end of
    `with accelerate_torch():`. Calls may nest; torch is as it was, to the pointer, when the last handle is undone.

    Raises RuntimeError where this torch has other operators than those of torch 2.13, which are replaced;
    ImportError without torch. Warns if another package has replaced them already: its kernels then answer for
    what is left to torch.
    """
    return Acceleration(_replaced)


@contextlib.contextmanager
def accelerated():
    """accelerate_torch() for a with block, or as a decorator for the calls of a function."""
    with accelerate_torch() as handle:
        yield handle


class _Replaced:
    """Two kernels in torch's dispatcher, one function in torch.nn.functional, one name for TorchScript."""

    def __init__(self):
        import torch

        from .like import sdpa_entry, sdpa_kernels

        _check_operators(sdpa_kernels.SCHEMAS)
        self._functional, self.on = torch.nn.functional, True
        self._original = torch.nn.functional.scaled_dot_product_attention
        kernels = sdpa_kernels.kernels(sdpa_entry.tell)
        self._library = torch.library.Library("aten", "IMPL")
        try:
            with _quiet_override(kernels):
                for name, kernel in kernels.items():
                    self._library.impl(name.removeprefix("aten::"), kernel, "CPU", allow_override=True)
        except BaseException:
            self._library._destroy()
            raise
        self._entry = sdpa_entry.entry(self._original, self)
        self._scripted = torch.jit._builtins._get_builtin_table()
        self._scripted[id(self._entry)] = "aten::scaled_dot_product_attention"
        torch.nn.functional.scaled_dot_product_attention = self._entry

    def remove(self) -> None:
        """torch as it was. An entry that someone kept, or wrapped, only calls torch's function from now on."""
        self.on = False
        if self._functional.scaled_dot_product_attention is self._entry:
            self._functional.scaled_dot_product_attention = self._original
        del self._scripted[id(self._entry)]
        self._library._destroy()


_replaced = Installation(_Replaced)


def _check_operators(schemas) -> None:
    """Refuses a torch whose operators take other arguments."""
    import torch

    if not hasattr(torch.library, "get_kernel"):
        raise RuntimeError(
            f"torch {torch.__version__} has no torch.library.get_kernel, without which its kernels cannot be"
            " kept; accepted is torch 2.13"
        )
    known = {schema.name: str(schema) for schema in torch._C._jit_get_all_schemas()}
    for name, wanted in schemas.items():
        if known.get(name) != wanted:
            raise RuntimeError(
                f"torch {torch.__version__} has {known.get(name, f'no {name}')}; accepted is torch 2.13's {wanted}"
            )


@contextlib.contextmanager
def _quiet_override(names):
    """Without torch's warning that its own kernels are replaced, which is what was asked for."""
    import torch

    for name in names:
        found = repr(torch.library.get_kernel(name, "CPU"))
        if "RegisterCPU" not in found:
            warnings.warn(
                f"{name} has been replaced before: {found}; fusedattn now stands in front", stacklevel=7
            )
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # else torch would hold its one warning about overriding for given
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="(?s).*Overriding a previously registered kernel")
            yield
    finally:
        torch.set_warn_always(always)
