"""The ctypes mirror agrees with the structs as compiled; the library's refusals arrive as exceptions."""

import ctypes
from pathlib import Path

import pytest
from fusedattn import _native

CPUS = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""


def test_every_struct_and_field_agrees():
    table = {name: (offset, size) for name, offset, size in _native.layout()}
    mirror = {}
    for struct, cls in _native.STRUCTS.items():
        mirror[struct] = (0, ctypes.sizeof(cls))
        for field, *_ in cls._fields_:
            described = getattr(cls, field)
            mirror[f"{struct}.{field}"] = (described.offset, described.size)
    entries = {name: place for name, place in mirror.items() if not name.startswith("layout_entry")}
    assert table == entries


def test_new_problem_has_defaults():
    problem = _native.new_problem()
    assert problem.struct_size == ctypes.sizeof(_native.Problem)
    assert problem.scale == 1.0 and problem.dropout.keep_prob == 1.0
    assert not (problem.bias.data or problem.alibi.slopes or problem.sink or problem.mask.prefix)
    for band in (problem.mask.top_left, problem.mask.bottom_right):
        assert (band.left, band.right) == (_native.UNBOUNDED, _native.UNBOUNDED)


def test_refusals_are_sentences():
    problem = _native.new_problem()
    problem.dtype = 77
    with pytest.raises((ValueError, NotImplementedError), match="dtype.*77"):
        _native.forward(problem)


def test_dropout_bits_refuse_in_sentences():
    byte = ctypes.c_uint8()
    for keep_prob, count in ((0.0, 8), (1.5, 8), (0.5, -1)):
        with pytest.raises(ValueError, match="accepted"):
            _native.dropout_bits(_native.Dropout(keep_prob, None, 1, 0), count, ctypes.addressof(byte))
    _native.dropout_bits(_native.Dropout(1.0, None, 1, 0), 5, ctypes.addressof(byte))
    assert byte.value == 0b11111


@pytest.mark.skipif("GenuineIntel" not in CPUS, reason="on other processors products of pairs of bfloat16 are fast")
def test_slow_products_of_pairs_are_not_taken_by_themselves():
    wide = [name for name, _ in _native.lanes() if name.startswith("avx512")]
    assert wide == sorted(wide)


def test_lanes_and_threads_are_told():
    lanes = dict(_native.lanes())
    assert "baseline" in lanes and lanes["baseline"] == ""
    assert lanes[_native.lane_chosen()] == ""
    count, owner = _native.threads()
    assert count >= 1 and owner in ("openmp", "own", "serial")
    problem = _native.new_problem()
    problem.q_heads = problem.kv_heads = problem.dim = problem.dim_v = 1
    with pytest.raises((ValueError, NotImplementedError), match="nonesuch"):
        _native.forward(problem, _native.new_options(lane="nonesuch"))
