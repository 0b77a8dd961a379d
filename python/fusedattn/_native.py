"""The C API (fusedattn.h) by ctypes: structs, prototypes, errors. The only file that knows the library."""

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path

FLOAT32, BFLOAT16, FLOAT16 = 0, 1, 2
FORWARD, BACKWARD = 0, 1
NONZERO_HIDES, NONZERO_SHOWS = 0, 1
MERGE_SAFE, MERGE_FORMULA = 0, 1
UNBOUNDED = 2**63 - 1


class View(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("batch_stride", c_int64),
        ("head_stride", c_int64),
        ("row_stride", c_int64),
    ]


class Band(ctypes.Structure):
    _fields_ = [("left", c_int64), ("right", c_int64)]


class Mask(ctypes.Structure):
    _fields_ = [
        ("top_left", Band),
        ("bottom_right", Band),
        ("bands", c_void_p),
        ("prefix", c_void_p),
        ("bytes", c_void_p),
        ("batch_stride", c_int64),
        ("head_stride", c_int64),
        ("row_stride", c_int64),
        ("meaning", c_int32),
        ("whole", c_int32),
    ]


class Bias(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("batch_stride", c_int64),
        ("head_stride", c_int64),
        ("row_stride", c_int64),
        ("dtype", c_int32),
        ("before_scale", c_int32),
        ("blocks", c_int32),
        ("reserved", c_int32),
    ]


class Alibi(ctypes.Structure):
    _fields_ = [
        ("slopes", c_void_p),
        ("batch_stride", c_int64),
        ("head_stride", c_int64),
        ("q_start", c_int64),
        ("kv_start", c_int64),
        ("square_root", c_int32),
        ("bottom_right", c_int32),
        ("first_sequence", c_int32),
        ("reserved", c_int32),
    ]


class Dropout(ctypes.Structure):
    _fields_ = [
        ("keep_prob", c_double),
        ("bits", c_void_p),
        ("seed", c_uint64),
        ("offset", c_uint64),
    ]


class Stats(ctypes.Structure):
    _fields_ = [
        ("max", c_void_p),
        ("sum", c_void_p),
        ("batch_stride", c_int64),
        ("head_stride", c_int64),
        ("row_stride", c_int64),
        ("lanes", c_int32),
        ("blocks", c_int32),
    ]


class Problem(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("dtype", c_int32),
        ("foreign_stats", c_int32),
        ("batch", c_int64),
        ("q_heads", c_int64),
        ("kv_heads", c_int64),
        ("q_len", c_int64),
        ("kv_len", c_int64),
        ("dim", c_int64),
        ("dim_v", c_int64),
        ("q_ends", c_void_p),
        ("kv_ends", c_void_p),
        ("scale", c_double),
        ("softcap", c_double),
        ("mask", Mask),
        ("bias", Bias),
        ("alibi", Alibi),
        ("dropout", Dropout),
        ("sink", c_void_p),
        ("q", View),
        ("k", View),
        ("v", View),
        ("out", View),
        ("stats", Stats),
        ("d_out", View),
        ("dq", View),
        ("dk", View),
        ("dv", View),
        ("d_bias", View),
        ("d_sink", c_void_p),
    ]


Task = ctypes.CFUNCTYPE(None, c_void_p, c_int32)
Parallel = ctypes.CFUNCTYPE(None, c_void_p, c_int32, Task, c_void_p)


class Options(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("lane", c_char_p),
        ("threads", c_int32),
        ("reserved", c_int32),
        ("parallel", Parallel),
        ("parallel_context", c_void_p),
    ]


class Partial(ctypes.Structure):
    _fields_ = [("out", View), ("stats", Stats)]


class MergeProblem(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("dtype", c_int32),
        ("count", c_int32),
        ("batch", c_int64),
        ("heads", c_int64),
        ("rows", c_int64),
        ("dim_v", c_int64),
        ("parts", POINTER(Partial)),
        ("result", Partial),
        ("q_ends", c_void_p),
        ("special", c_int32),
        ("log_sum_exp", c_int32),
    ]


class NsaCompressProblem(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("dtype", c_int32),
        ("reserved", c_int32),
        ("sequences", c_int64),
        ("ends", c_void_p),
        ("tokens", c_int64),
        ("heads", c_int64),
        ("dim", c_int64),
        ("block", c_int64),
        ("stride", c_int64),
        ("input", View),
        ("weight", View),
        ("output", View),
        ("d_output", View),
        ("d_input", View),
        ("d_weight", View),
    ]


class LayoutEntry(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("offset", c_size_t), ("size", c_size_t)]


STRUCTS = {
    "view": View,
    "band": Band,
    "mask": Mask,
    "bias": Bias,
    "alibi": Alibi,
    "dropout": Dropout,
    "stats": Stats,
    "problem": Problem,
    "options": Options,
    "partial": Partial,
    "merge_problem": MergeProblem,
    "nsa_compress_problem": NsaCompressProblem,
    "layout_entry": LayoutEntry,
}

# Structs travel as addresses (c_void_p): converting an int is the cheapest argument ctypes knows.
_PROTOTYPES = {
    "fusedattn_version": (c_char_p, []),
    "fusedattn_last_error": (c_char_p, []),
    "fusedattn_problem_init": (None, [c_void_p]),
    "fusedattn_options_init": (None, [c_void_p]),
    "fusedattn_forward": (c_int32, [c_void_p, c_void_p]),
    "fusedattn_backward": (c_int32, [c_void_p, c_void_p]),
    "fusedattn_plan_create": (c_int32, [c_void_p, c_int32, c_void_p, POINTER(c_void_p)]),
    "fusedattn_plan_workspace": (c_size_t, [c_void_p]),
    "fusedattn_plan_run": (c_int32, [c_void_p, c_void_p, c_void_p, c_size_t]),
    "fusedattn_plan_destroy": (None, [c_void_p]),
    "fusedattn_describe": (c_size_t, [c_void_p, c_char_p, c_size_t]),
    "fusedattn_dropout_bits": (c_int32, [c_void_p, c_int64, c_void_p]),
    "fusedattn_merge": (c_int32, [c_void_p, c_void_p]),
    "fusedattn_nsa_compressed_length": (c_int64, [c_void_p, c_int64, c_int64, c_int64]),
    "fusedattn_nsa_compress_forward": (c_int32, [c_void_p, c_void_p]),
    "fusedattn_nsa_compress_backward": (c_int32, [c_void_p, c_void_p]),
    "fusedattn_lane_count": (c_int32, []),
    "fusedattn_lane_name": (c_char_p, [c_int32]),
    "fusedattn_lane_refusal": (c_char_p, [c_int32]),
    "fusedattn_lane_chosen": (c_char_p, []),
    "fusedattn_thread_count": (c_int32, []),
    "fusedattn_thread_owner": (c_char_p, []),
    "fusedattn_layout": (POINTER(LayoutEntry), []),
}


def places() -> list[Path]:
    """Where the library may lie: beside this file (a wheel), else the build folder of a source checkout."""
    here = Path(__file__).parent
    name = "libfusedattn.so"
    return [here / name, here / "lib" / name, here.parents[1] / "build" / "release" / name]


def _load() -> ctypes.CDLL:
    candidates = places()
    found = next((place for place in candidates if place.exists()), None)
    if found is None:
        raise ImportError(
            "fusedattn: its library libfusedattn.so is in none of "
            + ", ".join(map(str, candidates))
            + "; reinstall"
            " the package, or in a source checkout run `cmake --preset release` and"
            " `cmake --build --preset release`"
        )
    try:
        library = ctypes.CDLL(str(found))
    except OSError as problem:
        raise ImportError(f"fusedattn: {found} cannot be loaded: {problem}") from problem
    for symbol, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, symbol)
        function.restype, function.argtypes = result, arguments
    return library


_library = _load()
library_path = _library._name

problem_forward = _library.fusedattn_forward  # (address of Problem, address of Options or None) -> status
problem_backward = _library.fusedattn_backward

_ERRORS = {1: ValueError, 2: NotImplementedError, 3: MemoryError, 4: RuntimeError}


def refuse(status: int) -> None:
    """Raises the exception of a status that is not FUSEDATTN_OK, with the library's sentence."""
    raise _ERRORS.get(status, RuntimeError)(_library.fusedattn_last_error().decode())


def new_problem() -> Problem:
    """A problem with zeros, scale 1, keep_prob 1 and unbounded bands."""
    problem = Problem()
    _library.fusedattn_problem_init(ctypes.addressof(problem))
    if problem.struct_size != ctypes.sizeof(Problem):
        raise ImportError(
            f"fusedattn: the library's fusedattn_problem has {problem.struct_size} bytes, this package's has "
            f"{ctypes.sizeof(Problem)}; package and library are of different versions"
        )
    return problem


def new_options(lane: str | None = None, threads: int = 0) -> Options:
    """Options naming a lane (None: the best) and a number of threads (0: as the library chooses)."""
    options = Options()
    _library.fusedattn_options_init(ctypes.addressof(options))
    options.lane = None if lane is None else lane.encode()
    options.threads = threads
    return options


def forward(problem: Problem, options: Options | None = None) -> None:
    """Runs the forward pass of a filled problem; raises as refuse() does."""
    _run(problem_forward, problem, options)


def backward(problem: Problem, options: Options | None = None) -> None:
    """Runs the backward pass of a filled problem; raises as refuse() does."""
    _run(problem_backward, problem, options)


def new_merge_problem(count: int) -> tuple[MergeProblem, ctypes.Array]:
    """A merge of so many parts, zeros but for its size, and the array of its parts, which the caller keeps."""
    parts = (Partial * count)()
    problem = MergeProblem(struct_size=ctypes.sizeof(MergeProblem), count=count)
    problem.parts = ctypes.cast(parts, POINTER(Partial))
    return problem, parts


def merge(problem: MergeProblem, options: Options | None = None) -> None:
    """Joins the parts of a filled problem; raises as refuse() does."""
    _run(_library.fusedattn_merge, problem, options)


def _run(verb, problem: Problem | MergeProblem, options: Options | None) -> None:
    status = verb(ctypes.addressof(problem), None if options is None else ctypes.addressof(options))
    if status:
        refuse(status)


def dropout_bits(dropout: Dropout, count: int, address: int) -> None:
    """Writes the bits of elements [0, count) of a dropout to (count + 7) // 8 bytes at an address."""
    status = _library.fusedattn_dropout_bits(ctypes.addressof(dropout), count, address)
    if status:
        refuse(status)


def nsa_compress_forward(problem: NsaCompressProblem, options: Options | None = None) -> None:
    """Compresses the tokens of a filled problem; raises as refuse() does."""
    _run(_library.fusedattn_nsa_compress_forward, problem, options)


def nsa_compress_backward(problem: NsaCompressProblem, options: Options | None = None) -> None:
    """The gradients of a filled problem; raises as refuse() does."""
    _run(_library.fusedattn_nsa_compress_backward, problem, options)


def describe(problem: Problem, direction: int = FORWARD, options: Options | None = None) -> str:
    """The plan of a problem in words, one line."""
    plan = c_void_p()
    status = _library.fusedattn_plan_create(
        ctypes.addressof(problem),
        direction,
        None if options is None else ctypes.addressof(options),
        ctypes.byref(plan),
    )
    if status:
        refuse(status)
    try:
        text = ctypes.create_string_buffer(_library.fusedattn_describe(plan, None, 0) + 1)
        _library.fusedattn_describe(plan, text, len(text))
        return text.value.decode()
    finally:
        _library.fusedattn_plan_destroy(plan)


def version() -> str:
    return _library.fusedattn_version().decode()


def lanes() -> list[tuple[str, str]]:
    """(name, refusal) of every lane built into the library, best first; the refusal is "" where it runs."""
    return [
        (_library.fusedattn_lane_name(i).decode(), _library.fusedattn_lane_refusal(i).decode())
        for i in range(_library.fusedattn_lane_count())
    ]


def lane_chosen() -> str:
    """The lane a call without options uses; ValueError if FUSEDATTN_ISA names none that runs here."""
    name = _library.fusedattn_lane_chosen()
    if name is None:
        raise ValueError(_library.fusedattn_last_error().decode())
    return name.decode()


def threads() -> tuple[int, str]:
    """Threads a call without options would use now, and whose they are: "openmp", "own" or "serial".

    ValueError if FUSEDATTN_NUM_THREADS is not a number of threads.
    """
    count = _library.fusedattn_thread_count()
    if count == 0:
        refuse(1)
    return count, _library.fusedattn_thread_owner().decode()


def layout() -> list[tuple[str, int, int]]:
    """(name, offset, size) of every struct and field as the library was built."""
    table = _library.fusedattn_layout()
    entries = []
    while table[len(entries)].name is not None:
        entry = table[len(entries)]
        entries.append((entry.name.decode(), entry.offset, entry.size))
    return entries
