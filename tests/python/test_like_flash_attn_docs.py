"""The page of flash_attn: its program runs, its arguments are those of the code."""

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fusedattn.like import flash_attn
from fusedattn.like import flash_attn_interface as third
from fusedattn.like.flash_attn import bert_padding, flash_attn_interface
from fusedattn.like.flash_attn.layers import rotary

PAGE = (Path(__file__).parents[2] / "docs" / "flash_attn.md").read_text()
BESIDE = {"dout", "out", "softmax_lse", "return_softmax", "return_softmax_lse", "max_seqlen"}  # in the text


def test_the_program_runs():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "flash_attn.md", "exec"), {})


def test_a_program_that_imports_flash_attn_runs(monkeypatch):
    (program,) = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
    for module in ("", ".bert_padding", ".flash_attn_interface", ".layers", ".layers.rotary"):
        monkeypatch.setitem(sys.modules, "flash_attn" + module, None)  # taken out again afterwards
    exec(compile(program, "flash_attn.md", "exec"), {})
    assert sys.modules["flash_attn"] is flash_attn and sys.modules["flash_attn.layers.rotary"] is rotary


@pytest.mark.skipif(importlib.util.find_spec("xformers") is None, reason="xFormers is not installed")
def test_xformers_is_imported_beside_it():
    (program,) = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
    program += "import xformers.ops\nfrom fusedattn.like import xformers\nxformers.register()\n"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_argument_is_described():
    arguments = PAGE[PAGE.index("## Arguments") : PAGE.index("## What a cache costs")]
    own = [*flash_attn.__all__, *(name for name in vars(flash_attn_interface) if name.startswith("_flash_attn"))]
    functions = [getattr(flash_attn_interface, name) for name in own]
    functions += [f for f in vars(third).values() if inspect.isfunction(f) and f.__name__.startswith("flash")]
    for parameter in {name for function in functions for name in inspect.signature(function).parameters}:
        name = parameter.removesuffix("_left").removesuffix("_right")
        assert f"`{name}`" in arguments or name in BESIDE, parameter


def test_every_function_is_named():
    for name in (*flash_attn.__all__, "_flash_attn_varlen_backward"):
        assert f"`{name}`" in PAGE
    for module in (bert_padding, rotary):
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                assert f"`{name}`" in PAGE or name == "rotate_at", name
