"""The page about torch: its program runs, its table has every argument of the door."""

import inspect
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from fusedattn.like import sdpa, sdpa_arguments  # noqa: E402

PAGE = (Path(__file__).parents[2] / "docs" / "torch.md").read_text()


def test_the_program_runs():
    before = torch.nn.functional.scaled_dot_product_attention
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "torch.md", "exec"), {})
    assert torch.nn.functional.scaled_dot_product_attention is before


def test_every_argument_and_limit_is_described():
    arguments = PAGE[PAGE.index("## Arguments of") : PAGE.index("## Where results differ")]
    for parameter in inspect.signature(sdpa.scaled_dot_product_attention).parameters:
        assert f"| `{parameter}` |" in arguments, parameter
    for features in sdpa_arguments.MOST_FEATURES.values():
        assert f"to {features}" in arguments
    for dtype in sdpa_arguments.DTYPES:
        assert str(dtype).removeprefix("torch.") in arguments
