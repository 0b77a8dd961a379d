"""What few calls ask for: a soft cap, a bias, ALiBi, a sink, dropout, a prefix. Read, checked, laid into a call."""

from __future__ import annotations

from typing import NamedTuple

from . import _native
from . import layout as layouts
from .alibi import Alibi
from .dropout import keep_probability, read_stream
from .numerals import real
from .problem import Call, Operand, check_broadcast

BIAS_DTYPES = {"float32": _native.FLOAT32, "bfloat16": _native.BFLOAT16, "float16": _native.FLOAT16}


class Extras(NamedTuple):
    """The trailing arguments of the torch operators, in their order; tensors or arrays, whichever q is.

    read() leaves prefix and stream as Python numbers, which the doors turn into tensors or arrays.
    """

    bias: object = None  # broadcasts to the scores
    slopes: object = None  # float32 [N] or [B, N]
    sink: object = None  # float32 [N]
    prefix: object = None  # int64 [B]
    stream: object = None  # of the dropout, int64 [2]: seed and offset
    alibi_bottom_right: bool = True
    alibi_square_root: bool = False
    keep_prob: float = 1.0
    softcap: float = 0.0

    def ask_for_nothing(self) -> bool:
        return all(t is None for t in self[:5]) and self.keep_prob == 1.0 and self.softcap == 0.0


def read(bias, alibi, sink, prefix, dropout_p, dropout_seed, softcap) -> Extras | None:
    """The extras of a call of attention(), None where nothing is asked for. A stream None is to be drawn."""
    keep_prob = keep_probability(dropout_p)
    stream = None if dropout_seed is None else read_stream(dropout_seed)
    if keep_prob == 1.0:
        stream = None
    asked = Extras(bias, None, sink, prefix, stream, keep_prob=keep_prob, softcap=read_softcap(softcap))
    if alibi is None:
        return None if asked.ask_for_nothing() else asked
    if not isinstance(alibi, Alibi):
        alibi = Alibi(alibi)
    bottom_right = alibi.align == "bottom-right"
    return asked._replace(
        slopes=alibi.slopes, alibi_bottom_right=bottom_right, alibi_square_root=alibi.square_root
    )


def read_softcap(softcap) -> float:
    """A soft cap: 0 (none), or a number in the reach of the library. TypeError or ValueError."""
    cap = real("softcap", softcap)
    if cap != 0.0 and not 1e-18 <= cap <= 1e18:
        raise ValueError(f"softcap is {softcap!r}; accepted are 0 (none) and numbers from 1e-18 to 1e18")
    return cap


def check_shapes(layout: str, extras: Extras, scores, sequences: int) -> None:
    """Refuses shapes and dtypes that do not fit scores [B,N,Sq,Skv] (packed: of the packed tensors)."""
    _check_dtypes(extras)
    heads = scores[1]
    if extras.bias is not None:
        check_broadcast("bias", layout, extras.bias.shape, scores)
    wanted = {
        "alibi": (extras.slopes, ((heads,), (sequences, heads))),
        "sink": (extras.sink, ((heads,),)),
        "prefix": (extras.prefix, ((sequences,),)),
        "dropout_seed": (extras.stream, ((2,),)),
    }
    for name, (tensor, accepted) in wanted.items():
        if tensor is not None and tuple(tensor.shape) not in accepted:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; accepted is {' or '.join(map(str, accepted))}, for"
                f" {sequences} sequences and {heads} heads"
            )
    if extras.keep_prob != 1.0 and extras.stream is None:
        raise ValueError(f"keep_prob is {extras.keep_prob} without a seed; accepted are both, or keep_prob 1")


def _check_dtypes(extras: Extras) -> None:
    single, integer = ("float32",), ("int64",)
    wanted = {
        "bias": (extras.bias, tuple(BIAS_DTYPES)),
        "alibi": (extras.slopes, single),
        "sink": (extras.sink, single),
        "prefix": (extras.prefix, integer),
        "dropout_seed": (extras.stream, integer),
    }
    for name, (tensor, accepted) in wanted.items():
        if tensor is not None and _dtype(tensor) not in accepted:
            raise ValueError(f"{name} has dtype {tensor.dtype}; accepted is {' or '.join(accepted)}")


def _dtype(tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def lay(call: Call, layout: str, extras: Extras, operand) -> None:
    """Fills a call but for addresses and seeds. operand: from a tensor or array to its Operand."""
    problem = call.problem
    check_shapes(layout, extras, call.scores, problem.batch)
    if extras.bias is not None:
        problem.bias.dtype = BIAS_DTYPES[_dtype(extras.bias)]
        _give_strides(problem.bias, operand(extras.bias))
        shape = tuple(extras.bias.shape)
        _give_strides(problem.d_bias, Operand(shape, layouts.contiguous(shape)))
    if extras.slopes is not None:
        batch, head = (0, *operand(extras.slopes).stride)[-2:]
        problem.alibi.batch_stride, problem.alibi.head_stride = batch, head
        problem.alibi.bottom_right = extras.alibi_bottom_right
        problem.alibi.square_root = extras.alibi_square_root
    problem.dropout.keep_prob, problem.softcap = extras.keep_prob, extras.softcap


def _give_strides(view, tensor: Operand) -> None:
    view.batch_stride, view.head_stride, view.row_stride = tensor.repeating()


def point(call: Call, extras: Extras, address) -> None:
    """Gives a call the addresses of its extras, whose sink and prefix are contiguous, and its seed."""
    problem = call.problem
    if extras.bias is not None:
        problem.bias.data = address(extras.bias)
    if extras.slopes is not None:
        problem.alibi.slopes = address(extras.slopes)
    if extras.sink is not None:
        problem.sink = address(extras.sink)
    if extras.prefix is not None:
        problem.mask.prefix = address(extras.prefix)
    if extras.stream is not None:
        problem.dropout.seed, problem.dropout.offset = (number % 2**64 for number in extras.stream.tolist())
