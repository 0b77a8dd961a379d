"""Every example is built against the built library, or run by this interpreter, and ends well."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("FUSEDATTN_BUILD_DIR", ROOT / "build" / "release"))
COMPILED = sorted([*(ROOT / "examples").glob("c/*.c"), *(ROOT / "examples").glob("cpp/*.cc")])
SCRIPTS = sorted((ROOT / "examples").glob("python/*.py"))


def run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("source", COMPILED, ids=lambda path: path.name)
def test_compiled(source: Path, tmp_path: Path) -> None:
    compiler = [os.environ.get("CC", "cc"), "-std=c99"] if source.suffix == ".c" else [os.environ.get("CXX", "c++"), "-std=c++20"]
    paths = [f"-I{ROOT}/include", f"-L{BUILD}", f"-Wl,-rpath,{BUILD}"]
    strict = ["-Wall", "-Wextra", "-Werror"]
    run(*compiler, *strict, source, "-o", tmp_path / "example", *paths, "-lfusedattn", "-lm")
    run(tmp_path / "example")


@pytest.mark.skipif(not importlib.util.find_spec("fusedattn"), reason="the package is not installed in this interpreter")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script(script: Path) -> None:
    run(sys.executable, script)
