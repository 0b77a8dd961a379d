"""accelerate_torch() and its end: handles, blocks and threads; torch is as it was."""

import subprocess
import sys
import threading
import warnings

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402
from accelerated_calls import (  # noqa: E402, F401
    TORCHS_OWN,
    counted_runs,
    torch_is_left_as_it_was,
)

import fusedattn  # noqa: E402
from fusedattn.like import sdpa_kernels  # noqa: E402


def test_handles_nest_and_undo_once_each():
    scripted = dict(torch.jit._builtins._get_builtin_table())
    one, two = fusedattn.accelerate_torch(), fusedattn.accelerate_torch()
    entry = F.scaled_dot_product_attention
    assert entry is not TORCHS_OWN and "runs on fusedattn" in repr(one)
    one.undo()
    one.undo()
    assert F.scaled_dot_product_attention is entry and "as before" in repr(one)
    with fusedattn.accelerated() as three:
        two.undo()
        assert F.scaled_dot_product_attention is entry and "runs" in repr(three)
    assert F.scaled_dot_product_attention is TORCHS_OWN
    assert torch.jit._builtins._get_builtin_table() == scripted

    @fusedattn.accelerated()
    def decorated():
        return F.scaled_dot_product_attention

    assert decorated() is not TORCHS_OWN and decorated() is not TORCHS_OWN


def test_an_error_inside_a_block_undoes_it():
    with pytest.raises(ZeroDivisionError), fusedattn.accelerated():
        raise ZeroDivisionError
    assert F.scaled_dot_product_attention is TORCHS_OWN


def test_an_entry_that_was_kept_is_torchs_function_after_undo(runs):
    with fusedattn.accelerated():
        kept = F.scaled_dot_product_attention
    given = [torch.randn(2, 3, 4, 8) for _ in range(3)]
    assert torch.equal(kept(*given), TORCHS_OWN(*given)) and runs["forward"] == 0


def test_a_wrapper_put_around_ours_stays_and_works(runs):
    handle = fusedattn.accelerate_torch()
    inner = F.scaled_dot_product_attention
    wrapper = F.scaled_dot_product_attention = lambda *given, **words: inner(*given, **words) + 0
    try:
        handle.undo()
        assert F.scaled_dot_product_attention is wrapper
        given = [torch.randn(2, 3, 4, 8) for _ in range(3)]
        torch.testing.assert_close(F.scaled_dot_product_attention(*given), TORCHS_OWN(*given), atol=0, rtol=0)
        with fusedattn.accelerated():
            assert F.scaled_dot_product_attention(*given).shape == given[0].shape
        assert F.scaled_dot_product_attention is wrapper and runs["forward"] == 1
    finally:
        F.scaled_dot_product_attention = TORCHS_OWN


def test_threads_accelerate_and_undo_at_once():
    given = [torch.randn(1, 2, 4, 8) for _ in range(3)]
    expected, wrong = TORCHS_OWN(*given), []

    def work():
        for _ in range(10):
            with fusedattn.accelerated():
                found = F.scaled_dot_product_attention(*given)
            if not torch.allclose(found, expected, atol=1e-5):
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nothing_is_warned_of_unless_another_package_was_there_first():
    name = sdpa_kernels.FORWARD.removeprefix("aten::")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fusedattn.accelerate_torch().undo()
    other = torch.library.Library("aten", "IMPL")
    try:
        with warnings.catch_warnings(record=True) as theirs:
            warnings.simplefilter("always")
            other.impl(name, lambda query, *_, **__: (query + 1, query[..., 0]), "CPU", allow_override=True)
        assert len(theirs) <= 1  # torch's own, once a process
        with pytest.warns(UserWarning, match="has been replaced before"):
            handle = fusedattn.accelerate_torch()
        query = torch.zeros(1, 1, 2, 4)
        assert not TORCHS_OWN(query, query, query).any()
        assert (TORCHS_OWN(*(query.double(),) * 3) == 1).all()  # what we leave is theirs
        handle.undo()
        assert (TORCHS_OWN(query, query, query) == 1).all()
    finally:
        other._destroy()


def test_a_torch_with_other_operators_is_refused(monkeypatch):
    monkeypatch.setitem(sdpa_kernels.SCHEMAS, sdpa_kernels.FORWARD, "something else")
    with pytest.raises(RuntimeError, match="accepted is torch 2.13's something else"):
        fusedattn.accelerate_torch()


def test_a_torch_that_does_not_give_its_kernels_is_refused(monkeypatch):
    monkeypatch.delattr(torch.library, "get_kernel")
    with pytest.raises(RuntimeError, match="accepted is torch 2.13"):
        fusedattn.accelerate_torch()


def test_a_failure_half_way_leaves_torch_as_it_was(monkeypatch):
    known = sdpa_kernels.kernels

    def one_too_many(tell):
        return known(tell) | {"aten::no_such_operator": None}

    monkeypatch.setattr(sdpa_kernels, "kernels", one_too_many)
    with pytest.raises(RuntimeError, match="no_such_operator"):
        fusedattn.accelerate_torch()
    monkeypatch.undo()
    fusedattn.accelerate_torch().undo()


def test_importing_stays_cheap():
    program = (
        "import sys, fusedattn; assert 'torch' not in sys.modules and fusedattn.accelerate_torch;"
        "import torch; before = set(sys.modules); import fusedattn.like.sdpa; fusedattn.accelerate_torch();"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "assert new <= {'fusedattn', 'ctypes', '_ctypes'} | set(sys.stdlib_module_names), new"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
