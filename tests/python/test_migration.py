"""docs/migration.md: every program runs, and the new call gives the results and gradients of the old one.

The old side runs in float64 on the numbers of the new side, by torch's own function or by stand-ins
(attention_stand_ins.py). Each element of a result may differ by golden.RELATIVE of the new side's type times
the larger of the element and the tensor's root mean square, each of a gradient by twice that. The listed
cases have the tolerances of the operator's contract, ascend_golden.TOLERANCE.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import attention_stand_ins as stand_ins
import numpy
import pytest
import torch
from ascend_golden import assert_like
from fusedattn.like import torch_npu
from golden import assert_close, draw

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
PROGRAMS = re.findall(r"^```python (before|after) (\S+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
DTYPES = [torch.float16, torch.bfloat16, torch.float32]
LEAVES = ("query", "key", "value", "q", "k", "v")
Q_LENGTHS, KV_LENGTHS = [5, 17, 0, 33], [9, 17, 3, 50]
HEADS = 4


def bnsd(dtype, key_heads=HEADS):
    shapes = (2, HEADS, 19, 24), (2, key_heads, 30, 24), (2, key_heads, 30, 24)
    return dict(zip(LEAVES, (draw(*shape, dtype=dtype) for shape in shapes)), scale=0.3)


def bsnd(dtype, names=LEAVES[3:], rows=19, columns=30, key_heads=2):
    shapes = (2, rows, HEADS, 24), (2, columns, key_heads, 24), (2, columns, key_heads, 24)
    return dict(zip(names, (draw(*shape, dtype=dtype) for shape in shapes)), scale=0.3)


def bmhk(dtype):
    return bsnd(dtype, LEAVES[:3], key_heads=HEADS)


def tnd(dtype):
    q, k, v = (draw(sum(n), HEADS, 24, dtype=dtype) for n in (Q_LENGTHS, KV_LENGTHS, KV_LENGTHS))
    starts = (torch.tensor([0, *numpy.cumsum(n)], dtype=torch.int32) for n in (Q_LENGTHS, KV_LENGTHS))
    longest = dict(max_seqlen_q=max(Q_LENGTHS), max_seqlen_k=max(KV_LENGTHS))
    return dict(q=q, k=k, v=v, **dict(zip(("cu_seqlens_q", "cu_seqlens_k"), starts)), **longest)


def blocks(dtype):
    lengths = dict(q_lengths=Q_LENGTHS, kv_lengths=KV_LENGTHS)
    tensors = list(tnd(dtype).values())[:3]
    return {name: t.unsqueeze(0) for name, t in zip(LEAVES, tensors)} | lengths | dict(scale=0.3)


def folded(dtype):
    """[B,M,heads * K], and a mask [B * heads,Mq,Mk] of 0 and -10000 as of padded columns."""
    tensors = {name: draw(2, rows, HEADS * 24, dtype=dtype) for name, rows in zip(LEAVES, (19, 30, 30))}
    hidden = torch.arange(30) >= torch.tensor([30, 21]).view(2, 1, 1)
    mask = (hidden * -10000.0).to(dtype).repeat_interleave(HEADS, 0).expand(-1, 19, -1)
    return tensors | dict(attention_mask=mask, heads=HEADS, scale=0.3)


def infinite(dtype):
    hidden = torch.rand(19, 30) > 0.7
    return torch.zeros(19, 30, dtype=dtype).masked_fill(hidden, -torch.inf)


SLOPES = dict(slopes=torch.tensor([0.5, 0.25, 0.125, 0.0625]))
WINDOWS = [(True, 5, 3), (False, 5, 3), (False, -1, 4), (False, 6, -1), (True, 40, -1)]
INPUTS = {
    "sdpa": lambda dtype: bnsd(dtype, 2),
    "sdpa-mask": lambda dtype: bnsd(dtype) | dict(mask=torch.rand(2, 1, 1, 30) > 0.3),
    "sdpa-bias": lambda dtype: bnsd(dtype) | dict(bias=draw(HEADS, 19, 30, dtype=dtype)),
    "sdpa-infinite": lambda dtype: bnsd(dtype) | dict(bias=infinite(dtype)),
    "sdpa-causal": bnsd,
    "flash-alibi": lambda dtype: bsnd(dtype, columns=19) | SLOPES,
    "flash-alibi-cache": lambda dtype: bsnd(dtype) | SLOPES,
    "varlen-window": lambda dtype: tnd(dtype) | dict(left=6),
    "xformers-bias": lambda dtype: bmhk(dtype) | dict(bias=draw(2, HEADS, 19, 30, dtype=dtype)),
    "xformers-heads": folded,
    "xformers-blocks": blocks,
    "xformers-blocks-causal": blocks,
}
BY_PREFIX = {"flash": bsnd, "varlen": tnd, "xformers": bmhk}


def programs(side, case):
    return [text for found, name, text in PROGRAMS if (found, name) == (side, case)]


def inputs(case, dtype):
    return INPUTS.get(case, BY_PREFIX.get(case.split("-")[0]))(dtype)


def wide(value):
    """A floating tensor in float64, anything else as it is."""
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


@pytest.fixture
def other_libraries(monkeypatch):
    """Stand-ins where programs import flash_attn and xformers from; one thread, for tensors are small."""
    torch.set_num_threads(1)

    def install(case):
        version = "2.0.9" if case.endswith("-2.0") else "2.8.3"
        for name, module in {"flash_attn": stand_ins.flash_attn(version), **stand_ins.xformers()}.items():
            monkeypatch.setitem(sys.modules, name, module)

    return install


def run(program, given):
    """(the program's variables, its leaves) from the given variables."""
    leaves = {name: given[name].detach().clone().requires_grad_() for name in LEAVES if name in given}
    names = {**given, **leaves}
    torch.manual_seed(7)
    exec(compile(program, "docs/migration.md", "exec"), names)
    return names, leaves


def compare(case, given):
    (before,), after = programs("before", case), programs("after", case)
    want, want_leaves = run(before, {name: wide(value) for name, value in given.items()})
    gradient = draw(*want["out"].shape, dtype=next(given[name] for name in LEAVES if name in given).dtype)
    want_gradients = torch.autograd.grad(want["out"], [*want_leaves.values()], gradient.double())
    for program in after:
        got, leaves = run(program, given)
        assert got["out"].dtype == gradient.dtype
        assert_close(got["out"], want["out"], f"{case}: out")
        if "lse" in want:
            torch.testing.assert_close(got["lse"].double(), want["lse"], rtol=1e-4, atol=1e-4)
        gradients = torch.autograd.grad(got["out"], [*leaves.values()], gradient)
        for name, found, expected in zip(leaves, gradients, want_gradients):
            assert_close(found, expected, f"{case}: gradient of {name}", slack=2)


CASES = sorted({name for _, name, _ in PROGRAMS} - {"flash-window"})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_both_sides_agree(case, dtype, other_libraries):
    other_libraries(case)
    compare(case, inputs(case, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("causal, left, right", WINDOWS)
@pytest.mark.parametrize("columns", [30, 13])
def test_windows(columns, causal, left, right, dtype, other_libraries):
    other_libraries("flash-window")
    compare("flash-window", bsnd(dtype, columns=columns) | dict(causal=causal, left=left, right=right))


@pytest.mark.parametrize("case", ["flash-causal", "flash-causal-2.0", "sdpa-causal"])
def test_more_rows_than_columns(case, other_libraries):
    """Bottom right, the first rows see nothing and are 0."""
    other_libraries(case)
    given = bsnd(torch.float32, columns=13) if case.startswith("flash") else bnsd(torch.float32)
    if case == "sdpa-causal":
        given |= {name: given[name][:, :, :13] for name in ("key", "value")}
    compare(case, given)


def test_every_program_of_the_page_has_its_pair():
    assert len(PROGRAMS) == PAGE.count("```python") >= 46
    for case in {name for _, name, _ in PROGRAMS}:
        assert len(programs("before", case)) == 1 and programs("after", case), case


def test_the_sides_tell_versions_apart(other_libraries):
    """The program of the other version is wrong where rows and columns differ in number."""
    other_libraries("flash-causal")
    given = bsnd(torch.float32)
    versions = ("flash-causal", "flash-causal-2.0")
    new, old = (run(programs("after", case)[0], given)[0]["out"] for case in versions)
    assert (new - old).abs().max() > 0.1


def test_what_the_page_says_is_refused():
    given = bnsd(torch.float32)
    q, k, v = (given[name] for name in LEAVES[:3])
    with pytest.raises(TypeError, match="atten_mask"):
        torch.nn.functional.scaled_dot_product_attention(q, k, v, atten_mask=None)
    with pytest.raises(RuntimeError, match="scale is None"):
        torch_npu.npu_fusion_attention(q, k, v, HEADS, "BNSD", scale=None)
    with pytest.raises(RuntimeError, match="atten_mask has dtype float32"):
        torch_npu.npu_fusion_attention(q, k, v, HEADS, "BNSD", atten_mask=torch.zeros(19, 30))
    slopes = dict(pse=SLOPES["slopes"], pse_type=2)
    with pytest.raises(RuntimeError, match="561002"):
        torch_npu.npu_fusion_attention_v2(q, k, v, HEADS, "BNSD", **slopes)
    mask, t = torch.ones(2048, 2048, dtype=torch.bool), draw(9, HEADS, 8)
    ends = dict(actual_seq_qlen=[9], actual_seq_kvlen=[5])
    with pytest.raises(RuntimeError, match="q length 9 and kv length 5 with sparse_mode 3"):
        torch_npu.npu_fusion_attention(t, t, t, HEADS, "TND", atten_mask=mask, sparse_mode=3, **ends)


# The eight cases of the vendor's text by their S and D, with B and N small, and terms that it leaves open.
@dataclass
class Listed:
    shape: tuple
    pse: bool = False
    mask: bool = False
    keep_prob: float = 1.0


LISTED = {
    1: Listed((1, 1, 4096, 128)),
    2: Listed((1, 1, 2048, 64), mask=True),
    3: Listed((2, 2, 512, 128)),
    4: Listed((1, 2, 512, 128), pse=True),
    5: Listed((1, 2, 512, 128), mask=True, keep_prob=0.8),
    6: Listed((1, 2, 512, 64), keep_prob=0.9),
    7: Listed((1, 2, 512, 64), pse=True, mask=True, keep_prob=0.8),
    8: Listed((1, 1, 2048, 64), pse=True, mask=True),
}


def formula(q, k, v, kept, hidden, pse, scale, keep_prob):
    """The text's own, with its dropout test put right."""
    scores = q @ k.mT
    scores = (scores if pse is None else scores + pse) * scale
    if hidden is not None:
        scores = scores + hidden * torch.finfo(torch.float32).min
    weights = scores.softmax(-1)
    if kept is not None:
        weights = weights * kept * (1.0 / keep_prob)
    return weights @ v


def coarse(*shape):
    """In [-1, 1], in steps that all three types hold exactly: one formula serves them."""
    return torch.randint(-64, 65, shape) / 64


@pytest.mark.parametrize("number", LISTED)
def test_listed_cases(number):
    listed = LISTED[number]
    (B, N, S, _), scale = listed.shape, listed.shape[-1] ** -0.5
    q, k, v, gradient = (coarse(*listed.shape) for _ in range(4))
    pse = coarse(B, N, S, S) if listed.pse else None
    hidden = torch.ones(S, S, dtype=torch.bool).triu(1) if listed.mask else None
    bits = torch.rand(B, N, S, S) < listed.keep_prob if listed.keep_prob < 1 else None
    packed = None if bits is None else torch.from_numpy(numpy.packbits(bits.numpy(), bitorder="little"))
    leaves = [t.double().requires_grad_() for t in (q, k, v)]
    golden_out = formula(*leaves, bits, hidden, wide(pse), scale, listed.keep_prob)
    golden = [golden_out, *torch.autograd.grad(golden_out, leaves, gradient.double())]
    words = dict(atten_mask=hidden, scale=scale, keep_prob=listed.keep_prob, dropout_mask=packed)
    for dtype in (torch.float16, torch.bfloat16):
        shift = None if pse is None else pse.to(dtype)
        given = [t.to(dtype).requires_grad_() for t in (q, k, v)]
        out = torch_npu.npu_fusion_attention(*given, N, "BNSD", pse=shift, **words)[0]
        got = [out, *torch.autograd.grad(out, given, gradient.to(dtype))]
        for name, found, want in zip(("out", "dq", "dk", "dv"), got, golden):
            assert_like(found, want, f"case {number}, {dtype}: {name}", gradient=name != "out")
