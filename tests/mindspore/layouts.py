"""MindSpore tensors in every layout from NumPy arrays in [B, N, S, D], and back."""

import mindspore
import numpy as np
from mindspore import Tensor

DTYPES = {"float16": mindspore.float16, "bfloat16": mindspore.bfloat16, "float32": mindspore.float32}
LAYOUTS = ("BSH", "SBH", "BSND", "BNSD")


def tensor(array, dtype="float32"):
    """A Tensor of a floating type."""
    return Tensor(np.ascontiguousarray(array, dtype=np.float32)).astype(DTYPES[dtype])


def array(given):
    """The float64 array of a Tensor."""
    return given.astype(mindspore.float32).asnumpy().astype(np.float64)


def rounded(value, dtype):
    """The values that a type holds of an array."""
    return array(tensor(value, dtype))


def folded(bnsd, layout):
    """[B, N, S, D] in a layout."""
    batch, heads, rows, dim = bnsd.shape
    if layout == "BNSD":
        return bnsd
    if layout == "BSND":
        return bnsd.transpose(0, 2, 1, 3)
    if layout == "BSH":
        return bnsd.transpose(0, 2, 1, 3).reshape(batch, rows, heads * dim)
    return bnsd.transpose(2, 0, 1, 3).reshape(rows, batch, heads * dim)


def packed(sequences):
    """[T, N, D] of a list of [1, N, S, D]."""
    return np.concatenate([one[0].transpose(1, 0, 2) for one in sequences])


def draw(*shape, dtype="float32"):
    """Uniform in [-1, 1], as a type holds it, float64."""
    return rounded(np.random.uniform(-1, 1, shape), dtype)
