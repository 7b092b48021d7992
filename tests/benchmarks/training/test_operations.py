"""benchmarks/training/operations.py: what it counts in a step."""

import operations
import pytest
import torch

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


def test_batch_norms_ask_for_kernels_and_not_for_pytorchs_operations():
    pytest.importorskip("triton")
    with operations.networks_as_on_a_gpu():
        ours, theirs = (
            operations.count_operations("digits-mgnet", operations.parser().parse_args(options))
            for options in ([], ["--pytorch-batch-norm"])
        )
    assert theirs["of them batch norm and ReLU"] == 0
    # In each pass, batch norms of 64 images of 8 x 8 pixels, after the stem and in two steps, are two kernels. Those of
    # 4 x 4 pixels, in two steps, are one.
    assert ours["of them batch norm and ReLU"] == 2 * (2 * 5 + 4)
    # PyTorch has two operations for each of the 9 in each pass. It also adds up the residual of the second step on each
    # level, the gradients of the two uses of three increments, and those of one residual.
    saved = 2 * 2 * 9 - 2 * (2 * 5 + 4)
    assert theirs["operations a step"] - ours["operations a step"] - saved == 2 + 3 + 1


def test_the_count_of_a_step_does_not_depend_on_the_batch():
    """Nor on the number of the step: it is a whole number of operations."""
    pytest.importorskip("triton")
    rows = []
    for batch in ("2", "8"):
        options = operations.parser().parse_args(["--batch", batch])
        with operations.networks_as_on_a_gpu():
            rows.append(operations.count_operations("digits-mgnet", options))
    gigabytes = [row.pop("GB a step") for row in rows]
    assert gigabytes[1] == pytest.approx(4 * gigabytes[0], rel=0.5)
    assert rows[0] == rows[1]
    assert rows[0]["operations a step"] > 100
    assert rows[0]["operations a step"] % 1 == 0
