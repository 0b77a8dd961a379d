"""Checks which folder of src/ and cann/src/ includes which: the path of the data allows no step back and none skipped."""

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
    "kernel": ["plan/arena.h", "problem", "isa/cpu.h"],
    "isa": ["kernel", "plan/arena.h", "problem"],
    "reference": ["problem"],
}

# The same for cann/src, a client of the library: folder -> what it may include besides itself and the public headers
CANN_ALLOWED = {
    "": [],
    "runtime": [],
    "meta": ["runtime"],
    "operators": ["meta/tensor.h", "meta/executor.h", "fusedattn/fusedattn.h"],
}
CANN_PUBLIC = ["acl", "aclnn", "aclnnop", "securec.h"]


def allowed_in(source: Path) -> tuple[str, list[str] | None]:
    """The folder of a source, and what it may include; None for a folder that is not known."""
    root, table = (ROOT / "cann/src", CANN_ALLOWED) if source.is_relative_to(ROOT / "cann/src") else (ROOT / "src", ALLOWED)
    folder = "/".join(source.relative_to(root).parts[:-1][:1])
    name = str((root / folder).relative_to(ROOT))
    if folder not in table:
        return name, None
    always = CANN_PUBLIC + ["message.h"] if table is CANN_ALLOWED else ["fusedattn/fusedattn.h"]
    return name, [*([folder] if folder else []), *always, *table[folder]]


def violations(source: Path) -> list[str]:
    """Sentences about the includes of one file that its folder may not have."""
    folder, allowed = allowed_in(source)
    if allowed is None:
        return [f"{source.relative_to(ROOT)}: no folder {folder} is known"]
    found = []
    for number, line in enumerate(source.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if match and not any(match[1] == name or match[1].startswith(name + "/") for name in allowed):
            found.append(
                f'{source.relative_to(ROOT)}:{number}: includes "{match[1]}"; {folder} may include {", ".join(allowed)}'
            )
    return found


def main() -> int:
    roots = (ROOT / "src", ROOT / "cann/src")
    sources = sorted(path for root in roots for path in root.rglob("*") if path.suffix in {".h", ".cc", ".inl"})
    found = [text for path in sources if not path.name.endswith("_test.cc") for text in violations(path)]
    print("\n".join(found) or f"layers: {len(sources)} files include only what they may")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
