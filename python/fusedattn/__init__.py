"""fusedattn: fused attention for CPUs, forward and backward, for torch tensors and NumPy arrays."""

from . import _native
from .acceleration import accelerate_torch, accelerated
from .alibi import Alibi
from .dropout import dropout_mask
from .front import attention
from .mask import Mask, causal, prefix, window
from .merging import merge
from .nsa import nsa_compress

__all__ = [
    "Alibi",
    "Mask",
    "accelerate_torch",
    "accelerated",
    "attention",
    "causal",
    "dropout_mask",
    "merge",
    "nsa_compress",
    "prefix",
    "window",
]
__version__ = _native.version()
