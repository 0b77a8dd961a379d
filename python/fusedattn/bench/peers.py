"""peers.py: who is measured: fusedattn and torch in this process, everyone else in one of their own."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from fusedattn import info
from fusedattn.bench.cells import Cell

OURS = "fusedattn"
TORCH = "torch"
TORCH_INTEL = "torch, MKL's Intel path"
PRELOAD = "libfusedattn_mkl_intel_path.so"
# Peers with an environment of their own: the folder's name, which is the runner's kind too -> the name in reports.
ELSEWHERE = {"zentorch": "zentorch", "onnxruntime": "ONNX Runtime", "jax": "JAX", "flex": "flex_attention"}


class PeerError(RuntimeError):
    """A peer's process ended or refused a request."""


class InProcess:
    """A Runner in this process. Raises PeerError if fusedattn would use another number of threads."""

    def __init__(self, name: str, kind: str):
        from fusedattn.bench.runner import Runner

        self.name = name
        self._runner = Runner(kind)
        self.refuses, self.time, self.first_head = self._runner.refuses, self._runner.time, self._runner.first_head

    def prepare(self, cell: Cell) -> None:
        self._runner.prepare(cell)
        threads = threads_of_a_call()
        if self.name == OURS and threads != cell.threads:
            raise PeerError(
                f"a call would use {threads} threads where {cell.threads} are to be measured; unset "
                "FUSEDATTN_NUM_THREADS and give the process enough CPUs"
            )

    def close(self) -> None:
        """Nothing is left to be ended."""


class InWorker:
    """A runner in its own process. It sleeps while others are timed."""

    def __init__(self, name: str, kind: str, python: Path | str = sys.executable, preload: Path | None = None):
        self.name = name
        paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        changes = {"PYTHONPATH": os.pathsep.join(paths)}
        if preload:
            changes["LD_PRELOAD"] = " ".join([str(preload), *os.environ.get("LD_PRELOAD", "").split()])
        self._start = lambda: subprocess.Popen(
            [str(python), "-m", "fusedattn.bench.worker", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if kind in ELSEWHERE else None,  # compilers and frameworks talk
            text=True,
            env=os.environ | changes,
        )
        self._process = self._start()
        self._receive()

    def refuses(self, cell: Cell, direction: str) -> str | None:
        """Also starts the process anew if an earlier cell has ended it."""
        if self._process.poll() is not None:
            self._process = self._start()
            self._receive()
        return self._ask(do="refuses", cell=dataclasses.asdict(cell), direction=direction)["refuses"]

    def prepare(self, cell: Cell) -> None:
        self._ask(do="prepare", cell=dataclasses.asdict(cell))

    def time(self, direction: str, calls: int) -> tuple[float, float]:
        return tuple(self._ask(do="time", direction=direction, calls=calls)["time"])

    def first_head(self, directions) -> dict[str, np.ndarray]:
        from fusedattn.bench.worker import unpack

        answer = self._ask(do="first_head", directions=list(directions))["first_head"]
        return {name: unpack(x) for name, x in answer.items()}

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, **request) -> dict:
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._receive()

    def _receive(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"the process of the peer {self.name!r} ended with status {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(f"the peer {self.name!r} failed: {answer['error']}")
        return answer


def threads_of_a_call() -> int:
    """Threads a fusedattn call would use now."""
    from fusedattn import _native

    return _native.threads()[0]


def preload_library() -> Path:
    """The installed one-function library that the second torch peer is preloaded with."""
    from fusedattn import probe

    for folder in probe.folders():
        if (folder / PRELOAD).exists():
            return folder / PRELOAD
    looked = ", ".join(str(folder) for folder in probe.folders())
    raise PeerError(f"{PRELOAD} is not in {looked}; build with FUSEDATTN_BENCH=ON to have it")


def torch_has_another_path() -> bool:
    """Whether this torch multiplies matrices with MKL on a processor that is not Intel's: elsewhere there is no second path to take."""
    import torch

    return torch.backends.mkl.is_available() and info.cpu_vendor() != "GenuineIntel"


def elsewhere(folder: Path) -> dict[str, Path]:
    """The peers that have an environment in `folder`: name -> its Python. Raises PeerError if there is none."""
    found = {kind: folder / kind / "bin" / "python" for kind in ELSEWHERE if (folder / kind / "bin" / "python").exists()}
    if not found:
        raise PeerError(f"--peers is {str(folder)!r}; accepted is a folder of virtual environments named {', '.join(ELSEWHERE)}")
    return found


def make(alone: bool = False, folder: Path | None = None) -> list:
    """fusedattn; unless alone, torch, torch with MKL's Intel path where it does not take that by itself, and those with an environment in `folder`."""
    team: list = [InProcess(OURS, "fusedattn")]
    if alone:
        return team
    team.append(InProcess(TORCH, "torch"))
    if torch_has_another_path():
        team.append(InWorker(TORCH_INTEL, "torch", preload=preload_library()))
    for kind, python in (elsewhere(folder) if folder else {}).items():
        team.append(InWorker(ELSEWHERE[kind], kind, python))
    return team
