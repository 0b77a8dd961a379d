"""cann.py: lays out the folder that build lines of Ascend programs expect, around this library. Standard library only.

Also a script for `make install-cann`: cann.py --build build/release --prefix some/folder
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "libfusedattn_cann.so"
LIBRARY_NAMES = (
    "libascendcl.so",
    "libacl_rt.so",
    "libnnopbase.so",
    "libopapi.so",
    "libopapi_math.so",
    "libopapi_nn.so",
    "libopapi_transformer.so",
    "libcust_opapi.so",
    "libhccl.so",
    "libhccl_fwk.so",
    "libc_sec.so",
)
MARK = ".fusedattn-cann"  # tells our folders from an installation for devices
SIGNS = ("lib64/libascendcl.so", "lib64/libacl_rt.so", "lib64/libnnopbase.so", "version.cfg", "ascend_toolkit_install.info", "compiler", "runtime")


@dataclass(frozen=True)
class Parts:
    """What a folder is made of: the library, the core it needs (by the name it asks for), headers, the script."""

    library: Path
    core: Path
    include: Path
    script: Path


def of_wheel() -> Parts:
    """The parts that lie beside this file."""
    here = Path(__file__).resolve().parent
    share = here / "share" / "cann"
    return Parts(here / LIBRARY, here / "libfusedattn.so", share / "include", share / "set_env.sh")


def of_build(build: Path) -> Parts:
    """The parts of a build folder, and of the repository that this file lies in."""
    source = Path(__file__).resolve().parents[2] / "cann"
    cores = sorted(path for path in build.glob("libfusedattn.so.*") if path.suffix[1:].isdigit() and path.name.count(".") == 2)
    if not cores:
        raise ValueError(f"{build} has no libfusedattn.so.<number>; `make build` makes it")
    return Parts(build.resolve() / LIBRARY, build.resolve() / cores[0].name, source / "include", source / "set_env.sh")


def is_foreign(root: Path) -> bool:
    """Whether a folder looks like an installation of CANN for devices."""
    return not (root / MARK).exists() and any((root / sign).exists() for sign in SIGNS)


def check_prefix(prefix: Path) -> None:
    """Raises ValueError for a folder that is not ours to write into."""
    if is_foreign(prefix):
        raise ValueError(f"{prefix} holds an installation of CANN; a folder of its own is accepted, for the two must not mix")
    if prefix.is_file() or (prefix.is_dir() and not (prefix / MARK).exists() and any(prefix.iterdir())):
        raise ValueError(f"{prefix} exists and was not made by this command; an empty or a new folder is accepted")


def _put(source: Path, target: Path, link: bool) -> None:
    """A copy of a file or folder, or a link to it, in place of what was there."""
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(source)
    elif source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def _links() -> dict[str, str]:
    """Every link inside the folder, and what it points to, relative to where it lies."""
    arch = "aarch64" if platform.machine() == "aarch64" else "x86_64"
    vendor = "opp/vendors/custom_transformer/op_api"
    links = {f"lib64/{name}": LIBRARY for name in LIBRARY_NAMES}
    links |= {"opp/include": "../include", "opp/lib64": "../lib64"}
    links |= {f"{arch}-linux/include": "../include", f"{arch}-linux/lib64": "../lib64"}
    links |= {f"{vendor}/include": "../../../../../include", f"{vendor}/lib": "../../../../../lib64"}
    return links


def lay_out(prefix: Path, parts: Parts, link: bool) -> Path:
    """Makes or renews the folder, with copies of the parts or links to them. Returns its absolute path."""
    prefix = prefix.expanduser().absolute()
    for part in vars(parts).values():
        if not part.exists():
            raise ValueError(f"{part} is missing; this installation of fusedattn has no library for Ascend programs")
    check_prefix(prefix)
    prefix.mkdir(parents=True, exist_ok=True)
    (prefix / MARK).write_text("Made by fusedattn; `fusedattn cann` or `make install-cann` may write here.\n")
    _put(parts.library, prefix / "lib64" / LIBRARY, link)
    _put(parts.core, prefix / "lib64" / parts.core.name, link)
    _put(parts.include, prefix / "include", link)
    for name, target in _links().items():
        _put(Path(target), prefix / name, True)
    script = parts.script.read_text().replace("@PREFIX@", str(prefix))
    (prefix / "set_env.sh").write_text(script)
    (prefix / "bin").mkdir(exist_ok=True)
    _put(Path("../set_env.sh"), prefix / "bin" / "setenv.bash", True)
    return prefix


def default_prefix() -> Path:
    """Where `fusedattn cann --env` keeps its folder: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "fusedattn" / "cann"


def environment(prefix: Path) -> str:
    """A command for `eval` that sets up a shell. Raises ValueError where that would mix two installations."""
    home = os.environ.get("ASCEND_HOME_PATH")
    if home and is_foreign(Path(home)):
        raise ValueError(f"ASCEND_HOME_PATH is {home}, an installation of CANN; unset it first, for the two must not mix in one process")
    return f". {shlex.quote(str(prefix / 'set_env.sh'))}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, required=True, help="the build folder")
    parser.add_argument("--prefix", type=Path, required=True, help="the folder to make")
    wanted = parser.parse_args(arguments)
    try:
        prefix = lay_out(wanted.prefix, of_build(wanted.build), link=False)
    except (ValueError, OSError) as error:
        print(f"install-cann: {error}", file=sys.stderr)
        return 2
    print(f"{prefix}: source {shlex.quote(str(prefix / 'set_env.sh'))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
