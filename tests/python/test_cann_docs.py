"""Every row of the tables of refusals of the Ascend C door stands in its page, with its status."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPERATORS = ROOT / "cann" / "src" / "operators"
PAGE = (ROOT / "docs" / "cann_operators.md").read_text()
STATUS = {"kNull": "161001", "kValue": "161002", "kTiling": "561002", "kKernel": "561003", "0": ""}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_attention() -> None:
    found = 0
    for source in sorted((OPERATORS / "score").glob("rules_*.cc")):
        for row, forward, backward in re.findall(r'^    \{"([a-z.]+)", (\w+), (\w+),', source.read_text(), re.MULTILINE):
            assert f"| {row} | {STATUS[forward]} | {STATUS[backward]} |" in section("FlashAttentionScore and its gradient"), row
            found += 1
    assert found > 80


def test_compression_and_updates() -> None:
    for source, title in (
        ("nsa/limits.cc", "NsaCompress and its gradient"),
        ("ring/limits.cc", "RingAttentionUpdate"),
        ("ring/lists.cc", "AttentionUpdate"),
    ):
        rows = re.findall(r'\{"([a-z.]+)", (\w+), \w+\}', (OPERATORS / source).read_text())
        assert len(rows) >= 10, source
        for row, status in rows:
            lines = [line for line in section(title).splitlines() if re.search(rf"[| ,]{re.escape(row)}[ ,|]", line)]
            assert any(STATUS[status] in line for line in lines), f"{title}: {row}"
