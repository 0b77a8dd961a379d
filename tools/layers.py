"""Checks which folder of src/ includes which: the path of the data allows no step back and none skipped."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')

# folder -> what it may include besides itself and fusedattn/fusedattn.h: a folder, or one file of it
ALLOWED = {
    "front": ["problem", "plan", "run", "isa/lanes.h", "isa/cpu.h"],
    "problem": [],
    "plan": ["problem", "kernel/kernels.h", "isa/lanes.h", "isa/cpu.h"],
    "run": ["plan", "kernel", "problem"],
    "kernel": ["plan/arena.h", "problem"],
    "isa": ["kernel", "plan/arena.h", "problem"],
    "reference": ["problem"],
}


def violations(source: Path) -> list[str]:
    """Sentences about the includes of one file that its folder may not have."""
    folder = source.relative_to(ROOT / "src").parts[0]
    if folder not in ALLOWED:
        return [f"{source.relative_to(ROOT)}: no folder src/{folder} is known; known are {', '.join(ALLOWED)}"]
    allowed = [folder, "fusedattn/fusedattn.h", *ALLOWED[folder]]
    found = []
    for number, line in enumerate(source.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if match and not any(match[1] == name or match[1].startswith(name + "/") for name in allowed):
            found.append(
                f'{source.relative_to(ROOT)}:{number}: includes "{match[1]}"; src/{folder} may include {", ".join(allowed)}'
            )
    return found


def main() -> int:
    sources = sorted(path for path in (ROOT / "src").rglob("*") if path.suffix in {".h", ".cc", ".inl"})
    found = [text for path in sources if not path.name.endswith("_test.cc") for text in violations(path)]
    print("\n".join(found) or f"layers: {len(sources)} files include only what they may")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
