"""Positional shift of the scores: pse types 0 to 3 as a bias or as ALiBi.

    type 0: scale * s + pse          type 2: scale * s - slope * |d|
    type 1: scale * (s + pse)        type 3: scale * s - slope * sqrt|d|        d = column + kv_start - row -
        q_start

A tensor of 1024 rows for longer sequences is a compressed ALiBi: the last rows of a bias that depends on
column - row alone. Its last row holds every distance that a causal mask shows, from the last column (0)
backwards; a bias of row stride -1 whose first element is that last one reads it.
"""

from ... import _native
from .facts import Facts

FULL, ROWS, LAST_ROWS, PACKED = "full", "one row", "last 1024 rows", "packed"
SUPPLIED = 1024
_DTYPES = {"float32": _native.FLOAT32, "bfloat16": _native.BFLOAT16, "float16": _native.FLOAT16}
_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


def form_of(f: Facts) -> str | None:
    """How an outer pse lies in memory; None for a shape that no form has. Preconditions are not looked at."""
    shape = f.request.real_shift.shape
    if f.packed:
        return _packed_form(f, shape)
    if len(shape) != 4 or shape[1] != f.N1 or shape[3] != f.Skv or shape[0] not in (1, f.B):
        return None
    if shape[2] == f.Sq:
        return FULL
    if shape[2] == 1 and shape[0] == f.B:
        return ROWS
    return LAST_ROWS if shape[2] == SUPPLIED else None


def _packed_form(f: Facts, shape: tuple[int, ...]) -> str | None:
    if len(shape) == 4 and shape[1:3] == (f.N1, SUPPLIED):
        return LAST_ROWS if shape[0] in (1, f.B) and shape[3] == f.longest[1] else None
    if not shape or f.request.real_shift.size != shape[0]:
        return None
    if shape[0] == f.numels:
        return FULL
    return ROWS if shape[0] == f.N1 * f.totals[1] else None


def fill_pse(problem: _native.Problem, f: Facts) -> int:
    """Writes bias or alibi but for the address; returns the bytes by which that lies past the tensor's."""
    if f.request.real_shift is None:
        return 0
    if f.inner_pse:
        _fill_alibi(problem.alibi, f)
        return 0
    bias, operand = problem.bias, f.request.real_shift
    bias.dtype, bias.before_scale = _DTYPES[operand.dtype], int(f.request.pse_type == 1)
    form = form_of(f)
    if f.packed and form != LAST_ROWS:
        bias.blocks, bias.row_stride = 1, int(form == FULL)
        return 0
    batch, head, row, _ = operand.strides
    bias.batch_stride, bias.head_stride = 0 if operand.shape[0] == 1 else batch, head
    if form == LAST_ROWS:
        bias.row_stride = -1
        return _SIZES[operand.dtype] * ((SUPPLIED - 1) * row + operand.shape[3] - 1)
    bias.row_stride = row if form == FULL else 0
    return 0


def _fill_alibi(alibi: _native.Alibi, f: Facts) -> None:
    request = f.request
    per_sequence = len(request.real_shift.shape) == 2
    alibi.batch_stride, alibi.head_stride = f.N1 if per_sequence else 0, 1
    alibi.square_root = int(request.pse_type == 3)
    alibi.q_start, alibi.kv_start = starts(f)
    alibi.first_sequence = int(f.packed and f.mode == 8)


def starts(f: Facts) -> tuple[int, int]:
    """Element 0 of both lists; zeros unless both are given."""
    q, kv = f.request.q_start_idx, f.request.kv_start_idx
    return (q[0], kv[0]) if q and kv else (0, 0)
