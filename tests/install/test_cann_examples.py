"""The programs in examples/cann: built by their own lines against an installed folder, they print what they should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("FUSEDATTN_BUILD_DIR", ROOT / "build" / "release"))
FOLDER = ROOT / "examples" / "cann"
PROGRAMS = sorted(FOLDER.glob("*.cpp"))


def run(command: str, folder: Path) -> str:
    done = subprocess.run(["bash", "-c", "set -e; " + command], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cann") / "cann"
    script = ROOT / "python" / "fusedattn" / "cann.py"
    subprocess.run([sys.executable, script, "--build", BUILD, "--prefix", made], check=True, capture_output=True)
    return made


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_one_line(program: Path, prefix: Path, tmp_path: Path) -> None:
    line = next(line.strip("/ ") for line in program.read_text().splitlines() if line.startswith("//   g++"))
    line = line.replace("g++ ", "g++ -std=c++11 -Wall -Wextra -Werror ").replace(program.name, str(program))
    output = run(f"source {prefix}/set_env.sh; {line}; ./run", tmp_path)
    assert output.count("expected") >= 5


def test_cmake(prefix: Path, tmp_path: Path) -> None:
    run(f"source {prefix}/set_env.sh; cmake -S {FOLDER} -B . >/dev/null; cmake --build . -j2 >/dev/null", tmp_path)
    for program in PROGRAMS:
        assert "expected" in run(f"source {prefix}/set_env.sh; ./{program.stem}", tmp_path)
