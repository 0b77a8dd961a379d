"""The pages of FlashAttentionScore and its gradient: their programs run, their tables are those of the code."""

import inspect
import re
from pathlib import Path

import pytest
from fusedattn.like import torch_npu
from fusedattn.like.ascend import STATUS
from fusedattn.like.ascend.constraints import TABLE

PAGES = Path(__file__).parents[2] / "docs" / "operators"
FORWARD, BACKWARD = ((PAGES / f"flash_attention_score{which}.md").read_text() for which in ("", "_grad"))


@pytest.mark.parametrize("page", [FORWARD, BACKWARD], ids=["forward", "backward"])
def test_programs_run(page):
    for program in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(program, "page", "exec"), {})


def test_the_table_of_constraints():
    rows = re.findall(r"^\| `(\w+\.\w+)` \| (\S+) \| (\S+) \|", FORWARD, re.MULTILINE)
    assert rows == [(row.id, *(str(STATUS.get(kind, "–")) for kind in row[1:3])) for row in TABLE]


@pytest.mark.parametrize("name", [n for n in torch_npu.__all__ if n.startswith("npu_fusion_attention")])
def test_every_argument_is_described(name):
    page = BACKWARD if "grad" in name else FORWARD
    assert f"`{name}`" in page
    arguments = page[page.index("## Arguments") :]
    for parameter in inspect.signature(getattr(torch_npu, name)).parameters:
        assert (
            f"`{parameter}`" in arguments or f"({parameter}" in arguments or f", {parameter}" in arguments
        ), parameter
