"""The page of RingAttentionUpdate: its program runs, its arguments are those of the code."""

import inspect
import re
from pathlib import Path

import fusedattn
import pytest
from fusedattn.like import torch_npu_ring

PAGE = (Path(__file__).parents[2] / "docs" / "operators" / "ring_attention_update.md").read_text()


def test_the_program_runs():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "ring_attention_update.md", "exec"), {})


@pytest.mark.parametrize(
    "function", [torch_npu_ring.npu_ring_attention_update, torch_npu_ring.npu_attention_update, fusedattn.merge]
)
def test_every_argument_is_described(function):
    arguments = PAGE[PAGE.index("## Arguments") : PAGE.index("## The memory order")]
    for parameter in inspect.signature(function).parameters:
        assert f"`{parameter}`" in arguments, parameter
