"""benchmarks/training/threads.py: both numbers of threads train the same network."""

from dataclasses import replace

import pytest
import threads
import torch

from mgnas.space.candidate import TrainingSettings


@pytest.fixture(autouse=True)
def _own_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_row_has_the_networks_size_and_the_ratio():
    case = replace(threads.CASES[0], settings=TrainingSettings(epochs=9, batch_size=16))
    row = threads.measure(case, 2, 2)
    assert row["network"] == case.architecture.describe()
    assert row["values of an activation"] == f"{16 * 4 * 8 * 8:,}"
    assert float(row["ms of a step, 1 thread"]) > 0
    low, high = row["2 threads are faster by"].partition("(")[2].rstrip(")").split(" to ")
    assert 0 < float(low) <= float(high)
