"""What the Ascend operators RingAttentionUpdate and AttentionUpdate refuse: one table each, for any framework.

A door describes its tensors as Given(shape, dtype) with dtype "float32" and the like, fills an Update or a Lists, and
asks for the first row that is violated:

    update = Update(tensors, lengths, ends, input_layout, input_softmax_layout)
    refusal = first_refusal(RING, update)        # Refusal(id, argument, kind, sentence), or None

and raises what its framework raises: `kind` is "null" (something required is missing, device status 161001), "dtype",
"shape", "layout" or "lengths" (161002), or "size" (561002, with strict=True alone). The sentence names the argument, its
value, and what is accepted. A row (id, argument, kind, violated) is violated where violated(update) gives a sentence, and
may rely on all rows before it. Nothing here imports a framework.
"""

from collections.abc import Callable
from typing import NamedTuple

LANES = 8  # the device keeps each statistic eight times, 32 bytes
LAYOUTS = ("SBH", "TND")
SOFTMAX_LAYOUTS = ("", "SBH", "TND")
STATISTICS = ("prev_softmax_max", "prev_softmax_sum", "cur_softmax_max", "cur_softmax_sum")
TENSORS = ("prev_attn_out", *STATISTICS[:2], "cur_attn_out", *STATISTICS[2:])
SIZES = {"float16": 2, "bfloat16": 2, "float32": 4}
MOST_PARTS = 128
_ON_CHIP = 192 * 1024  # bytes that the device has for the heads of a token


class Given(NamedTuple):
    """A tensor as far as it is checked."""

    shape: tuple[int, ...]
    dtype: str


class Update(NamedTuple):
    """One call of RingAttentionUpdate."""

    tensors: dict[str, Given | None]  # by the names in TENSORS
    actual_seq_qlen: Given | None
    ends: list[int] | None  # its numbers; None: not known yet, and not checked
    input_layout: str
    input_softmax_layout: str = ""
    strict: bool = False  # refuse what the device cannot hold, too

    @property
    def out(self) -> Given:
        return self.tensors["prev_attn_out"]

    @property
    def stats(self) -> Given:
        return self.tensors["prev_softmax_max"]

    @property
    def packed(self) -> bool:
        return self.input_layout == "TND"

    @property
    def in_blocks(self) -> bool:
        """Whether the statistics lie in one block [N, length, 8] per sequence."""
        return self.packed and self.input_softmax_layout != "TND"


class Lists(NamedTuple):
    """One call of AttentionUpdate."""

    lse: list[Given | None]
    local_out: list[Given | None]
    update_type: int
    strict: bool = False


class Row(NamedTuple):
    id: str
    argument: str
    kind: str
    violated: Callable


class Refusal(NamedTuple):
    id: str
    argument: str
    kind: str
    sentence: str


def first_refusal(table, call) -> Refusal | None:
    """The first row of a table that a call violates."""
    for row in table:
        sentence = row.violated(call)
        if sentence is not None:
            return Refusal(row.id, row.argument, row.kind, sentence)
    return None


def _missing(name: str):
    return lambda u: f"{name} is None; accepted is a tensor" if u.tensors[name] is None else None


def _one_of(name: str, accepted):
    def violated(u):
        value = getattr(u, name)
        good = isinstance(value, str) and value in accepted
        return None if good else f"{name} is {value!r}; accepted are {', '.join(map(repr, accepted))}"

    return violated


def _no_lengths(u: Update):
    if u.packed and u.actual_seq_qlen is None:
        return (
            "actual_seq_qlen is None; input_layout 'TND' needs cumulative lengths with a leading 0, an int64 tensor"
        )
    return None


def _dtype(name: str, accepted):
    def violated(u):
        dtype = u.tensors[name].dtype
        wanted = ", ".join(accepted(u))
        return None if dtype in accepted(u) else f"{name} has dtype {dtype}; accepted is {wanted}"

    return violated


def _lengths_dtype(u: Update):
    if not u.packed or u.actual_seq_qlen.dtype == "int64":
        return None
    return f"actual_seq_qlen has dtype {u.actual_seq_qlen.dtype}; accepted is int64"


def _rank(name: str):
    def violated(u):
        shape = u.tensors[name].shape
        form = _form(u, name)
        if len(shape) == form.count(",") + 1:
            return None
        return f"{name} has shape {list(shape)}; accepted with input_layout {u.input_layout!r} is {form}"

    return violated


def _form(u: Update, name: str) -> str:
    if name in STATISTICS:
        return "[T, N, 8]" if u.packed else "[B, N, S, 8]"
    return "[T, N, D]" if u.packed else "[S, B, N * D]"


def _lengths_rank(u: Update):
    if not u.packed or len(u.actual_seq_qlen.shape) == 1:
        return None
    return f"actual_seq_qlen has shape {list(u.actual_seq_qlen.shape)}; accepted is one dimension"


def _lanes(u: Update):
    last = u.stats.shape[-1]
    return (
        None
        if last == LANES
        else f"prev_softmax_max has last dimension {last}; accepted is {LANES}, copies of one number"
    )


def _empty(name: str):
    def violated(u):
        shape = u.tensors[name].shape
        return f"{name} has shape {list(shape)}; accepted are dimensions above 0" if 0 in shape else None

    return violated


def _same_shape(name: str, like: str):
    def violated(u):
        have, want = u.tensors[name].shape, u.tensors[like].shape
        return None if have == want else f"{name} has shape {list(have)}; accepted is {like}'s, {list(want)}"

    return violated


def _agreement(u: Update):
    out, stats = u.out.shape, u.stats.shape
    wanted = out[:2] if u.packed else (out[1], out[0])
    if (stats[:2] if u.packed else (stats[0], stats[2])) == wanted:
        return None
    names = "[T, N, 8]" if u.packed else "[B, N, S, 8]"
    return f"prev_softmax_max has shape {list(stats)}; accepted is {names} beside prev_attn_out of {list(out)}"


def _heads(u: Update):
    if u.packed or u.out.shape[-1] % u.stats.shape[1] == 0:
        return None
    return (
        f"prev_attn_out has last dimension {u.out.shape[-1]}; accepted are multiples of the heads that"
        f" prev_softmax_max has, {u.stats.shape[1]}"
    )


def _ends(u: Update):
    if not u.in_blocks or u.ends is None:
        return None
    tokens, ends = u.out.shape[0], u.ends
    if ends and ends[0] == 0 and ends[-1] == tokens and all(a <= b for a, b in zip(ends, ends[1:])):
        return None
    return f"actual_seq_qlen is {ends}; accepted are numbers from 0 to {tokens}, the tokens, that never decrease"


def _features(u: Update):
    if not (u.strict and u.packed and u.out.shape[-1] % 64):
        return None
    return f"prev_attn_out has head size {u.out.shape[-1]}; accepted with input_layout 'TND' are multiples of 64"


def _on_chip(u: Update):
    if not (u.strict and u.packed):
        return None
    _, heads, dim = u.out.shape
    needed = _up(heads * dim) * (6 * SIZES[u.out.dtype] + 8) + _up(heads * LANES) * 56
    if needed <= _ON_CHIP:
        return None
    return (
        f"prev_attn_out has {heads} heads of {dim}, which take {needed} bytes on the device; accepted are at most"
        f" {_ON_CHIP}"
    )


def _up(count: int) -> int:
    return -(-count // 64) * 64


RING = (
    *(Row(f"null.{name}", name, "null", _missing(name)) for name in TENSORS),
    Row("layout", "input_layout", "layout", _one_of("input_layout", LAYOUTS)),
    Row("layout.softmax", "input_softmax_layout", "layout", _one_of("input_softmax_layout", SOFTMAX_LAYOUTS)),
    Row("null.actual_seq_qlen", "actual_seq_qlen", "null", _no_lengths),
    Row("dtype.prev_attn_out", "prev_attn_out", "dtype", _dtype("prev_attn_out", lambda u: tuple(SIZES))),
    Row("dtype.cur_attn_out", "cur_attn_out", "dtype", _dtype("cur_attn_out", lambda u: (u.out.dtype,))),
    *(Row(f"dtype.{name}", name, "dtype", _dtype(name, lambda u: ("float32",))) for name in STATISTICS),
    Row("dtype.actual_seq_qlen", "actual_seq_qlen", "dtype", _lengths_dtype),
    *(Row(f"rank.{name}", name, "shape", _rank(name)) for name in TENSORS),
    Row("rank.actual_seq_qlen", "actual_seq_qlen", "shape", _lengths_rank),
    Row("lanes", "prev_softmax_max", "shape", _lanes),
    Row("empty.prev_attn_out", "prev_attn_out", "shape", _empty("prev_attn_out")),
    Row("empty.prev_softmax_max", "prev_softmax_max", "shape", _empty("prev_softmax_max")),
    Row("same.cur_attn_out", "cur_attn_out", "shape", _same_shape("cur_attn_out", "prev_attn_out")),
    *(Row(f"same.{name}", name, "shape", _same_shape(name, STATISTICS[0])) for name in STATISTICS[1:]),
    Row("agree", "prev_softmax_max", "shape", _agreement),
    Row("heads", "prev_attn_out", "shape", _heads),
    Row("lengths", "actual_seq_qlen", "lengths", _ends),
    Row("strict.features", "prev_attn_out", "size", _features),
    Row("strict.size", "prev_attn_out", "size", _on_chip),
)


def _first(items, bad) -> int | None:
    return next((index for index, item in enumerate(items) if bad(item)), None)


def _list(name: str, bad, sentence):
    """A row's condition on every entry of a list: bad(call, entry) and what to say of the first."""

    def violated(call):
        entries = getattr(call, name)
        index = _first(entries, lambda entry: bad(call, entry))
        return None if index is None else f"{name}[{index}] {sentence(call, entries[index])}"

    return violated


def _count(call: Lists):
    if 1 <= len(call.lse) <= MOST_PARTS:
        return None
    return f"lse has {len(call.lse)} entries; accepted are 1 to {MOST_PARTS}"


def _pairs(call: Lists):
    if len(call.local_out) == len(call.lse):
        return None
    return f"local_out has {len(call.local_out)} entries; accepted are as many as lse has, {len(call.lse)}"


def _type(call: Lists):
    value = call.update_type
    good = isinstance(value, int) and not isinstance(value, bool) and value in (0, 1)
    return None if good else f"update_type is {value!r}; accepted are 0 (out alone) and 1 (out and lse)"


def _strict_width(call: Lists):
    width = call.local_out[0].shape[1]
    if not call.strict or (width % 8 == 0 and 8 <= width <= 512):
        return None
    return f"local_out[0] has {width} features; accepted are multiples of 8 from 8 to 512"


def _shape_list(call, entry) -> str:
    return str(list(entry.shape))


LISTS = (
    Row("null.lse", "lse", "null", _list("lse", lambda c, e: e is None, lambda c, e: "is None; accepted is a tensor")),
    Row(
        "null.local_out",
        "local_out",
        "null",
        _list("local_out", lambda c, e: e is None, lambda c, e: "is None; accepted is a tensor"),
    ),
    Row("type", "update_type", "layout", _type),
    Row("count", "lse", "shape", _count),
    Row("pairs", "local_out", "shape", _pairs),
    Row(
        "dtype.lse",
        "lse",
        "dtype",
        _list(
            "lse", lambda c, e: e.dtype != "float32", lambda c, e: f"has dtype {e.dtype}; accepted is float32"
        ),
    ),
    Row(
        "dtype.local_out",
        "local_out",
        "dtype",
        _list(
            "local_out",
            lambda c, e: e.dtype not in SIZES or e.dtype != c.local_out[0].dtype,
            lambda c, e: f"has dtype {e.dtype}; accepted is one of {', '.join(SIZES)} for all",
        ),
    ),
    Row(
        "rank.lse",
        "lse",
        "shape",
        _list("lse", lambda c, e: len(e.shape) != 1, lambda c, e: f"has shape {_shape_list(c, e)}; accepted is [R]"),
    ),
    Row(
        "rank.local_out",
        "local_out",
        "shape",
        _list(
            "local_out",
            lambda c, e: len(e.shape) != 2 or e.shape[1] == 0,
            lambda c, e: f"has shape {_shape_list(c, e)}; accepted is [R, D], D above 0",
        ),
    ),
    Row(
        "same.lse",
        "lse",
        "shape",
        _list(
            "lse",
            lambda c, e: e.shape != c.lse[0].shape,
            lambda c, e: f"has shape {_shape_list(c, e)}; accepted is lse[0]'s, {list(c.lse[0].shape)}",
        ),
    ),
    Row(
        "same.local_out",
        "local_out",
        "shape",
        _list(
            "local_out",
            lambda c, e: e.shape != (*c.lse[0].shape, c.local_out[0].shape[1]),
            lambda c, e: (
                f"has shape {_shape_list(c, e)}; accepted is [R, D] with lse's R = {c.lse[0].shape[0]} and one D"
            ),
        ),
    ),
    Row("strict.features", "local_out", "size", _strict_width),
)
