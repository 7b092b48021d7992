"""benchmarks/training/threads.py: both numbers of threads train the same network."""

import pytest
import threads
import torch


@pytest.fixture(autouse=True)
def _own_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_row_has_the_networks_size_and_the_ratio():
    architecture, size, _ = threads.CASES[0]
    row = threads.measure(architecture, size, 16, 2, 2)
    assert row["network"] == architecture.describe()
    assert row["values of an activation"] == f"{16 * 4 * 8 * 8:,}"
    assert float(row["ms of a step, 1 thread"]) > 0
    low, high = row["2 threads are faster by"].partition("(")[2].rstrip(")").split(" to ")
    assert 0 < float(low) <= float(high)
