"""The folder for Ascend programs: their build lines find what they name, and it never mixes with an installation for devices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("FUSEDATTN_BUILD_DIR", ROOT / "build" / "release"))
SCRIPT = ROOT / "python" / "fusedattn" / "cann.py"
VALUES = "1 1 max 4 sum 2"

# The lists of libraries that run scripts and pages link, by release.
LINES = {
    "built-in": "-L$ASCEND_OPP_PATH/lib64 -L$ASCEND_HOME_PATH/lib64 -lopapi -lopapi_transformer -lascendcl -lnnopbase -lpthread -lhccl",
    "head": "-L$ASCEND_HOME_PATH/lib64 -lopapi_math -lopapi_transformer -lascendcl -lnnopbase -lc_sec -lhccl -lhccl_fwk",
    "custom": "-L$ASCEND_OPP_PATH/vendors/custom_transformer/op_api/lib -L$ASCEND_HOME_PATH/lib64 -lcust_opapi -lascendcl -lnnopbase "
    "-Wl,-rpath=$ASCEND_OPP_PATH/vendors/custom_transformer/op_api/lib",
    "architecture": "-L$ASCEND_HOME_PATH/$(uname -m)-linux/lib64 -lopapi_nn -lopapi -lacl_rt",
}
INCLUDES = "-I$ASCEND_HOME_PATH/include -I$ASCEND_HOME_PATH/include/aclnn -I$ASCEND_OPP_PATH/include/aclnnop"


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a shell that knows no installation."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASCEND") and name != "LD_LIBRARY_PATH"}
    return subprocess.run(
        ["bash", "-c", "set -e; " + command], cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=300
    )


def said(command: str, folder: Path, **environment: str) -> str:
    done = shell(command, folder, **environment)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with copies, moved after it was made."""
    folder = tmp_path_factory.mktemp("cann")
    made = folder / "first place"
    subprocess.run([sys.executable, SCRIPT, "--build", BUILD, "--prefix", made], check=True, capture_output=True)
    return Path(shutil.move(made, folder / "moved"))


@pytest.mark.parametrize("line", LINES)
def test_build_lines(line: str, prefix: Path, tmp_path: Path) -> None:
    standard = "-std=c++11" if line == "built-in" else ""
    output = said(f"source {prefix}/set_env.sh; g++ {standard} {HERE}/ascend.cc {INCLUDES} {LINES[line]} -o run; ./run", tmp_path)
    assert output.splitlines()[-1] == VALUES
    assert output.startswith("161002 aclnnFlashAttentionScore: inputLayout is 'NBSD'")


def test_cmake(prefix: Path, tmp_path: Path) -> None:
    configure = f"cmake -S {HERE}/ascend -B . -DCMAKE_CXX_COMPILER=g++ -DCMAKE_SKIP_RPATH=TRUE"
    output = said(f"source {prefix}/bin/setenv.bash; {configure} >/dev/null; cmake --build . >/dev/null; ./ascend | cat", tmp_path)
    assert output.splitlines()[-1] == VALUES


def test_programs_linked_for_devices(prefix: Path, tmp_path: Path) -> None:
    """A binary that names libraries of its own time runs when the loader finds ours."""
    names = sorted(set((ROOT / "tests" / "cann" / "exports.txt").read_text().split()))
    (tmp_path / "stub.c").write_text("".join(f"void {name}(void) {{}}\n" for name in names if name.startswith("acl")))
    stubs = " ".join(
        f"gcc -shared -fPIC stub.c -Wl,-soname,lib{name}.so -o lib{name}.so;" for name in ("ascendcl", "nnopbase", "opapi_transformer")
    )
    link = "-L. -lascendcl -lnnopbase -lopapi_transformer"
    said(f"{stubs} g++ {HERE}/ascend.cc -I{prefix}/include {link} -o run; rm lib*.so", tmp_path)
    output = said(f"LD_LIBRARY_PATH={prefix}/lib64 ./run", tmp_path)
    assert output.splitlines()[-1] == VALUES


def test_it_keeps_away_from_installations_for_devices(prefix: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    (real / "lib64").mkdir(parents=True)
    (real / "lib64" / "libascendcl.so").write_text("")
    done = subprocess.run([sys.executable, SCRIPT, "--build", BUILD, "--prefix", real], capture_output=True, text=True)
    assert done.returncode == 2 and "must not mix" in done.stderr
    assert sorted(path.name for path in real.rglob("*")) == ["lib64", "libascendcl.so"]
    done = shell(f"source {prefix}/set_env.sh; echo on", tmp_path, ASCEND_HOME_PATH=str(real))
    assert done.returncode != 0 and "must not mix" in done.stderr and "on" not in done.stdout.split()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    done = subprocess.run([sys.executable, SCRIPT, "--build", BUILD, "--prefix", tmp_path / "other"], capture_output=True, text=True)
    assert done.returncode == 2 and "was not made by this command" in done.stderr


def test_it_renews_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        subprocess.run([sys.executable, SCRIPT, "--build", BUILD, "--prefix", tmp_path / "a"], check=True, capture_output=True)
    twice = said(f"source {tmp_path}/a/set_env.sh; source {tmp_path}/a/set_env.sh; echo $LD_LIBRARY_PATH", tmp_path)
    assert twice.strip() == f"{tmp_path}/a/lib64"
