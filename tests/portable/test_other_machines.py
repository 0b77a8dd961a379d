"""The C++ tests on machines this one is not: older x86-64 processors and 64-bit Arm, emulated by qemu-user."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("FUSEDATTN_BUILD_DIR", ROOT / "build" / "release"))
SECONDS = 900

# Programs that start no process of their own, which qemu-user would run on this machine instead. Where vectors are slow to
# emulate, the smaller ones of some cases stand for all: numerics_test takes a part of their names and the most they may compute.
PROGRAMS = ["reference_test", "merge_test", "capi_c99"]
MFLOPS = {"baseline": 5, "avx2": 3}
CASES = ["len1", "grouped", "packed", "causal_br", "window_br", "bytes"]


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def run_all(emulated: list[str], build: Path, programs: list[list[str]]) -> None:
    """Runs test programs with their arguments under an emulator, one on each of this machine's processors."""
    with ThreadPoolExecutor(os.cpu_count()) as at_once:
        for _ in at_once.map(lambda program: run([*emulated, str(build / "tests" / program[0]), *program[1:]]), programs):
            pass


x86_64_emulated = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="emulates x86-64 on x86-64"),
    pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="qemu-x86_64 is not installed (Debian: qemu-user)"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small program on the library, that prints the lane it was given."""
    made = tmp_path_factory.mktemp("program") / "from_c"
    source = ROOT / "tests" / "install" / "consumer.c"
    paths = [f"-I{ROOT}/include", f"-L{BUILD}", f"-Wl,-rpath,{BUILD}"]
    run([os.environ.get("CC", "cc"), "-std=c99", str(source), "-o", str(made), *paths, "-lfusedattn", "-lm"])
    return made


@pytest.mark.parametrize(("cpu", "lane"), [("Nehalem", "baseline"), ("Haswell", "avx2")])
class TestOldCpu:
    pytestmark = x86_64_emulated

    def test_takes_the_lane_it_runs(self, cpu: str, lane: str, program: Path) -> None:
        assert f"lane {lane}," in run(["qemu-x86_64", "-cpu", cpu, "-U", "FUSEDATTN_ISA", str(program)])

    def test_cpp_tests(self, cpu: str, lane: str) -> None:
        small = ["-E", f"FUSEDATTN_TEST_LANES={lane}", "-E", f"FUSEDATTN_TEST_MFLOPS={MFLOPS[lane]}"]
        emulated = ["qemu-x86_64", "-cpu", cpu, "-U", "FUSEDATTN_ISA", *small]
        run_all(emulated, BUILD, [*([program] for program in PROGRAMS), *(["numerics_test", case] for case in CASES)])


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-g++"), reason="no cross compiler (Debian: g++-aarch64-linux-gnu)")
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="qemu-aarch64 is not installed (Debian: qemu-user)")
def test_aarch64() -> None:
    build = ROOT / "build" / "aarch64"
    toolchain = ROOT / "cmake" / "aarch64-linux-gnu.cmake"
    # Hardly optimized, which halves the time: whether the portable lane is right there is the question, not how fast.
    quick = ["-DCMAKE_BUILD_TYPE=MinSizeRel", "-DCMAKE_CXX_FLAGS_MINSIZEREL=-O1 -DNDEBUG", "-DCMAKE_C_FLAGS_MINSIZEREL=-O1 -DNDEBUG"]
    run(["cmake", "--preset", "release", "-B", str(build), f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", *quick])
    run(["cmake", "--build", str(build), "-j", str(os.cpu_count()), "--target", *PROGRAMS, "numerics_test"])
    emulated = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-E", f"FUSEDATTN_TEST_MFLOPS={MFLOPS['baseline']}"]
    run_all(emulated, build, [[program] for program in ("numerics_test", *PROGRAMS)])
