"""Tensors are read and written where they lie: views, operators that have not finished, tensors changed in place."""

import subprocess
import sys

import mindspore
import numpy as np
import pytest
from fusedattn.like.mindspore import flash_attention_score
from fusedattn.like.mindspore.tensors import addresses, readable
from golden import Case, assert_close
from layouts import array, draw, tensor
from mindspore import Parameter, Tensor, mint, ops
from mindspore.common.initializer import initializer

B, N, S, D = 2, 3, 20, 16


def attend(q, k, v):
    return flash_attention_score(q, k, v, N, input_layout="BNSD")


def check(q, k, v):
    assert_close(array(attend(q, k, v)), "float32", Case(array(q), array(k), array(v)).forward()[0])


def test_an_address_is_where_the_numbers_lie():
    numbers = np.random.rand(4, 8).astype(np.float32)
    shared = Tensor.from_numpy(numbers)
    assert addresses({"query": shared}) == {"query": numbers.ctypes.data}
    assert readable("query", shared) is shared


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_views(dtype):
    q = tensor(draw(B, S, N, D), dtype).swapaxes(1, 2)
    k = tensor(draw(B, N, S + 5, D + 4), dtype)[:, :, 5:, 4:]
    v = tensor(draw(1, N, S, D), dtype).broadcast_to((B, N, S, D))
    assert not q.is_contiguous() and not k.is_contiguous()
    assert readable("query", q) is q and readable("key", k) is k
    want = Case(array(q), array(k), array(v)).forward()[0]
    assert_close(array(attend(q, k, v)), dtype, want)


def test_gradients_of_views():
    whole = tensor(draw(B, S, N, 3 * D))

    def parts(whole):
        return (whole[..., i * D : (i + 1) * D].swapaxes(1, 2) for i in range(3))

    found = mindspore.grad(lambda whole: attend(*parts(whole)).sum())(whole)
    q, k, v = (array(part) for part in parts(whole))
    wanted = Case(q, k, v).backward(np.ones((B, N, S, D)))
    assert_close(array(found), "float32", np.concatenate(wanted, -1).swapaxes(1, 2), slack=2.0)


def test_rows_that_do_not_lie_side_by_side_are_copied():
    q, k, v = (tensor(draw(B, N, D, S)).swapaxes(2, 3) for _ in range(3))
    assert readable("query", q) is not q
    check(q, k, v)


def test_operators_that_have_not_finished():
    big = tensor(draw(800, 800) / 30)
    for _ in range(6):
        big = ops.matmul(big, big) + big
    pending = big[: B * N * S, :D].reshape(B, N, S, D) * 0.01
    out = attend(pending, pending, pending)
    assert_close(array(out), "float32", Case(*[array(pending)] * 3).forward()[0])


def test_tensors_changed_in_place():
    q, k, v = (tensor(draw(B, N, S, D)) for _ in range(3))
    view = q[:, :, 3:]
    check(view, k, v)
    q.copy_(tensor(draw(B, N, S, D)))
    check(view, k, v)
    q[:, :, 4] = 0.5
    check(view, k, v)


def test_parameters_and_initializers():
    shape = (B, N, S, D)
    check(
        Parameter(tensor(draw(*shape)), name="q"),
        initializer("normal", shape, mindspore.float32),
        tensor(draw(*shape)),
    )


def test_results_outlive_their_call_and_do_not_share():
    q, k, v = (tensor(draw(B, N, S, D)) for _ in range(3))
    first = attend(q, k, v)
    copy = first.asnumpy().copy()
    others = [attend(mint.neg(q), k, v) for _ in range(5)]
    assert (first.asnumpy() == copy).all()
    assert all(other.data_ptr() != first.data_ptr() for other in others)


def test_sizes_of_zero():
    empty = mint.zeros((B, N, 0, D))
    q = tensor(draw(B, N, S, D))
    assert attend(empty, q, q).shape == (B, N, 0, D)
    assert not attend(q, empty, empty).any()


def test_importing_fusedattn_does_not_import_mindspore():
    code = "import fusedattn, sys; sys.exit('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
