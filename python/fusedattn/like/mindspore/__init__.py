"""The MindSpore door: four functions of `mindspore.ops` that its CPU build has no kernel for.

    from fusedattn.like.mindspore import install
    install()  # mindspore.ops.flash_attention_score and the others are these now
    out = mindspore.ops.flash_attention_score(query, key, value, head_num)

or call them from here, without installing. They take and give `mindspore.Tensor`s of the CPU, read and written
where they lie, in PyNative mode; attention and compression are differentiable under `mindspore.grad` and
`value_and_grad`.
"""

from .attention import flash_attention_score
from .compression import nsa_compress
from .installation import Installation, install
from .ring import ring_attention_update
from .speed_fusion import speed_fusion_attention

__all__ = [
    "Installation",
    "flash_attention_score",
    "install",
    "nsa_compress",
    "ring_attention_update",
    "speed_fusion_attention",
]
