"""One call of torch_npu's attention functions: its arguments as the operator takes them, and how to run it."""

from typing import NamedTuple

import torch

from . import torch_npu_arguments as arguments
from . import torch_npu_ops as ops
from . import torch_npu_score as score
from .ascend.facts import rising
from .torch_npu_score import Ends, Inputs, Saved, Terms

MOST_TOKENS = 1_000_000  # what npu_fusion_attention_v2 takes as a cumulative length

# npu_fusion_attention_v2 and its gradient pass softmax_layout "TND" on only with a sink, as on the device;
# else the statistics are blockwise. True honours the request in both.
V2_HONOURS_SOFTMAX_LAYOUT = False


class Call(NamedTuple):
    """A call whose arguments have been read. ends: tuples, tensors whose numbers are not known yet, or None."""

    function: str
    inputs: Inputs
    terms: Terms
    ends: tuple

    def known(self) -> bool:
        """Whether it can run at once: ordinary tensors of the CPU, and lists."""
        return ops.nobody_looks_on(self.inputs) and not any(
            isinstance(end, torch.Tensor) for end in self.ends
        )

    def end_tensors(self):
        return tuple(ops.int64(end, self.inputs.query.device) for end in self.ends)

    def numels(self) -> int:
        """The number of scores."""
        layout, query, key = self.terms.input_layout, self.inputs.query.shape, self.inputs.key.shape
        heads = self.terms.head_num
        if layout == "TND":
            rows, columns = ((0, *rising(end)) for end in self.ends)
            pairs = zip(rows, rows[1:], columns, columns[1:])
            return heads * sum((q_end - q) * (kv_end - kv) for q, q_end, kv, kv_end in pairs)
        batch, rows = {"SBH": (1, 0), "BNSD": (0, 2)}.get(layout, (0, 1))
        return query[batch] * heads * query[rows] * key[rows]


def read(
    function: str,
    version: int,
    inputs: Inputs,
    head_num,
    input_layout,
    words: dict,
    saved: dict | None = None,
) -> Call:
    """The call that these arguments describe; RuntimeError for what torch_npu itself refuses.

    words: every other argument by the function's own name for it. saved: dy and what the gradient takes
        besides.
    """
    layout = arguments.check_layouts(function, input_layout, words["softmax_layout"])
    _check_tensors(function, inputs, saved or {}, words)
    scale = "scale" if "scale" in words else "scale_value"
    scale_value, keep_prob = arguments.reals(function, **{name: words[name] for name in (scale, "keep_prob")})
    tokens = ("pre_tokens", "next_tokens") if version == 2 else ("pre_tockens", "next_tockens")
    numbers = {name: words[name] for name in (*tokens, "inner_precise", "sparse_mode")}
    head_num, pre, following, inner_precise, sparse_mode, pse_type = arguments.numbers(
        function, head_num=head_num, **numbers, pse_type=words.get("pse_type", 1)
    )
    arguments.check_numbers(function, layout, head_num, keep_prob, sparse_mode)
    terms = Terms(
        head_num,
        layout,
        scale_value,
        keep_prob,
        pre,
        following,
        inner_precise,
        sparse_mode,
        pse_type,
        _statistics_layout(version, words["softmax_layout"], inputs.sink is not None),
        arguments.signed(function, "prefix", words["prefix"]),
        arguments.signed(function, "q_start_idx", words.get("q_start_idx")),
        arguments.signed(function, "kv_start_idx", words.get("kv_start_idx")),
        saved is None,
        version,
    )
    return Call(function, inputs, terms, _ends(function, version, layout, words))


def _check_tensors(function: str, inputs: Inputs, saved: dict, words: dict) -> None:
    names = {"real_shift": "pse", "drop_mask": "dropout_mask"}
    optional = {names.get(name, name): tensor for name, tensor in inputs._asdict().items()}
    needed = {name: optional.pop(name) for name in ("query", "key", "value")}
    if saved:
        needed["dy"] = saved["dy"]
        optional |= {name: tensor for name, tensor in saved.items() if name != "dy"}
    for name in Ends._fields:
        if isinstance(words[name], torch.Tensor):
            optional[name] = words[name]
    arguments.check_tensors(function, needed, optional)
    ropes = {name: optional[name] for name in ("query_rope", "key_rope")}
    arguments.check_ranks(function, **needed, **ropes)


def _statistics_layout(version: int, softmax_layout: str, sink: bool) -> str:
    honoured = version != 2 or sink or V2_HONOURS_SOFTMAX_LAYOUT
    return "same_as_input" if softmax_layout == "TND" and honoured else ""


def _ends(function: str, version: int, layout: str, words: dict) -> tuple:
    ends = {}
    for name in Ends._fields:
        given = words[name]
        unknown = isinstance(given, torch.Tensor) and not (ops.nobody_watches((given,)) and given.is_cpu)
        ends[name] = given if unknown else arguments.listed(function, name, given)
    if not any(isinstance(end, torch.Tensor) for end in ends.values()):
        arguments.check_sequences(function, layout, MOST_TOKENS if version == 2 else None, **ends)
    return tuple(ends.values())


def forward_with_integers(call: Call, seed, offset):
    """The seven results of npu_fusion_attention and _v2."""
    inputs, terms, function = call.inputs, call.terms, call.function
    seed, offset = arguments.numbers(function, seed=seed, offset=offset)
    drawn = ops.drops(inputs, terms) and seed == 0 and offset == 0
    known, device = call.known(), inputs.query.device
    if drawn and (known or device.type == "meta"):
        seed, drawn = int(ops.draw_seed("cpu")), False
    if known:
        outputs = ops.eager_forward(inputs, Ends(*call.ends), terms, seed, offset)
    else:
        for name, ends in zip(Ends._fields, call.ends):
            arguments.check_holds_numbers(function, name, ends)
        given = ops.draw_seed(device) if drawn else ops.int64(seed, device)
        start = ops.int64(offset, device)
        *outputs, _, _ = ops.watched_forward(inputs, call.end_tensors(), terms, given, start)
        seed = _drawn_integer(function, given) if drawn else seed
    return *outputs, inputs.query.new_empty(0), seed, offset, call.numels()


def _drawn_integer(function: str, seed: torch.Tensor) -> int:
    if not torch.compiler.is_compiling() and torch._C._functorch.is_batchedtensor(seed):
        arguments.fail(
            function,
            "seed is drawn for each sample with torch.vmap's randomness 'different', but returned as one"
            " integer; accepted: randomness 'same', a seed, or npu_fusion_attention_v3",
        )
    return int(seed.item())


def forward_with_tensors(call: Call):
    """The six results of npu_fusion_attention_v3."""
    inputs, terms = call.inputs, call.terms
    if call.known():
        seed = int(ops.draw_seed("cpu")) if ops.drops(inputs, terms) else 0
        outputs = ops.eager_forward(inputs, Ends(*call.ends), terms, seed, 0)
        numbers = ops.int64(seed, "cpu"), ops.int64(0, "cpu")
    else:
        drawn = ops.draw_seed(inputs.query.device) if ops.drops(inputs, terms) else None
        *outputs, seed, offset = ops.watched_forward(inputs, call.end_tensors(), terms, drawn, None)
        numbers = seed, offset
    return *outputs, inputs.query.new_empty(0), *numbers


def backward(call: Call, saved: Saved, seed, offset):
    """(dq, dk, dv, dq_rope, dk_rope, dsink), None where there is none; seed, offset: integers or tensors."""
    needs = (True, True, True)
    numbers = (seed, offset)
    if call.known() and ops.nobody_looks_on((*saved, *(n for n in numbers if isinstance(n, torch.Tensor)))):
        with torch.no_grad():
            return score.backward(
                call.inputs, saved, Ends(*call.ends), call.terms, needs, int(seed), int(offset)
            )
    tensors = [ops.int64(n, call.inputs.query.device) for n in numbers]
    given = (True, True, True, *(call.inputs[i] is not None for i in (3, 4, 8)))
    gradients = torch.ops.fusedattn.npu_score_grad(
        *call.inputs, *saved, *call.end_tensors(), *tensors, *call.terms, list(needs)
    )
    return tuple(gradient if there else None for gradient, there in zip(gradients, given))
