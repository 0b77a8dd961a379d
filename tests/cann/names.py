"""The names of the library: exactly those of exports.txt, without versions, and one copy under every name that programs load.

Argument: the library.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "python" / "fusedattn"))

import cann  # noqa: E402  (fusedattn.cann by itself: the package needs a wheel)


def exported(library: str) -> list[str]:
    """Defined dynamic symbols, with versions where there are any."""
    output = subprocess.run(["nm", "-D", "--defined-only", "--with-symbol-versions", library], capture_output=True, text=True, check=True)
    return sorted(line.split()[-1] for line in output.stdout.splitlines())


def main(library: str) -> int:
    found = []
    wanted = (HERE / "exports.txt").read_text().split()
    names = exported(library)
    found += [f"{name} is exported, but not in exports.txt" for name in names if name not in wanted]
    found += [f"{name} is in exports.txt, but not exported" for name in wanted if name not in names]
    with tempfile.TemporaryDirectory() as folder:
        root = cann.lay_out(Path(folder, "cann"), cann.of_build(Path(library).resolve().parent), link=True)
        handles = set()
        for name in cann.LIBRARY_NAMES:
            loaded = ctypes.CDLL(str(root / "lib64" / name))
            handles.add(loaded._handle)
            found += [f"{name} has no {symbol}" for symbol in wanted if not hasattr(loaded, symbol)]
    if len(handles) != 1:
        found.append(f"{len(cann.LIBRARY_NAMES)} names gave {len(handles)} copies of the library")
    print("\n".join(found) or f"{len(wanted)} names, one copy under {len(cann.LIBRARY_NAMES)} file names")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
