"""info.py: what a bug report needs: version, lane and why not the others, threads, torch, library, CPU."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from fusedattn import _native


def collect() -> dict:
    """Everything as plain values for JSON. An environment variable that calls refuse is told in "error"."""
    facts = {
        "version": _native.version(),
        "library": _native.library_path,
        "cpu": cpu_model(),
        "cpus": usable_cpus(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": _version_of("torch"),
        "numpy": _version_of("numpy"),
        "lanes": [{"name": name, "refusal": refusal} for name, refusal in _native.lanes()],
        "environment": {
            name: value for name, value in sorted(os.environ.items()) if name.startswith("FUSEDATTN_")
        },
    }
    chosen = {"lane": None, "threads": None, "thread_owner": None, "error": None}
    try:
        chosen["lane"] = _native.lane_chosen()
        chosen["threads"], chosen["thread_owner"] = _native.threads()
    except ValueError as error:
        chosen["error"] = str(error)
    return facts | chosen


def usable_cpus() -> int:
    """CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """The CPU's name as the system tells it."""
    for path, key in (("/proc/cpuinfo", "model name"), ("/sys/firmware/devicetree/base/model", None)):
        name = _first_value(Path(path), key)
        if name:
            return name
    return platform.processor() or platform.machine()


def cpu_vendor() -> str:
    """What x86-64 processors call their maker, such as GenuineIntel; empty elsewhere."""
    return _first_value(Path("/proc/cpuinfo"), "vendor_id")


def _first_value(path: Path, key: str | None) -> str:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    if key is None:
        return text.strip("\0\n ")
    return next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(key)), "")


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
