"""test_probe.py: the limit probe: which streams it has, that it returns rates, and how it refuses. What the rates are depends on what else runs."""

import math

import pytest

from fusedattn import _native, probe

BRIEF = 0.004  # seconds


def is_rate(value: float) -> bool:
    return math.isfinite(value) and value > 0


def running() -> list[str]:
    return [name for name, refusal in probe.streams().items() if not refusal]


def test_the_baseline_always_runs():
    assert probe.stream_of("float32", "baseline") in running()


@pytest.mark.parametrize("stream", running())
def test_a_stream_that_runs_has_a_rate(stream):
    assert is_rate(probe.flops(stream, 1, BRIEF))


def test_threads_are_taken():
    assert is_rate(probe.flops(running()[0], 2, BRIEF))


@pytest.mark.parametrize("threads", [1, 2])
def test_every_lane_has_a_room(threads):
    for lane, refusal in _native.lanes():
        if not refusal:
            assert is_rate(probe.room(lane, threads, BRIEF))


def test_every_lane_of_the_library_has_a_limit():
    for lane, refusal in _native.lanes():
        for dtype in ("float32", "bfloat16", "float16", "fp32", "bf16", "fp16"):
            assert probe.stream_of(dtype, lane) in probe.streams()
        if not refusal:
            assert is_rate(probe.limit("float32", lane, 1, BRIEF))


def test_bf16_is_limited_by_the_dot_product_only_where_the_lane_has_one():
    assert probe.stream_of("bfloat16", "avx512_bf16") == "avx512.bf16dot"
    assert probe.stream_of("float16", "avx512_bf16") == "avx512.fma32"
    assert probe.stream_of("bfloat16", "avx2") == "avx2.fma32"


def test_a_stream_that_does_not_run_says_why():
    for name, refusal in probe.streams().items():
        if refusal:
            with pytest.raises(probe.ProbeError, match=f"{name} does not run here: the CPU"):
                probe.flops(name, 1, BRIEF)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="dtype is 'int8'; accepted are float32, bfloat16, float16"):
        probe.limit("int8", "baseline")
    with pytest.raises(ValueError, match="lane is 'mmx'; accepted are"):
        probe.limit("float32", "mmx")
    with pytest.raises(probe.ProbeError, match="no stream 'x87'"):
        probe.flops("x87")


@pytest.mark.parametrize(
    ("threads", "seconds"), [(0, 0.01), (1025, 0.01), (1, 0.0), (1, 61.0), (1, float("nan"))]
)
def test_arguments_out_of_range_are_refused(threads, seconds):
    with pytest.raises(probe.ProbeError, match="accepted are"):
        probe.flops(running()[0], threads, seconds)


def test_memory_rates():
    assert is_rate(probe.exponentials(1, BRIEF))
    assert is_rate(probe.bandwidth(16 << 10, 2, BRIEF))
    with pytest.raises(probe.ProbeError, match="4096 bytes"):
        probe.bandwidth(100)
    with pytest.raises(probe.ProbeError, match="fit the memory"):
        probe.bandwidth(1 << 60, 1, BRIEF)
