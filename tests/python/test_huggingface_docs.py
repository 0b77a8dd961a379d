"""The page about transformers: its program runs, its tables have every argument and every model that is tested."""

import inspect
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers_models import DECODERS, OTHERS  # noqa: E402

from fusedattn.like import transformers as door  # noqa: E402
from fusedattn.like.transformers.arguments import REFUSED  # noqa: E402

PAGE = (Path(__file__).parents[2] / "docs" / "huggingface.md").read_text()


def section(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_program_runs():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "huggingface.md", "exec"), {})


def test_every_argument_is_described():
    parameters = inspect.signature(door.attention_forward).parameters
    names = [name for name, one in parameters.items() if one.kind is not one.VAR_KEYWORD and name != "module"]
    described = re.findall(
        r"`(\w+)`", " ".join(re.findall(r"^\| (.*?) \|", section("Arguments"), re.MULTILINE))
    )
    assert {*names, *REFUSED, "sliding_window", "cu_seq_lens_q", "cu_seq_lens_k", "output_attentions"} <= set(
        described
    )


def test_every_model_that_is_tested_is_named():
    for name in (*DECODERS, *OTHERS):
        assert name in section("Models"), name
