"""Every test draws the same numbers, NumPy's and MindSpore's."""

import mindspore
import numpy
import pytest


@pytest.fixture(autouse=True)
def same_numbers():
    numpy.random.seed(20)
    mindspore.manual_seed(20)
