"""Every test draws the same numbers and leaves torch's number of threads as it was."""

import pytest
import torch


@pytest.fixture(autouse=True)
def same_numbers_and_threads():
    threads = torch.get_num_threads()
    torch.manual_seed(20)
    yield
    torch.set_num_threads(threads)
