"""benchmarks/training/throughput.py: it compares equal networks, and a case that fails is a line."""

import pytest
import throughput
import torch
from cases import CASES, random_images
from plain_recipe import plain_network

from mgnas.search.training.trainer import Trainer


@pytest.fixture(params=["digits-mgiad", "digits-mgic", "digits-mgnet"])
def networks(request):
    """mgnas's network and the plain one of a case."""
    case = CASES[request.param]
    model = Trainer(case.architecture, case.settings, random_images(case, 8), None, precision="float32").model
    return model, plain_network(model), case


def test_both_recipes_begin_with_the_same_network(networks):
    assert throughput.check_equal_loss(*networks, "cpu") < 1e-13


def test_another_weight_is_another_network(networks):
    model, plain, case = networks
    with torch.no_grad():
        next(plain.parameters())[0, 0, 0, 0] += 0.001
    with pytest.raises(ValueError, match="are not the same"):
        throughput.check_equal_loss(model, plain, case, "cpu")


@pytest.mark.slow
def test_both_recipes_side_by_side(run_benchmark):
    (row,) = run_benchmark("throughput.py", "--loader-workers", "0")
    assert row["ratio"] == pytest.approx(row["mgnas images/s"] / row["plain images/s"], rel=0.05)
