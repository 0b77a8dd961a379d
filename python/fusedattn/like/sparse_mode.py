"""Ascend sparse modes 0 to 4: (mode, pre, next) to a Mask, and which tokens the device accepts.

Unlike fusedattn.window(), a mode places its band at the left top (0, 2) or at the right bottom (3, 4) by its
number.
"""

import warnings

from .._native import UNBOUNDED
from ..mask import Band, Mask, causal

INT_MAX, INT_MIN = 2**31 - 1, -(2**31)
COMPRESSED = 2048  # modes 2, 3, 4 take a mask of this size and evaluate their rule whatever it holds


def mask_of(mode: int, pre: int, following: int, lengths: list[tuple[int, int]], packed: bool) -> Mask:
    """The band of a mode, once its tokens are valid for every (q, kv) length. RuntimeError where not."""
    pre, following = _clamped("pre_tockens", pre), _clamped("next_tockens", following)
    check = _check_packed if packed else _check_padded
    for q_len, kv_len in lengths:
        check(mode, pre, following, q_len, kv_len)
    if mode == 0:
        return Mask(top_left=_band(pre, following))
    if mode == 1:
        return Mask()
    if mode == 2:
        return causal(align="top-left")
    if mode == 3:
        return causal()
    return Mask(bottom_right=_band(pre, following))


def _clamped(name: str, token: int) -> int:
    if INT_MIN <= token <= INT_MAX:
        return token
    warnings.warn(f"{name} is {token}; it is clamped to 32 bits", stacklevel=4)
    return max(INT_MIN, min(token, INT_MAX))


def _band(pre: int, following: int) -> Band:
    left, right = (UNBOUNDED if token == INT_MAX else token for token in (pre, following))
    return Band(left, right)


def _check_padded(mode: int, pre: int, following: int, q_len: int, kv_len: int) -> None:
    """The device's rule for modes 0 and 4 outside TND, on the band seen from the left top."""
    if mode not in (0, 4):
        return
    shift = kv_len - q_len if mode == 4 else 0
    left, right = pre - shift, following + shift
    if left < 0 and right < 0:
        fault = "both edges lie beyond the diagonal"
    elif left < 0 and not (right >= -left and -left < kv_len):
        fault = "pre_tockens leaves no column"
    elif right < 0 and not (-right <= left and -right < q_len):
        fault = "next_tockens leaves no column"
    else:
        return
    raise RuntimeError(
        f"pre_tockens is {pre}, next_tockens is {following}: with sparse_mode {mode} and lengths q {q_len},"
        f" kv {kv_len} {fault}; accepted are tokens whose band meets the scores"
    )


def _check_packed(mode: int, pre: int, following: int, q_len: int, kv_len: int) -> None:
    """The device's rule for modes 0, 3 and 4 with TND, sequence by sequence; empty sequences are skipped."""
    if q_len == 0 or kv_len == 0:
        return
    if mode == 0:
        valid = following >= 0 and kv_len + pre >= q_len and (pre >= 0 or following >= -pre)
        accepted = "next_tockens >= 0, kv length + pre_tockens >= q length, pre_tockens + next_tockens >= 0"
    elif mode == 3:
        valid, accepted = q_len <= kv_len, "sequences with q length <= kv length"
    elif mode == 4:
        valid = pre >= 0 and (following >= 0 or pre + following >= 0) and q_len - following <= kv_len
        accepted = "pre_tockens >= 0, pre_tockens + next_tockens >= 0, q length - next_tockens <= kv length"
    else:
        return
    if not valid:
        raise RuntimeError(
            f"pre_tockens is {pre}, next_tockens is {following}: not valid with sparse_mode {mode} and"
            f" a sequence of lengths q {q_len}, kv {kv_len}; accepted are {accepted}"
        )
