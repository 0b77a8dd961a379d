"""nsa_compress against its formula, the known answers of its contract, its gradients, and what it refuses."""

import mindspore
import numpy as np
import pytest
from fusedattn.like.mindspore import nsa_compress
from golden import assert_close
from layouts import array, draw, tensor
from mindspore import Tensor

# name, ends, block, stride, heads, then of the output, d_input and d_weight: (sum, sum of magnitudes, checksum)
KNOWN = {
    "several": (
        (80, 80, 97, 176, 193), 32, 16, 2,
        ((1.0546875, 57.5546875, -15.2578125), (1.25, 525.4375, -296.078125), (8.3125, 831.4375, -266.25)),
    ),
    "no overlap": (
        (16, 40, 47, 112), 16, 16, 3,
        ((-1.015625, 49.75, -104.078125), (0.140625, 418.671875, -30.296875), (14.1875, 252.125, 513.71875)),
    ),
    "all short": ((10, 31, 32), 32, 16, 2, ((0, 0, 0),) * 3),
    "one": (
        (300,), 128, 16, 1,
        ((0, 40, -41.140625), (0.328125, 921.328125, -84.578125), (4.21875, 1912.15625, 1041.8125)),
    ),
}  # fmt: skip


def starts(ends, block, stride):
    """The first token of each window."""
    bounds = list(zip((0, *ends), ends))
    return [at for begin, end in bounds for at in range(begin, end - block + 1, stride)]


def compressed(x, w, ends, block, stride):
    rows = [(w[:, :, None] * x[at : at + block]).sum(0) for at in starts(ends, block, stride)]
    return np.stack(rows) if rows else np.zeros((0, *x.shape[1:]))


def gradients(dy, x, w, ends, block, stride):
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for row, at in zip(dy, starts(ends, block, stride)):
        dx[at : at + block] += w[:, :, None] * row
        dw += (x[at : at + block] * row).sum(-1)
    return dx, dw


def found_gradients(x, w, dy, ends, block, stride):
    def loss(x, w):
        return (nsa_compress(x, w, block, stride, actual_seq_len=ends) * dy).astype(mindspore.float32).sum()

    return mindspore.grad(loss, (0, 1))(x, w)


def summary(values):
    flat = values.reshape(-1)
    return flat.sum(), np.abs(flat).sum(), ((np.arange(flat.size) % 97 + 1) * flat).sum()


@pytest.mark.parametrize("name", KNOWN)
def test_known_answers(name):
    ends, block, stride, heads, wanted = KNOWN[name]
    t, n, d = np.indices((ends[-1], heads, 16))
    row, head = np.indices((block, heads))
    x, w = tensor(((7 * t + 3 * n + d) % 11 - 5) / 8), tensor(((5 * row + head) % 7 - 3) / 16)
    y = nsa_compress(x, w, block, stride, actual_seq_len=ends)
    j, n, d = np.indices(y.shape)
    dy = tensor(((3 * j + 5 * n + d) % 13 - 6) / 4)
    dx, dw = found_gradients(x, w, dy, ends, block, stride)
    for values, want in zip((y, dx, dw), wanted):
        assert summary(array(values)) == want


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "sizes", [(4, 128, 16, 16), (8, 128, 64, 16), (1, 16, 32, 32), (3, 256, 128, 16)], ids=str
)
def test_the_formula(sizes, dtype):
    heads, dim, block, stride = sizes
    ends = [int(end) for end in np.cumsum([block + 7, 3, block, 2 * block + 33])]
    x, w = draw(ends[-1], heads, dim, dtype=dtype), draw(block, heads, dtype=dtype)
    x_tensor, w_tensor = tensor(x, dtype), tensor(w, dtype)
    y = nsa_compress(x_tensor, w_tensor, block, stride, actual_seq_len=ends)
    assert str(y.dtype).lower() == dtype
    assert_close(array(y), dtype, compressed(x, w, ends, block, stride))
    dy = draw(*y.shape, dtype=dtype)
    found = found_gradients(x_tensor, w_tensor, tensor(dy, dtype), ends, block, stride)
    for got, want in zip(found, gradients(dy, x, w, ends, block, stride)):
        assert str(got.dtype).lower() == dtype
        assert_close(array(got), dtype, want, slack=2.0)


def test_documented_example():
    x, w = tensor(draw(256, 8, 128), "float16"), tensor(draw(64, 8), "float16")
    assert nsa_compress(x, w, 64, 16, actual_seq_len=(80, 176, 256)).shape == (7, 8, 128)


def test_one_gradient_alone():
    x, w, ends = draw(80, 2, 16), draw(32, 2), (80,)
    dx, dw = gradients(np.ones((4, 2, 16)), x, w, ends, 32, 16)
    of_input = mindspore.grad(lambda x: nsa_compress(x, tensor(w), 32, 16, actual_seq_len=ends).sum())(
        tensor(x)
    )
    of_weight = mindspore.grad(lambda w: nsa_compress(tensor(x), w, 32, 16, actual_seq_len=ends).sum())(
        tensor(w)
    )
    assert_close(array(of_input), "float32", dx)
    assert_close(array(of_weight), "float32", dw)


def test_grad_with_all_arguments_given():
    """As MindSpore's own tests call it: the integers are arguments of the differentiated function."""

    def function(x, w, block, stride, ends):
        return nsa_compress(x, w, block, stride, actual_seq_len=ends)

    x, w = draw(80, 2, 16), draw(32, 2)
    found = mindspore.grad(function, (0, 1))(tensor(x), tensor(w), 32, 16, (80,))
    for got, want in zip(found, gradients(np.ones((4, 2, 16)), x, w, (80,), 32, 16)):
        assert_close(array(got), "float32", want)


def test_views():
    x, w = draw(96, 16, 4), draw(4, 32)
    x_view, w_view = tensor(x).swapaxes(1, 2), tensor(w).swapaxes(0, 1)
    assert not x_view.is_contiguous() and not w_view.is_contiguous()
    x, w, ends = x.swapaxes(1, 2), w.T, (40, 96)
    assert_close(
        array(nsa_compress(x_view, w_view, 32, 16, actual_seq_len=ends)),
        "float32",
        compressed(x, w, ends, 32, 16),
    )
    dy = draw(3, 4, 16)
    for got, want in zip(
        found_gradients(x_view, w_view, tensor(dy), ends, 32, 16), gradients(dy, x, w, ends, 32, 16)
    ):
        assert_close(array(got), "float32", want)


def test_infinities_and_nan_stay_in_their_windows():
    x = draw(64, 2, 16)
    x[0, 0, 0], x[20, 1, 3] = np.inf, np.nan
    y = array(nsa_compress(tensor(x), tensor(np.ones((16, 2))), 16, 16, actual_seq_len=[64]))
    assert np.isinf(y[0, 0, 0]) and np.isnan(y[1, 1, 3]) and np.isfinite(y).sum() == y.size - 2


def test_second_derivatives_are_refused():
    w = tensor(draw(32, 2))
    first = mindspore.grad(lambda x: (nsa_compress(x, w, 32, 16, actual_seq_len=(80,)) ** 2).sum())
    with pytest.raises(
        NotImplementedError, match="the gradient of a gradient of a compression is not computed"
    ):
        mindspore.grad(lambda x: first(x).sum())(tensor(draw(80, 2, 16)))


X, W = tensor(np.ones((64, 4, 32)), "float16"), tensor(np.ones((32, 4)), "float16")


def ones(*shape, dtype="float16"):
    return tensor(np.ones(shape), dtype)


REFUSED = [
    (TypeError, dict(input=np.ones((64, 4, 32))), "input is a ndarray; accepted is a mindspore.Tensor"),
    (TypeError, dict(weight=None), "weight is a NoneType"),
    (TypeError, dict(weight=ones(32, 4, dtype="float32")), "weight has dtype float32; accepted is input's"),
    (
        TypeError,
        dict(input=X.astype(mindspore.int32), weight=W.astype(mindspore.int32)),
        "input has dtype int32",
    ),
    (TypeError, dict(compress_block_size=32.0), "compress_block_size is 32.0"),
    (TypeError, dict(compress_block_size=True), "compress_block_size is True"),
    (TypeError, dict(compress_stride="16"), "compress_stride is '16'"),
    (TypeError, dict(actual_seq_len=None), "actual_seq_len is None"),
    (TypeError, dict(actual_seq_len=64), "actual_seq_len is a int"),
    (TypeError, dict(actual_seq_len=Tensor([64])), "actual_seq_len is a Tensor"),
    (TypeError, dict(actual_seq_len=[32.0, 64.0]), r"actual_seq_len\[0\] is 32.0"),
    (ValueError, dict(actual_seq_len=[0, 64]), r"actual_seq_len\[0\] is 0; accepted are integers from 1 on"),
    (ValueError, dict(actual_seq_len=[-1, 64]), r"actual_seq_len\[0\] is -1"),
    (RuntimeError, dict(input=ones(64, 128)), r"input has shape \[64, 128\]"),
    (RuntimeError, dict(weight=ones(32, 4, 1)), r"weight has shape \[32, 4, 1\]"),
    (RuntimeError, dict(weight=ones(33, 4)), r"weight has shape \[33, 4\]"),
    (RuntimeError, dict(weight=ones(32, 5)), r"weight has shape \[32, 5\]; accepted is \[32, 4\]"),
    (RuntimeError, dict(weight=ones(0, 4)), r"weight has shape \[0, 4\]"),
    (RuntimeError, dict(input=ones(64, 4, 18)), "input has head size D = 18"),
    (RuntimeError, dict(input=ones(64, 4, 272)), "input has head size D = 272"),
    (RuntimeError, dict(input=ones(64, 0, 32), weight=ones(32, 0)), "input has shape"),
    (RuntimeError, dict(input=ones(64, 129, 32), weight=ones(32, 129)), "input has N = 129 heads"),
    (RuntimeError, dict(input=ones(0, 4, 32)), "input has shape"),
    (RuntimeError, dict(compress_block_size=18), "compress_block_size is 18"),
    (RuntimeError, dict(compress_block_size=144), "compress_block_size is 144"),
    (RuntimeError, dict(compress_block_size=0), "compress_block_size is 0"),
    (RuntimeError, dict(compress_stride=10), "compress_stride is 10"),
    (RuntimeError, dict(compress_stride=24), "compress_stride is 24"),
    (
        RuntimeError,
        dict(compress_stride=48),
        "compress_stride is 48; accepted are multiples of 16 from 16 to",
    ),
    (RuntimeError, dict(actual_seq_len=[]), "actual_seq_len is empty"),
    (RuntimeError, dict(actual_seq_len=[48, 32, 64]), r"actual_seq_len\[1\] is 32"),
    (
        RuntimeError,
        dict(actual_seq_len=[32, 60]),
        "actual_seq_len ends with 60; accepted is the number of tokens",
    ),
]


@pytest.mark.parametrize(("exception", "given", "sentence"), REFUSED, ids=[row[2] for row in REFUSED])
def test_refused(exception, given, sentence):
    given = (
        dict(input=X, weight=W, compress_block_size=32, compress_stride=16, actual_seq_len=(32, 64)) | given
    )
    positional = [given.pop(name) for name in ("input", "weight", "compress_block_size", "compress_stride")]
    with pytest.raises(exception, match=sentence) as caught:
        nsa_compress(*positional, **given)
    assert type(caught.value) is exception


def test_lengths_are_required():
    with pytest.raises(TypeError, match="actual_seq_len"):
        nsa_compress(X, W, 32, 16)
