"""fusedattn: fused attention for CPUs, forward and backward, for torch tensors and NumPy arrays."""

from . import _native
from .front import attention
from .mask import Mask, causal, window
from .merging import merge

__all__ = ["Mask", "attention", "causal", "merge", "window"]
__version__ = _native.version()
