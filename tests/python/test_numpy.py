"""fusedattn.attention on NumPy arrays: the bits of the torch door, without torch in the process."""

import subprocess
import sys

import fusedattn
import golden
import numpy
import pytest
import torch
from fusedattn import Alibi, causal, prefix, problem


def draw_arrays(dtype=numpy.float32):
    shapes = (2, 4, 33, 64), (2, 2, 57, 64), (2, 2, 57, 40)
    return [golden.draw(*shape).numpy().astype(dtype) for shape in shapes]


def as_tensors(arrays):
    if arrays[0].dtype.name == "bfloat16":
        return [torch.from_numpy(array.view(numpy.int16)).view(torch.bfloat16) for array in arrays]
    return [torch.from_numpy(array) for array in arrays]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_arrays_give_the_bits_of_tensors(dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    arrays = draw_arrays(dtype)
    shown = torch.rand(2, 1, 33, 57) > 0.4
    for mask in (None, causal(), shown.numpy()):
        tensor_mask = shown if isinstance(mask, numpy.ndarray) else mask
        wanted = fusedattn.attention(*as_tensors(arrays), mask=tensor_mask, return_stats=True)
        got = fusedattn.attention(*arrays, mask=mask, return_stats=True)
        assert got[0].dtype == arrays[0].dtype and got[0].flags.c_contiguous
        for array, tensor in zip((as_tensors(got[:1])[0], *map(torch.from_numpy, got[1:])), wanted):
            assert torch.equal(array, tensor)


@pytest.mark.parametrize("bias_dtype", ["float32", "float16"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_score_terms_give_the_bits_of_tensors(dtype, bias_dtype):
    arrays = draw_arrays(dtype)
    bias, sink = golden.draw(2, 1, 33, 57).numpy().astype(bias_dtype), golden.draw(4).numpy()
    for slopes in (golden.draw(4).numpy(), golden.draw(2, 4).numpy()):
        numbers = dict(dropout_p=0.2, dropout_seed=(3, 2**63 + 1), mask=causal() | prefix([9, 20]), softcap=0.5)
        for square_root in (False, True):
            made = [
                dict(bias=door(bias), sink=door(sink), alibi=Alibi(door(slopes), "top-left", square_root))
                for door in (numpy.asarray, torch.from_numpy)
            ]
            got = fusedattn.attention(*arrays, **made[0], **numbers, return_stats=True)
            wanted = fusedattn.attention(*as_tensors(arrays), **made[1], **numbers, return_stats=True)
            assert all(torch.equal(torch.from_numpy(a), b) for a, b in zip(got, wanted))


def test_views_of_score_terms():
    arrays = draw_arrays()
    bias, sink, slopes = (golden.draw(*shape).numpy() for shape in ((33, 57), (4,), (2, 4)))
    wanted = fusedattn.attention(*arrays, bias=bias, sink=sink, alibi=slopes)
    got = fusedattn.attention(
        *arrays,
        bias=numpy.asfortranarray(bias),
        sink=numpy.repeat(sink, 2)[::2],
        alibi=numpy.ascontiguousarray(slopes[::-1, ::-1])[::-1, ::-1],
    )
    numpy.testing.assert_array_equal(got, wanted)
    diagonals = golden.draw(33 + 57 - 1).numpy()
    toeplitz = numpy.lib.stride_tricks.as_strided(diagonals[32:], (33, 57), (-4, 4))
    wanted = fusedattn.attention(*arrays, bias=numpy.ascontiguousarray(toeplitz))
    numpy.testing.assert_array_equal(fusedattn.attention(*arrays, bias=toeplitz), wanted)


def test_layouts_views_and_packed_arrays():
    q, k, v = draw_arrays()
    wanted = fusedattn.attention(q, k, v)
    turned = [array.swapaxes(1, 2) for array in (q, k, v)]
    numpy.testing.assert_array_equal(fusedattn.attention(*turned, layout="BSND"), wanted.swapaxes(1, 2))
    backwards = [numpy.ascontiguousarray(array[:, :, ::-1])[:, :, ::-1] for array in (q, k, v)]
    numpy.testing.assert_array_equal(fusedattn.attention(*backwards), wanted)
    flat = [numpy.ascontiguousarray(array).reshape(2, array.shape[1], -1) for array in turned]
    out = fusedattn.attention(*flat, layout="BSH", heads=4)
    numpy.testing.assert_array_equal(out, wanted.swapaxes(1, 2).reshape(2, 33, 160))
    rows = [array[0].swapaxes(0, 1) for array in (q, k, v)]
    ends = dict(cu_seqlens_q=numpy.array([0, 33]), cu_seqlens_k=[0, 57])
    numpy.testing.assert_array_equal(
        fusedattn.attention(*rows, layout="TND", **ends), wanted[0].swapaxes(0, 1)
    )


def test_a_copy_is_told(capfd, monkeypatch):
    monkeypatch.setattr(problem, "verbose", lambda: True)
    q, k, v = draw_arrays()
    wanted = fusedattn.attention(q, k, v)
    capfd.readouterr()
    numpy.testing.assert_array_equal(fusedattn.attention(numpy.asfortranarray(q), k, v), wanted)
    assert "fusedattn,copy,q,2x4x33x64," in capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        (dict(k=[1.0]), TypeError, "k is a list"),
        (dict(q=numpy.ones((1, 1, 2, 8))), ValueError, "q has dtype float64"),
        (dict(v=numpy.ones((2, 2, 57, 40), numpy.float16)), ValueError, "v has dtype float16.*float32"),
        (dict(mask=numpy.ones((33, 57))), ValueError, "mask is float64"),
        (dict(mask=torch.ones(33, 57, dtype=torch.bool)), ValueError, "mask is Tensor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals(given, error, sentence):
    arguments = dict(zip("qkv", draw_arrays())) | given
    with pytest.raises(error, match=sentence):
        fusedattn.attention(arguments.pop("q"), arguments.pop("k"), arguments.pop("v"), **arguments)


def test_importing_brings_in_neither_torch_nor_numpy():
    program = (
        "import sys, fusedattn; assert not {'torch', 'numpy'} & set(sys.modules); "
        "import numpy; x = numpy.ones((1, 1, 2, 4), 'float32'); "
        "assert (fusedattn.attention(x, x, x) == 1).all(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
