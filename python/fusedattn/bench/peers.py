"""peers.py: who is measured: fusedattn and torch here, and torch with MKL's Intel path in another process."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from fusedattn.bench.cells import Cell

OURS = "fusedattn"
TORCH = "torch"
TORCH_INTEL = "torch, MKL's Intel path"
PRELOAD = "libfusedattn_mkl_intel_path.so"


class PeerError(RuntimeError):
    """A peer's process ended or refused a request."""


class InProcess:
    """A Runner in this process. Raises PeerError if fusedattn would use another number of threads."""

    def __init__(self, name: str, kind: str):
        from fusedattn.bench.runner import Runner

        self.name = name
        self.runner = Runner(kind)

    def prepare(self, cell: Cell) -> None:
        self.runner.prepare(cell)
        threads = threads_of_a_call()
        if self.name == OURS and threads != cell.threads:
            raise PeerError(
                f"a call would use {threads} threads where {cell.threads} are to be measured; unset "
                "FUSEDATTN_NUM_THREADS and give the process enough CPUs"
            )

    def time(self, direction: str, calls: int) -> tuple[float, float]:
        return self.runner.time(direction, calls)

    def close(self) -> None:
        self.runner = None


class InWorker:
    """torch in its own process with `preload` in front of its libraries. It sleeps while others are timed."""

    def __init__(self, name: str, preload: Path):
        self.name = name
        preloads = [str(preload), *os.environ.get("LD_PRELOAD", "").split()]
        package_parent = str(Path(__file__).parents[2])
        paths = [package_parent, *filter(None, [os.environ.get("PYTHONPATH")])]
        changes = {"LD_PRELOAD": " ".join(preloads), "PYTHONPATH": os.pathsep.join(paths)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fusedattn.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | changes,
        )
        self._receive()

    def prepare(self, cell: Cell) -> None:
        self._ask({"do": "prepare", "cell": dataclasses.asdict(cell)})

    def time(self, direction: str, calls: int) -> tuple[float, float]:
        return tuple(self._ask({"do": "time", "direction": direction, "calls": calls})["time"])

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, request: dict) -> dict:
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


def torch_has_mkl() -> bool:
    """Whether this torch multiplies matrices with MKL: elsewhere there is no second path to take."""
    import torch

    return torch.backends.mkl.is_available()


def make(names: list[str]) -> list:
    """The peers of these names, in this order."""
    makers = {
        OURS: lambda: InProcess(OURS, "fusedattn"),
        TORCH: lambda: InProcess(TORCH, "torch"),
        TORCH_INTEL: lambda: InWorker(TORCH_INTEL, preload_library()),
    }
    return [makers[name]() for name in names]
