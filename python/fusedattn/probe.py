"""probe.py: the limit probe from Python: what this machine's vector units and caches can do."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

LIBRARY = "libfusedattn_probe.so"

# What a lane's products run on. The rate of the bf16 dot product counts where the lane has one; elsewhere
# 16-bit inputs are widened and multiplied as float32, so the float32 rate is their limit too.
_STREAMS = {
    "avx512_bf16": {"float32": "avx512.fma32", "bfloat16": "avx512.bf16dot", "float16": "avx512.fma32"},
    "avx512": dict.fromkeys(("float32", "bfloat16", "float16"), "avx512.fma32"),
    "avx2": dict.fromkeys(("float32", "bfloat16", "float16"), "avx2.fma32"),
}
_BASELINE_STREAMS = ("sse2.muladd32", "neon.fma32")
_ALIASES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class ProbeError(RuntimeError):
    """The probe is not installed, or does not run what it was asked for here."""


@functools.cache
def _library() -> ctypes.CDLL:
    for folder in folders():
        if (folder / LIBRARY).exists():
            return _typed(ctypes.CDLL(str(folder / LIBRARY)))
    looked = ", ".join(str(folder) for folder in folders())
    raise ProbeError(f"{LIBRARY} is not in {looked}; build with FUSEDATTN_BENCH=ON to have it")


def folders() -> list[Path]:
    """Where the probe and what is built with it may lie: wherever the library itself may."""
    from fusedattn import _native

    return [place.parent for place in _native.places()]


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    signatures = {
        "count": (ctypes.c_int32, []),
        "name": (ctypes.c_char_p, [ctypes.c_int32]),
        "refusal": (ctypes.c_char_p, [ctypes.c_int32]),
        "flops": (ctypes.c_double, [ctypes.c_int32, ctypes.c_int32, ctypes.c_double]),
        "exp": (ctypes.c_double, [ctypes.c_int32, ctypes.c_double]),
        "read": (ctypes.c_double, [ctypes.c_size_t, ctypes.c_int32, ctypes.c_double]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"fusedattn_probe_{name}")
        function.restype, function.argtypes = result, arguments
    return library


@functools.cache
def streams() -> dict[str, str]:
    """The instruction streams built in: name -> "" where this machine runs it, else the reason why not."""
    library = _library()
    indices = range(library.fusedattn_probe_count())
    name, refusal = library.fusedattn_probe_name, library.fusedattn_probe_refusal
    return {name(i).decode(): refusal(i).decode() for i in indices}


def stream_of(dtype: str, lane: str) -> str:
    """The stream whose rate limits `lane` ("avx2", ...) for `dtype` ("float32" or "fp32", ...)."""
    dtype = _ALIASES.get(dtype, dtype)
    if dtype not in _ALIASES.values():
        raise ValueError(f"dtype is {dtype!r}; accepted are {', '.join(_ALIASES.values())}")
    if lane == "baseline":
        return next(name for name in _BASELINE_STREAMS if name in streams())
    if lane not in _STREAMS:
        raise ValueError(f"lane is {lane!r}; accepted are {', '.join(_STREAMS)} and baseline")
    return _STREAMS[lane][dtype]


def flops(stream: str, threads: int = 1, seconds: float = 0.02) -> float:
    """GFLOP/s of a stream on `threads` threads. Raises ProbeError where this machine does not run it."""
    names = list(streams())
    if stream not in names:
        raise ProbeError(f"the probe has no stream {stream!r}; it has {', '.join(names)}")
    if streams()[stream]:
        raise ProbeError(f"{stream} does not run here: {streams()[stream]}")
    return _positive(
        _library().fusedattn_probe_flops(names.index(stream), threads, seconds), threads, seconds
    )


def limit(dtype: str, lane: str, threads: int = 1, seconds: float = 0.02) -> float:
    """GFLOP/s that nothing on `lane` can exceed with `dtype` inputs: its multiply-add rate, measured now."""
    return flops(stream_of(dtype, lane), threads, seconds)


def room(lane: str, threads: int = 1, seconds: float = 0.01) -> float:
    """What chains of multiply-adds that wait for one another reach of the float32 limit of `lane`: a number of the machine's own.

    It falls when something else runs on the cores' other hyperthreads, which take part of what a core keeps in flight; the limit does not.
    """
    stream = stream_of("float32", lane)
    return flops(stream.split(".")[0] + ".chains", threads, seconds) / flops(stream, threads, seconds)


def exponentials(threads: int = 1, seconds: float = 0.02) -> float:
    """10^9 float32 exponentials per second from the first-level cache, with the widest vectors here."""
    return _positive(_library().fusedattn_probe_exp(threads, seconds), threads, seconds)


def bandwidth(size_bytes: int, threads: int = 1, seconds: float = 0.02) -> float:
    """GB/s read from a buffer of `size_bytes` (at least 4096) per thread."""
    return _positive(_library().fusedattn_probe_read(size_bytes, threads, seconds), threads, seconds)


def _positive(rate: float, threads: int, seconds: float) -> float:
    if rate <= 0:
        raise ProbeError(
            f"the probe refused threads={threads}, seconds={seconds}: accepted are 1..1024 threads, up to 60 "
            "seconds, buffers of 4096 bytes or more that fit the memory"
        )
    return rate
