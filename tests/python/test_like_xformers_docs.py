"""The page of xFormers: its programs run, its tables are those of the code."""

import inspect
import re
import sys
from pathlib import Path

import pytest
from fusedattn.like import xformers
from fusedattn.like.xformers.ops.fmha import biases

PAGE = (Path(__file__).parents[2] / "docs" / "xformers.md").read_text()


def test_the_program_runs():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "xformers.md", "exec"), {})


def test_a_program_that_imports_xformers_runs(monkeypatch):
    _, program = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
    for name in [name for name in sys.modules if name.partition(".")[0] == "xformers"]:
        monkeypatch.delitem(sys.modules, name)  # the real one, put back afterwards
    for module in ("", ".ops", ".ops.fmha", ".ops.fmha.attn_bias"):
        monkeypatch.setitem(sys.modules, "xformers" + module, None)  # taken out again afterwards
    exec(compile(program, "xformers.md", "exec"), {})
    given = {}
    exec("import xformers.ops as xops\nfrom xformers.ops import fmha, LowerTriangularMask, unbind", given)
    exec("from xformers.ops.fmha.attn_bias import BlockDiagonalMask, AttentionBias", given)
    assert given["xops"].memory_efficient_attention is xformers.memory_efficient_attention
    assert given["BlockDiagonalMask"] is xformers.attn_bias.BlockDiagonalMask and given["fmha"] is xformers.fmha


def test_register_as_the_page_has_it():
    pytest.importorskip("xformers", reason="xFormers is not installed (its wheels are for x86-64)")
    program, _ = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
    given = {}
    exec(compile(program, "xformers.md", "exec"), given)
    given["handle"].undo()


def test_every_function_argument_and_class_is_named():
    arguments = PAGE[PAGE.index("## Arguments") : PAGE.index("## Where results differ")]
    functions = [getattr(xformers, name) for name in xformers.__all__ if name.startswith(("memory", "merge"))]
    assert len(functions) == 6
    for function in functions:
        assert f"`{function.__name__}`" in PAGE
        for name in inspect.signature(function).parameters:
            assert f"`{name}`" in arguments, name
    table = PAGE[PAGE.index("| class of attn_bias |") : PAGE.index("## Arguments")]
    for name in biases.KINDS.keys() - {"NoneType"}:
        stem = re.match("(Paged)?(BlockDiagonal|LowerTriangular|Local)", name)[0]
        assert f"`{stem}" in table, name
