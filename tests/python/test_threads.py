"""Results are the same bits for any number of threads, from several at once, and in a forked child."""

import os
from concurrent.futures import ThreadPoolExecutor

import fusedattn
import golden
import pytest
import torch
from fusedattn import _native, causal, window


def draw_case(index):
    rows, columns = [(300, 300), (7, 513), (129, 64)][index % 3]
    dtype = [torch.float32, torch.bfloat16, torch.float16][index % 3]
    shapes = (2, 4, rows, 64), (2, 2, columns, 64), (2, 2, columns, 40), (2, 4, rows, 40)
    return [golden.draw(*shape, dtype=dtype) for shape in shapes]


def run(q, k, v, d_out, mask):
    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
    results = fusedattn.attention(*leaves, mask=mask, return_stats=True)
    return *(r.detach() for r in results), *torch.autograd.grad(results[0], leaves, d_out)


@pytest.mark.parametrize("mask", [None, causal(), window(20, 9)], ids=str)
@pytest.mark.parametrize("index", range(3))
def test_any_number_of_threads(index, mask):
    case, results = draw_case(index), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        assert _native.threads() == (threads, "openmp" if threads > 1 else "serial")
        results.append(run(*case, mask))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_whatever_else_is_in_the_batch():
    case = draw_case(0)
    whole = run(*case, causal())
    single = run(*(t[1:] for t in case), causal())
    assert all(torch.equal(a[1:], b) for a, b in zip(whole, single))


def test_from_several_threads_at_once():
    cases = [draw_case(index) for index in range(3)]
    wanted = [run(*case, causal()) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: run(*cases[index % 3], causal()), range(24)))
    for index, results in enumerate(found):
        assert all(torch.equal(a, b) for a, b in zip(results, wanted[index % 3]))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_forked_child():
    torch.set_num_threads(1)  # torch's own OpenMP team does not survive a fork
    q, k, v, _ = draw_case(0)
    wanted = fusedattn.attention(q, k, v)
    child = os.fork()
    if child == 0:
        same = False
        try:
            same = torch.equal(fusedattn.attention(q, k, v), wanted)
        finally:
            os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
