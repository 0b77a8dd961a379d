"""The limits of NsaCompress and NsaCompressGrad: a case per row of the table, and torch_npu's door."""

import inspect
import re
from pathlib import Path

import numpy
import pytest
import torch
from fusedattn.like.nsa_checks import LIMITS, Call, Seen, first_refusal
from fusedattn.like.torch_npu_nsa import npu_nsa_compress, npu_nsa_compress_grad


def call(**change):
    """A call that nothing refuses, but for what is changed."""
    change = dict(change)
    tensors = {"input": Seen((64, 4, 32), "float16"), "weight": Seen((32, 4), "float16")}
    if "grad" in change:
        tensors = {"grad": Seen((2, 4, 32), "float16"), **tensors}
    for name in list(change):
        if name in ("grad", "input", "weight"):
            tensors[name] = change.pop(name)
    arguments = {"compress_block_size": 32, "compress_stride": 32, "actual_seq_len": [64]}
    return Call(tensors, **arguments | change)


def of_heads(heads, dim):
    return {"input": Seen((64, heads, dim), "float16"), "weight": Seen((32, heads), "float16")}


GRAD = Seen((2, 4, 32), "float16")
REFUSED = {  # row: kind, what the sentence has, the change
    "tensors are given": ("null", "weight is None", {"weight": None}),
    "lengths are given": ("null", "actual_seq_len is None", {"actual_seq_len": None}),
    "dtypes are known": ("type", "input has dtype float64", {"input": Seen((64, 4, 32), "float64")}),
    "dtype is the device's": (
        "type",
        "float32",
        {"input": Seen((64, 4, 32), "float32"), "weight": Seen((32, 4), "float32"), "strict": True},
    ),
    "dtypes are equal": ("type", "weight has dtype bfloat16", {"weight": Seen((32, 4), "bfloat16")}),
    "sizes are integers": ("type", "compress_stride is 16.0", {"compress_stride": 16.0}),
    "lengths are a list of integers": (
        "type",
        r"actual_seq_len\[1\] is 64.0",
        {"actual_seq_len": [32, 64.0]},
    ),
    "tensors have their ranks": ("value", "weight has shape", {"weight": Seen((32,), "float16")}),
    "input is not empty": (
        "value",
        "T of at least 1",
        {"input": Seen((0, 4, 32), "float16"), "actual_seq_len": [0]},
    ),
    "block is in range": ("value", "compress_block_size is 144", {"compress_block_size": 144}),
    "block is a multiple": ("value", "compress_block_size is 18", {"compress_block_size": 18}),
    "stride is in range": ("value", "compress_stride is 48", {"compress_stride": 48}),
    "stride is a multiple": ("value", "compress_stride is 31", {"compress_stride": 31}),
    "weight has its shape": ("value", r"weight has shape \[32, 5\]", {"weight": Seen((32, 5), "float16")}),
    "head size is a multiple": ("value", "D = 18", of_heads(4, 18)),
    "head size is the device's": ("value", "D = 272", of_heads(4, 272) | {"strict": True}),
    "heads are the device's": ("value", "N = 129", of_heads(129, 32) | {"strict": True}),
    "there are lengths": ("value", "empty", {"actual_seq_len": []}),
    "lengths are not negative": ("value", r"actual_seq_len\[0\] is -1", {"actual_seq_len": [-1, 64]}),
    "lengths are cumulative": ("value", r"actual_seq_len\[1\] is 16", {"actual_seq_len": [32, 16, 64]}),
    "lengths end with the tokens": ("value", "T = 64", {"actual_seq_len": [32, 60]}),
    "grad has the output's shape": ("value", r"grad has shape \[64", {"grad": Seen((64, 4, 32), "float16")}),
}
MORE = [  # further ways to break a row
    ("block is in range", {"compress_block_size": 7}),
    ("block is in range", {"compress_block_size": 0}),
    ("stride is in range", {"compress_stride": 0}),
    ("stride is in range", {"compress_stride": 10, "compress_block_size": 32}),
    (
        "stride is in range",
        {"compress_stride": 32, "compress_block_size": 16, "weight": Seen((16, 4), "float16")},
    ),
    ("weight has its shape", {"weight": Seen((0, 4), "float16")}),
    ("lengths are not negative", {"actual_seq_len": [0, 64], "leading_zero": False}),
    ("lengths are a list of integers", {"actual_seq_len": 64}),
    ("lengths are a list of integers", {"actual_seq_len": [True, 64]}),
    ("sizes are integers", {"compress_block_size": "32"}),
    ("tensors are given", {"grad": None}),
    ("there are lengths", {"grad": GRAD, "actual_seq_len": []}),
]
ACCEPTED = [
    {},
    {"grad": GRAD},
    {"grad": GRAD, "actual_seq_len": None},
    {"actual_seq_len": (0, 32, 32, 64)},
    {"input": Seen((64, 4, 32), "float32"), "weight": Seen((32, 4), "float32")},
    of_heads(200, 1024),
    {"strict": True, "leading_zero": False},
]


def test_every_row_has_a_case():
    assert [limit.name for limit in LIMITS] == list(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_row(name):
    kind, sentence, change = REFUSED[name]
    refusal = first_refusal(call(**change))
    assert (refusal.name, refusal.kind) == (name, kind)
    with pytest.raises(RuntimeError, match=sentence):
        raise RuntimeError(refusal.sentence)
    assert "; accepted " in refusal.sentence


@pytest.mark.parametrize("name, change", MORE)
def test_more_of_a_row(name, change):
    assert first_refusal(call(**change)).name == name


@pytest.mark.parametrize("change", ACCEPTED)
def test_accepted(change):
    assert first_refusal(call(**change)) is None


def at_the_door(change):
    """The same arguments with tensors of these shapes, given to torch_npu's function."""
    given = call(**change)
    tensors = [
        None if seen is None else torch.ones(seen.shape, dtype=getattr(torch, seen.dtype))
        for seen in given.tensors.values()
    ]
    door = npu_nsa_compress_grad if given.gradient() else npu_nsa_compress
    return door(
        *tensors, given.compress_block_size, given.compress_stride, actual_seq_len=given.actual_seq_len
    )


@pytest.mark.parametrize("name", [name for name, (*_, change) in REFUSED.items() if not change.get("strict")])
def test_door_raises_the_sentence(name):
    with pytest.raises(RuntimeError, match=REFUSED[name][1]):
        at_the_door(REFUSED[name][2])


@pytest.mark.parametrize("change", [change for change in ACCEPTED if not change.get("strict")])
def test_door_accepts(change):
    at_the_door(change)


def test_what_is_no_cpu_tensor():
    weight = torch.ones(32, 4).half()
    for bad in ("text", [1.0], torch.ones(64, 4, 32).half().to_sparse()):
        with pytest.raises(RuntimeError, match="input "):
            npu_nsa_compress(bad, weight, 32, 32, actual_seq_len=[64])


class Sixteen:
    """An integer by its __index__ alone."""

    def __index__(self):
        return 16


NO_INTEGERS = [
    numpy.arange(3),
    numpy.array(["a"]),
    torch.zeros(2, dtype=torch.complex64),
    torch.zeros((), device="meta"),
    torch.eye(2).to_sparse(),
    int,
    None,
    True,
]


def doors():
    """Both functions as functions of changes to their arguments, for one sequence of 64 tokens."""
    weight, input, grad = torch.ones(16, 4).half(), torch.ones(64, 4, 32).half(), torch.ones(4, 4, 32).half()
    given = dict(input=input, weight=weight, compress_block_size=16, compress_stride=16, actual_seq_len=[64])
    yield lambda **change: npu_nsa_compress(**given | change)
    yield lambda **change: npu_nsa_compress_grad(**given | dict(grad=grad) | change)


@pytest.mark.parametrize("value", NO_INTEGERS, ids=str)
def test_sizes_that_are_no_integers(value):
    for door in doors():
        for name in ("compress_block_size", "compress_stride"):
            with pytest.raises(RuntimeError, match=f"(?s){name} is .*; accepted is an integer"):
                door(**{name: value})


@pytest.mark.parametrize("sixteen", [Sixteen(), numpy.int32(16), torch.tensor(16)], ids=type)
def test_sizes_that_are_integers(sixteen):
    for door in doors():
        wanted, found = door(), door(compress_block_size=sixteen, compress_stride=sixteen)
        for a, b in zip(wanted, found, strict=True):
            assert torch.equal(a, b)


@pytest.mark.filterwarnings("ignore:.*nested")
def test_tensors_of_two_devices_or_without_shape():
    forward, backward = doors()
    weight, grad = torch.ones(16, 4).half(), torch.ones(4, 4, 32).half()
    for door in (forward, backward):
        with pytest.raises(RuntimeError, match="weight is on device meta; accepted is input's, cpu"):
            door(weight=weight.to("meta"))
        with pytest.raises(RuntimeError, match="weight is a nested tensor"):
            door(weight=torch.nested.nested_tensor(list(weight)))
    with pytest.raises(RuntimeError, match="^grad is on device meta; accepted is input's, cpu"):
        backward(grad=grad.to("meta"))


def test_signatures():
    tail = "compress_block_size, compress_stride, *, actual_seq_len=None)"
    assert str(inspect.signature(npu_nsa_compress)) == f"(input, weight, {tail}"
    assert str(inspect.signature(npu_nsa_compress_grad)) == f"(grad, input, weight, {tail}"


def test_the_page_has_every_row_and_its_example_runs():
    page = (Path(__file__).parents[2] / "docs" / "operators" / "nsa_compress.md").read_text()
    table = re.findall(r"^\| ([a-z' ]+) \| (null|type|value) \|", page, re.MULTILINE)
    assert table == [(limit.name, limit.kind) for limit in LIMITS]
    for example in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(example, "nsa_compress.md", "exec"), {})
