"""What ring_attention_update refuses, in order: one table."""

from typing import NamedTuple

import mindspore
from mindspore import Tensor

from .tensors import dtype_name

STATISTICS = ("prev_softmax_max", "prev_softmax_sum", "cur_softmax_max", "cur_softmax_sum")
OUTPUTS = ("prev_attn_out", "cur_attn_out")
LAYOUTS = ("SBH", "TND")
LANES = 8
_SIZES = {"float16": 2, "bfloat16": 2, "float32": 4}
_BUFFER = 192 * 1024  # bytes that the device has for the heads of a token


class Update(NamedTuple):
    """The arguments of one call: six tensors by name, the list or None, the layout."""

    tensors: dict[str, Tensor]
    actual_seq_qlen: Tensor | None
    layout: str

    @property
    def out(self) -> Tensor:
        return self.tensors["prev_attn_out"]

    @property
    def packed(self) -> bool:
        return self.layout == "TND"

    @property
    def heads(self) -> int:
        return self.tensors["prev_softmax_max"].shape[1]

    @property
    def ends(self) -> list[int]:
        return self.actual_seq_qlen.asnumpy().tolist()


def _shape(name: str, tensor: Tensor) -> str:
    return f"{name} has shape {list(tensor.shape)}"


def _list(u: Update) -> str | None:
    given = u.actual_seq_qlen
    if given is None or (isinstance(given, Tensor) and given.dtype == mindspore.int64):
        return None
    kind = f"has dtype {dtype_name(given)}" if isinstance(given, Tensor) else f"is a {type(given).__name__}"
    return f"actual_seq_qlen {kind}"


def _layout_type(u: Update) -> str | None:
    return None if isinstance(u.layout, str) else f"layout is {u.layout!r}"


def _layout(u: Update) -> str | None:
    return None if u.layout in LAYOUTS else f"layout is {u.layout!r}"


def _out_dtype(u: Update) -> str | None:
    dtype = dtype_name(u.out)
    return None if dtype in _SIZES else f"prev_attn_out has dtype {dtype}"


def _same_dtype(u: Update) -> str | None:
    dtypes = [dtype_name(u.tensors[name]) for name in OUTPUTS]
    return (
        None if dtypes[0] == dtypes[1] else f"cur_attn_out has dtype {dtypes[1]}, prev_attn_out {dtypes[0]}"
    )


def _statistics_dtype(u: Update) -> str | None:
    for name in STATISTICS:
        if u.tensors[name].dtype != mindspore.float32:
            return f"{name} has dtype {dtype_name(u.tensors[name])}"
    return None


def _ranks(u: Update) -> str | None:
    wanted = dict.fromkeys(OUTPUTS, 3) | dict.fromkeys(STATISTICS, 3 if u.packed else 4)
    wrong = [name for name, rank in wanted.items() if u.tensors[name].ndim != rank]
    return f"{_shape(wrong[0], u.tensors[wrong[0]])} with layout {u.layout}" if wrong else None


def _pairs(u: Update) -> str | None:
    for name, like in (("cur_attn_out", "prev_attn_out"), *((name, STATISTICS[0]) for name in STATISTICS)):
        if u.tensors[name].shape != u.tensors[like].shape:
            return f"{_shape(name, u.tensors[name])}, {_shape(like, u.tensors[like])}"
    return None


def _lanes(u: Update) -> str | None:
    statistic = u.tensors[STATISTICS[0]]
    return None if statistic.shape[-1] == LANES else _shape(STATISTICS[0], statistic)


def _agreement(u: Update) -> str | None:
    statistic, shape = u.tensors[STATISTICS[0]], u.out.shape
    if u.packed:
        agree = statistic.shape[:2] == shape[:2]
    else:
        batch, heads, rows, _ = statistic.shape
        agree = (rows, batch) == tuple(shape[:2]) and heads and shape[2] % heads == 0
    return None if agree else f"{_shape('prev_attn_out', u.out)}, {_shape(STATISTICS[0], statistic)}"


def _empty(u: Update) -> str | None:
    return _shape("prev_attn_out", u.out) if 0 in u.out.shape else None


def _features(u: Update) -> str | None:
    return f"prev_attn_out has head size {u.out.shape[-1]}" if u.packed and u.out.shape[-1] % 64 else None


def _missing(u: Update) -> str | None:
    return "actual_seq_qlen is None with layout TND" if u.packed and u.actual_seq_qlen is None else None


def _rising(u: Update) -> str | None:
    if not u.packed:
        return None
    if u.actual_seq_qlen.ndim != 1 or u.actual_seq_qlen.shape[0] == 0:
        return _shape("actual_seq_qlen", u.actual_seq_qlen)
    ends = u.ends
    good = ends[0] == 0 and ends == sorted(ends) and ends[-1] == u.out.shape[0]
    return None if good else f"actual_seq_qlen is {ends} for {u.out.shape[0]} tokens"


def _size(u: Update) -> str | None:
    if not u.packed:
        return None
    _, heads, dim = u.out.shape
    bytes_needed = _aligned(heads * dim) * (6 * _SIZES[dtype_name(u.out)] + 8) + _aligned(heads * 8) * 56
    return (
        f"{_shape('prev_attn_out', u.out)}, which takes {bytes_needed} bytes"
        if bytes_needed > _BUFFER
        else None
    )


def _aligned(count: int) -> int:
    return -(-count // 64) * 64


ROWS = (
    (TypeError, "None or an int64 Tensor", _list),
    (TypeError, "a str", _layout_type),
    (ValueError, "SBH, TND", _layout),
    (TypeError, "float16, bfloat16, float32", _out_dtype),
    (TypeError, "equal dtypes", _same_dtype),
    (TypeError, "float32", _statistics_dtype),
    (ValueError, "SBH: outputs of 3 and statistics of 4 dimensions; TND: 3 and 3", _ranks),
    (ValueError, "equal shapes", _pairs),
    (ValueError, "a last dimension of 8", _lanes),
    (ValueError, "SBH: [S, B, N * D] and [B, N, S, 8]; TND: [T, N, D] and [T, N, 8]", _agreement),
    (RuntimeError, "dimensions above 0", _empty),
    (RuntimeError, "multiples of 64 with layout TND", _features),
    (RuntimeError, "where each sequence begins, and T", _missing),
    (RuntimeError, "one dimension from 0 to T, not decreasing", _rising),
    (RuntimeError, f"at most {_BUFFER} bytes for the heads of a token", _size),
)


def check(update: Update) -> None:
    """Raises the exception of the first row that is violated."""
    for exception, accepted, violated in ROWS:
        sentence = violated(update)
        if sentence is not None:
            raise exception(f"{sentence}; accepted: {accepted}")
