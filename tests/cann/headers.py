"""Every public header, alone and first, in the languages it promises: C99 and C++11, 17, 20. Arguments: the C and the C++ compiler."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

INCLUDE = Path(__file__).resolve().parents[2] / "cann" / "include"
ONLY_CPP = {"aclnn/opdev/fp16_t.h"}  # a C++ class
STANDARDS = ("c99", "c++11", "c++17", "c++20")


def complaints(compiler: str, standard: str, headers: list[str]) -> str:
    """What one compiler says about one source per header, each including that header and nothing else, twice."""
    language = "c" if standard.startswith("c9") else "c++"
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for header in headers:
            source = Path(folder, header.replace("/", "_") + (".c" if language == "c" else ".cc"))
            source.write_text(f'#include "{header}"\n#include <{header}>\ntypedef int not_empty;\n')
            sources.append(str(source))
        command = [compiler, f"-std={standard}", "-pedantic", "-Wall", "-Wextra", "-Werror", f"-I{INCLUDE}", "-fsyntax-only"]
        ran = subprocess.run([*command, *sources], capture_output=True, text=True)
    return ran.stderr or ("" if ran.returncode == 0 else f"{compiler} -std={standard}: status {ran.returncode}")


def main(c: str, cpp: str) -> int:
    headers = sorted(str(path.relative_to(INCLUDE)) for path in INCLUDE.rglob("*.h"))
    jobs = []
    for standard in STANDARDS:
        mine = [name for name in headers if standard != "c99" or name not in ONLY_CPP]
        half = len(mine) // 2
        jobs += [(c if standard == "c99" else cpp, standard, part) for part in (mine[:half], mine[half:])]
    with ThreadPoolExecutor(2) as pool:
        found = [text for text in pool.map(lambda job: complaints(*job), jobs) if text]
    print("\n".join(found) or f"{len(headers)} headers in {', '.join(STANDARDS)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
