"""install() puts the functions under mindspore.ops, undo() puts back what was there."""

import mindspore
import numpy as np
from fusedattn.like import mindspore as door
from layouts import tensor

NAMES = ("flash_attention_score", "ring_attention_update", "nsa_compress", "speed_fusion_attention")


def found():
    return [getattr(mindspore.ops, name) for name in NAMES]


def test_install_and_undo():
    before = found()
    installation = door.install()
    try:
        assert found() == [getattr(door, name) for name in NAMES]
        ones = tensor(np.ones((2, 4, 64)), "float16")
        assert (mindspore.ops.flash_attention_score(ones, ones, ones, 4) == 1).all()
    finally:
        installation.undo()
    assert found() == before
    installation.undo()
    assert found() == before


def test_as_a_context():
    before = found()
    with door.install():
        assert found() != before
    assert found() == before


def test_installed_twice():
    before = found()
    with door.install():
        once = found()
        with door.install():
            assert found() == once
        assert found() == once
    assert found() == before
