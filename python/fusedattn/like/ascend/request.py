"""All that a call of FlashAttentionScore or of its gradient is asked, under the graph operator's names."""

from typing import NamedTuple

from .operand import Operand
from .registry import INT_MAX


class Request(NamedTuple):
    """A call without addresses; hashable. Tensors are Operands or None, lists are tuples or None.

    Doors read their arguments to these types (int, float, str, tuple of int) before; what the values may be
    is checked in constraints.py. The names are those of the graph operator (registry.py); `door` names the
    row of registry.SPELLINGS whose words the sentences of refusals use.
    """

    query: Operand | None
    key: Operand | None
    value: Operand | None
    head_num: int
    input_layout: str  # BSH, SBH, BSND, BNSD, TND, in upper case
    query_rope: Operand | None = None
    key_rope: Operand | None = None
    real_shift: Operand | None = None  # pse
    drop_mask: Operand | None = None
    atten_mask: Operand | None = None
    sink: Operand | None = None
    prefix: tuple[int, ...] | None = None
    actual_seq_qlen: tuple[int, ...] | None = None  # cumulative, no leading 0
    actual_seq_kvlen: tuple[int, ...] | None = None
    q_start_idx: tuple[int, ...] | None = None
    kv_start_idx: tuple[int, ...] | None = None
    scale_value: float = 1.0
    keep_prob: float = 1.0
    pre_tockens: int = INT_MAX
    next_tockens: int = INT_MAX
    inner_precise: int = 0  # without effect
    sparse_mode: int = 0
    pse_type: int = 1
    softmax_layout: str = (
        ""  # "", or "same_as_input": the memory order of softmax_max and softmax_sum with TND
    )
    generate: bool = (
        False  # keep_prob < 1 without drop_mask: draw the bits from (seed, offset); else nothing is dropped
    )
    drop_always: bool = False  # backward with keep_prob 1: apply drop_mask all the same, as the forward does
    dy: Operand | None = None  # this and the rest: the gradient alone
    softmax_max: Operand | None = None
    softmax_sum: Operand | None = None
    attention_in: Operand | None = None
    needs: tuple[bool, bool, bool] = (True, True, True)  # which of dq, dk, dv are computed
    door: str = "torch_npu"
