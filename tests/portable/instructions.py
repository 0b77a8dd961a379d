"""instructions.py: how many instructions small cells take, held to a committed table; the size of the code.

    python tests/portable/instructions.py            compare; exit code 1 if a count is off by more than 2 %
    python tests/portable/instructions.py --write    write the table anew

Counts do not depend on the machine's load, but on the compiler: with another nothing is compared.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import disassembly

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("FUSEDATTN_BUILD_DIR", ROOT / "build" / "release"))
TABLE = Path(__file__).with_suffix(".json")
LANES = ("baseline", "avx2")  # what callgrind can run
SLACK = 0.02
# The C library's memset and memcpy for any x86-64 processor, not for the one that counts.
ANY_CPU = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-ERMS,-FSRM,-AVX2,-AVX512F,-AVX512VL"}
NOT_HERE = 77  # the program's exit code for a lane that this machine lacks
Counts = dict[str, dict[str, int]]  # lane, cell: instructions


def count(lane: str) -> tuple[str, dict[str, int]]:
    """The compiler, and the instructions of each cell on a lane, planning included; none where it lacks."""
    with tempfile.TemporaryDirectory() as folder:
        callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/cell"]
        only = ["--collect-atstart=no", "--toggle-collect=counted", "--dump-after=counted"]
        program = str(BUILD / "tests" / "instructions")
        command, environment = [*callgrind, *only, program, lane], {**os.environ, **ANY_CPU}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode == NOT_HERE:
            print(f"{lane} is not counted: {done.stdout.strip()}")
            return "", {}
        if done.returncode != 0:
            raise SystemExit(f"{program} {lane} failed:\n{done.stdout}{done.stderr}")
        compiler, *cells = done.stdout.splitlines()
        dumps = [Path(folder, f"cell.{number}").read_text() for number in range(1, len(cells) + 1)]
    totals = [int(re.search(r"^totals: (\d+)", dump, re.M)[1]) for dump in dumps]
    return compiler, dict(zip(cells, totals, strict=True))


def compare(now: Counts, table: Counts) -> list[str]:
    """Prints every count beside the table's; returns those that are off."""
    wrong = []
    for lane, cells in now.items():
        for cell in {**table.get(lane, {}), **cells}:
            is_now, was = cells.get(cell, 0), table.get(lane, {}).get(cell, 0)
            change = is_now / was - 1 if was else float("inf")
            print(f"{lane:9} {cell:55} {is_now:>10} {change:+8.2%}")
            if abs(change) > SLACK:
                wrong.append(f"{lane}, {cell}: {is_now}, the table says {was}")
    return wrong


def print_code_size() -> None:
    """Functions, instantiations of the products' kernel, and bytes of code of each lane."""
    functions, products, sizes = Counter(), Counter(), Counter()
    for function in disassembly.functions(BUILD / "libfusedattn.so"):
        lane, body = function.lane or "shared", function.body
        functions[lane] += 1
        products[lane] += bool(re.search(r"multiply_(whole_)?tile", function.name))
        sizes[lane] += body[-1].address - body[0].address if body else 0
    for lane, size in sizes.most_common():
        of = f"{functions[lane]:4} functions, {products[lane]:3} of products"
        print(f"{lane:12} {size // 1024:4} KiB of code, {of}")


def main() -> int:
    print_code_size()
    if not shutil.which("valgrind"):
        print("instructions are not counted: valgrind is not installed")
        return 0
    counted = {lane: count(lane) for lane in LANES}
    compiler = counted["baseline"][0]
    now: Counts = {lane: cells for lane, (_, cells) in counted.items() if cells}
    if "--write" in sys.argv[1:]:
        TABLE.write_text(json.dumps({"compiler": compiler, "instructions": now}, indent=2) + "\n")
        return 0
    table = json.loads(TABLE.read_text())
    if compiler != table["compiler"]:
        print(f"instructions are not compared: the compiler is {compiler}, the table's {table['compiler']}")
        return 0
    wrong = compare(now, table["instructions"])
    if wrong:
        advice = "if that is meant, `make instructions` writes the table anew"
        print(f"More than {SLACK:.0%} off; {advice}:", *wrong, sep="\n  ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
