"""The library as its users meet it: installed and found by CMake or pkg-config, or built inside their own project."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("FUSEDATTN_BUILD_DIR", ROOT / "build" / "release"))


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def built(source: Path, build: Path, *definitions: str) -> Path:
    """Configures and builds a consumer's project; returns its build folder."""
    run("cmake", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", *definitions)
    run("cmake", "--build", build, "-j", str(os.cpu_count()))
    return build


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix with the shared library, moved after its installation."""
    assert (BUILD / "CMakeCache.txt").exists(), f"{BUILD} is not built; `make build` does it"
    folder = tmp_path_factory.mktemp("shared")
    run("cmake", "--install", BUILD, "--prefix", folder / "first")
    return Path(shutil.move(folder / "first", folder / "moved"))


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build of a project that contains this one as a static library."""
    return built(
        HERE / "subdirectory",
        tmp_path_factory.mktemp("inside"),
        f"-DFUSEDATTN_SOURCE_DIR={ROOT}",
        "-DFUSEDATTN_STATIC=ON",
        "-DFUSEDATTN_DEVELOPER=ON",  # as the library beside it, for compiler caches
        "-DFUSEDATTN_INSTALL=ON",
    )


@pytest.fixture(scope="module")
def static(inside: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix with the static library."""
    prefix = tmp_path_factory.mktemp("static")
    run("cmake", "--install", inside, "--prefix", prefix)
    return prefix


@pytest.fixture(params=["shared", "static"])
def prefix(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_find_package(prefix: Path, tmp_path: Path) -> None:
    build = built(HERE / "find_package", tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}")
    assert "largest error" in run(build / "from_c")
    assert "from C++" in run(build / "from_cxx")


def test_find_package_refuses_another_version(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(p LANGUAGES C CXX)\nfind_package(fusedattn 9.9 QUIET)\n"
        'if(fusedattn_FOUND)\n  message(FATAL_ERROR "accepted")\nendif()\n'
    )
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={shared}")


@pytest.mark.skipif(not shutil.which("pkg-config"), reason="pkg-config is not installed")
def test_pkg_config_from_c99(prefix: Path, tmp_path: Path) -> None:
    (description,) = prefix.rglob("fusedattn.pc")
    flags = run("pkg-config", "--cflags", "--libs", "fusedattn", PKG_CONFIG_PATH=str(description.parent)).split()
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    run(os.environ.get("CC", "cc"), *strict, HERE / "consumer.c", "-o", tmp_path / "from_c", *flags, "-lm")
    assert "largest error" in run(tmp_path / "from_c", LD_LIBRARY_PATH=str(description.parent.parent))


def test_subdirectory(inside: Path) -> None:
    assert "largest error" in run(inside / "from_c")
    assert "from C++" in run(inside / "from_cxx")


def test_header_is_c99_and_cxx(tmp_path: Path) -> None:
    for suffix, language in (("c", "-std=c99"), ("cc", "-std=c++20")):
        source = tmp_path / f"alone.{suffix}"
        source.write_text('#include "fusedattn/fusedattn.h"\nint main(void) { return 0; }\n')
        compiler = os.environ.get("CC", "cc") if suffix == "c" else os.environ.get("CXX", "c++")
        run(compiler, language, "-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{ROOT}/include", source)
