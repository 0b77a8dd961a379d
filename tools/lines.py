"""Size report: lines per folder, and a failure for files that hold more than one idea can fill.

A source file may have 400 lines, any file 200 KB. With an argument, a git revision, the growth since then is shown.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 400
MAX_BYTES = 200 * 1024
CODE = {".h", ".hpp", ".cc", ".c", ".inl", ".py", ".cmake", ".txt", ".toml", ".sh"}
ANY_BYTES = {".json", ".svg", ".png"}  # results and pictures: long by nature, but not heavy


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def tracked() -> list[Path]:
    """Files of the repository, those not yet added included."""
    names = git("ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    return [ROOT / name for name in sorted(set(names)) if (ROOT / name).is_file()]


def growth(revision: str) -> str:
    """What changed since a revision, in one line."""
    return git("diff", "--shortstat", revision).strip() or "nothing"


def too_large(path: Path, lines: int) -> str | None:
    """A sentence when the file is over a limit."""
    name = path.relative_to(ROOT)
    if path.stat().st_size > MAX_BYTES:
        return f"{name}: {path.stat().st_size} bytes; at most {MAX_BYTES} are accepted"
    if path.suffix in CODE and lines > MAX_LINES:
        return f"{name}: {lines} lines; at most {MAX_LINES} are accepted"
    return None


def main(arguments: list[str]) -> int:
    files: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    found = []
    for path in tracked():
        count = 0 if path.suffix in ANY_BYTES else path.read_bytes().count(b"\n")
        parts = path.relative_to(ROOT).parts
        folder = "/".join(parts[:2] if len(parts) > 2 else parts[:1]) if len(parts) > 1 else "."
        files[folder] += 1
        lines[folder] += count
        found += filter(None, [too_large(path, count)])
    for folder in sorted(files):
        print(f"{folder:24} {files[folder]:4} files {lines[folder]:7} lines")
    print(f"{'all':24} {files.total():4} files {lines.total():7} lines")
    if arguments:
        print(f"since {arguments[0]}: {growth(arguments[0])}")
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
