"""benchmarks/training/operations.py: what it counts in a step."""

import operations
import torch
from cases import make_parser

from mgnas.models import layers


def test_operations_below_autograd_are_counted_without_views_and_allocations():
    x = torch.ones(3, 4, requires_grad=True)
    with operations.Operations() as counted:
        loss = (torch.empty(3, 4).fill_(2) * x).t().sum()
        loss.backward()
    # Forward: fill_, mul, sum. Backward: ones_like, and mul; the expansions of the sum and of the transpose are views.
    assert counted.counts == {
        "aten.fill_.Scalar": 1,
        "aten.mul.Tensor": 2,
        "aten.sum.default": 1,
        "aten.ones_like.default": 1,
    }
    assert counted.copies == 0


def test_networks_have_the_form_for_gpus_inside_only():
    layer, features = torch.nn.ReLU(), torch.ones(1)
    assert layers.trains_on_cpu(layer, features)
    with operations.networks_as_on_a_gpu():
        assert not layers.trains_on_cpu(layer, features)
    assert layers.trains_on_cpu(layer, features)


def test_the_count_of_a_step_does_not_depend_on_the_batch():
    """Nor on the number of the step: it is a whole number of operations."""
    rows = []
    for batch in ("2", "8"):
        options = make_parser("Test.").parse_args(["--precision", "bfloat16", "--batch", batch])
        with operations.networks_as_on_a_gpu():
            rows.append(operations.count_operations("digits-mgnet", options))
    assert rows[0] == rows[1]
    assert rows[0]["operations a step"] > 100
    assert rows[0]["operations a step"] % 1 == 0
