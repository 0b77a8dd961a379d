"""The command `fusedattn cann`: a folder for Ascend programs, around the installed library."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fusedattn import cann, cli

needs_wheel = pytest.mark.skipif(not cann.of_wheel().library.exists(), reason="this package was not installed from a wheel")


def command(*arguments: str | Path, **environment: str):
    return CliRunner().invoke(cli.app, ["cann", *map(str, arguments)], env=environment)


@needs_wheel
def test_the_folder_links_to_the_package(tmp_path: Path) -> None:
    done = command("--prefix", tmp_path / "cann")
    assert done.exit_code == 0 and done.stdout == f"source {tmp_path}/cann/set_env.sh\n"
    for name in cann.LIBRARY_NAMES:
        assert (tmp_path / "cann" / "lib64" / name).resolve() == cann.of_wheel().library
    library = ctypes.CDLL(str(tmp_path / "cann" / "lib64" / "libascendcl.so"))
    library.aclrtGetSocName.restype = ctypes.c_char_p
    assert library.aclrtGetSocName().startswith(b"fusedattn-cpu-")
    assert (tmp_path / "cann" / "include" / "acl" / "acl.h").is_file()


@needs_wheel
def test_env_sets_up_a_shell(tmp_path: Path) -> None:
    done = command("--env", XDG_CACHE_HOME=str(tmp_path))
    shell = subprocess.run(
        ["bash", "-c", f"unset ASCEND_HOME_PATH\n{done.stdout}\necho $ASCEND_HOME_PATH"], capture_output=True, text=True, check=True
    )
    assert shell.stdout == f"{tmp_path}/fusedattn/cann\n"


@needs_wheel
def test_installations_for_devices_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "real" / "lib64").mkdir(parents=True)
    (tmp_path / "real" / "lib64" / "libascendcl.so").touch()
    done = command("--prefix", tmp_path / "real")
    assert isinstance(done.exception, ValueError) and "must not mix" in str(done.exception)
    done = command("--prefix", tmp_path / "ours", "--env", ASCEND_HOME_PATH=str(tmp_path / "real"))
    assert isinstance(done.exception, ValueError) and "must not mix" in str(done.exception)


def test_it_asks_for_a_folder() -> None:
    assert "--prefix nor --env" in str(command().exception)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    parts = cann.Parts(*(tmp_path / name for name in ("library", "core", "include", "script")))
    with pytest.raises(ValueError, match="library is missing"):
        cann.lay_out(tmp_path / "cann", parts, link=True)
    with pytest.raises(ValueError, match="make build"):
        cann.of_build(tmp_path)
