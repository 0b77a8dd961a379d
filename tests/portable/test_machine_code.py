"""What was compiled: no instruction of a lane outside its namespace, no spilled accumulator, no symbol but the C API."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from disassembly import Function, functions, spills

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("FUSEDATTN_BUILD_DIR", ROOT / "build" / "release"))
LIBRARY = BUILD / "libfusedattn.so"

# The register tiles of every product of matrices (src/kernel/gemm.inl), and per lane the instruction it lives on. The
# baseline lane is held to its results alone: separate multiplications and additions need more registers than it has.
MICRO_KERNEL = re.compile(r"multiply_(whole_)?tile")
PRODUCTS = {"baseline": "mulps", "avx2": "vfmadd", "avx512": "vfmadd", "avx512_bf16": "vdpbf16ps"}
BF16 = re.compile(r"^v(dpbf16ps|cvtne2ps2bf16|cvtneps2bf16)$")

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64 code"),
    pytest.mark.skipif(not shutil.which("objdump"), reason="objdump is not installed"),
]


@cache
def code(path: Path) -> list[Function]:
    assert path.exists(), f"{path} is not built; `make build` does it"
    return functions(path)


def objects() -> list[Path]:
    return sorted((BUILD / "CMakeFiles" / "fusedattn_core.dir").rglob("*.o"))


def test_vector_code_stays_in_its_lane() -> None:
    """In the objects, so that a weak copy which the linker dropped here, and may keep elsewhere, is seen as well."""
    assert objects(), f"{BUILD} has no objects; `make build` makes them"
    leaks = [
        f"{path.name}: {function.name}: {instruction.name} {instruction.operands}"
        for path in [*objects(), LIBRARY]
        for function in code(path)
        if function.lane in ("", "baseline")
        for instruction in function.body
        if instruction.is_vex
    ]
    assert not leaks, "\n".join(leaks[:20])


def test_each_lane_keeps_to_its_extension() -> None:
    wide = re.compile(r"%zmm|%[xy]mm(?:1[6-9]|2\d|3[01])\b|%k[0-7]\b")
    for function in code(LIBRARY):
        for i in function.body:
            assert function.lane != "avx2" or not wide.search(i.operands), f"{function.name}: {i.name} {i.operands}"
            assert function.lane == "avx512_bf16" or not BF16.match(i.name), f"{function.name}: {i.name}"


@pytest.mark.parametrize("lane", PRODUCTS)
def test_products_keep_accumulators_in_registers(lane: str) -> None:
    """GCC leaves an accumulator array in memory when one of its loops is not unrolled: no warning, a third of the speed.

    Every product then loads and stores; a register that is spilled once in a loop of a hundred products costs nothing.
    """
    hot = 0
    for function in code(LIBRARY):
        if function.lane != lane or not MICRO_KERNEL.search(function.name):
            continue
        for loop in function.innermost_loops():
            products = sum(i.name.startswith(PRODUCTS[lane]) for i in loop)
            finishes = "whole" in function.name and products < len(loop) / 2  # what becomes of sums before they are stored
            if products < 8 or finishes:
                continue
            hot += 1
            found = [f"{i.address:x}: {i.name} {i.operands}" for i in spills(function, loop)]
            assert len(found) <= products // 20, f"{function.name} spills in a hot loop:\n" + "\n".join(found)
    assert hot, f"no loop of a {MICRO_KERNEL.pattern} in lane {lane} has eight {PRODUCTS[lane]} or more"


def test_exports_are_the_c_api() -> None:
    listing = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True, check=True).stdout
    names = sorted(line.split()[-1] for line in listing.splitlines())
    assert names == (ROOT / "tools" / "exports.txt").read_text().split()


def test_header_declares_the_exports() -> None:
    header = (ROOT / "include" / "fusedattn" / "fusedattn.h").read_text()
    declared = sorted(re.findall(r"FUSEDATTN_API[^;]*?(fusedattn_\w+)\(", header))
    assert declared == (ROOT / "tools" / "exports.txt").read_text().split()


def test_needs_only_the_c_library() -> None:
    dynamic = subprocess.run(["readelf", "-d", LIBRARY], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[(.+?)\]", dynamic))
    allowed = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2"}
    assert needed <= allowed, f"needs {sorted(needed - allowed)}"
    assert "libfusedattn.so.0" in dynamic
