"""One version number: CMakeLists.txt has it, and every other place agrees."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def found(pattern: str, path: str) -> str:
    match = re.search(pattern, (ROOT / path).read_text(), re.MULTILINE)
    assert match, f"{path} has no {pattern}"
    return match[1]


VERSION = found(r"project\(\s*fusedattn\s+VERSION (\d+\.\d+\.\d+)", "CMakeLists.txt")


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("include/fusedattn/fusedattn.h", r'^#define FUSEDATTN_VERSION "([^"]+)"'),
        ("CITATION.cff", r"^version: (\S+)$"),
        ("CHANGELOG.md", r"^## (\S+)$"),
    ],
)
def test_same_version(path: str, pattern: str) -> None:
    assert found(pattern, path) == VERSION


def test_installed_package_has_it() -> None:
    try:
        assert metadata.version("fusedattn") == VERSION
    except metadata.PackageNotFoundError:
        pytest.skip("the package is not installed in this interpreter")
