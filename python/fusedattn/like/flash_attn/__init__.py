"""flash_attn 2.8.3 on CPUs: its modules and functions under their own names.

    from fusedattn.like.flash_attn import flash_attn_func, flash_attn_with_kvcache
    from fusedattn.like.flash_attn.bert_padding import pad_input, unpad_input

docs/flash_attn.md says what differs.
"""

from .flash_attn_interface import (
    flash_attn_func,
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
    flash_attn_with_kvcache,
)

__all__ = [
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_with_kvcache",
]
__version__ = "2.8.3"  # of the interface
