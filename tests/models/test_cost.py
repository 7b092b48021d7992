"""The closed-form costs against networks worked out by hand, and against built modules."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mgnas.models import ArchitectureConfig, build_model, cost_by_part, count_macs, count_weights
from mgnas.models.cost import total_cost


def run_macs(config: ArchitectureConfig, image_size: int) -> int:
    """One per weight and output position, of every convolution and linear layer each time it runs."""
    model = build_model(config).eval()
    macs = 0

    def count(layer, _inputs, output):
        nonlocal macs
        macs += layer.weight.numel() * output[0, 0].numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, config.in_channels, image_size, image_size))
    return macs


BY_HAND = [
    # Stem 27c weights and 2c of its batch norm, two 9cc convolutions with 2c each, linear 10c + 10; c = 4.
    pytest.param(
        {"family": "resnet", "base_channels": [4], "blocks": 1},
        108 + 8 + 2 * (144 + 8) + 50,
        64 * (108 + 2 * 144) + 40,
        id="resnet",
    ),
    # One step on the finest and coarsest level: no A there, for u = 0 in f - A u. 8 x 8 only.
    pytest.param(
        {"family": "mgnet", "base_channels": [4], "smoothing_steps": 1},
        108 + 8 + 144 + 16 + 50,
        64 * (108 + 144) + 40,
        id="mgnet-one-step",
    ),
    # Level 1 runs A after each of its two steps, level 2 (4 x 4) only after the first. Pi and R: 9 weights per
    # output channel each.
    pytest.param(
        {"family": "mgnet", "base_channels": [4, 8], "smoothing_steps": 2},
        108 + 8 + (2 * 144 + 32) + 2 * 72 + (2 * 576 + 64) + 90,
        64 * (108 + 2 * 144 + 2 * 144) + 16 * (2 * 72 + 576 + 2 * 576) + 80,
        id="mgnet-two-levels",
    ),
    # Channel levels 4 -> 2, two groups: A and B have 4 * 2 * 9 = 72 weights and run twice each (A: after the step
    # before the correction and on the correction); the coarse level has 36 each, B runs twice and A once.
    pytest.param(
        {"family": "mgiad", "base_channels": [4], "smoothing_steps": 1, "group_size": 2, "fully_coupled_channels": 2},
        108 + 8 + (2 * 72 + 2 * 16) + (2 * 36 + 2 * 8) + 50,
        64 * (108 + 4 * 72 + 3 * 36) + 40,
        id="mgiad-one-cycle",
    ),
    # Channel levels 4 -> 2 with 5x5 kernels on the first: A and B are depthwise and have 4 * 25 weights.
    pytest.param(
        {
            "family": "mgiad",
            "base_channels": [4],
            "smoothing_steps": 1,
            "group_size": 1,
            "kernel_size": 5,
            "fully_coupled_channels": 2,
        },
        108 + 8 + (2 * 100 + 2 * 16) + (2 * 36 + 2 * 8) + 50,
        64 * (108 + 4 * 100 + 3 * 36) + 40,
        id="mgiad-depthwise-5x5",
    ),
    # A stem of stride 2 computes 4 x 4 of the 8 x 8 positions. One of stride 4 has 5x5 kernels, 75 weights per channel.
    pytest.param(
        {"family": "resnet", "base_channels": [4], "blocks": 1, "stem_stride": 2},
        108 + 8 + 2 * (144 + 8) + 50,
        16 * (108 + 2 * 144) + 40,
        id="stem-stride-2",
    ),
    pytest.param(
        {"family": "resnet", "base_channels": [4], "blocks": 1, "stem_stride": 4},
        300 + 8 + 2 * (144 + 8) + 50,
        4 * (300 + 2 * 144) + 40,
        id="stem-stride-4",
    ),
    # A polynomial of degree 2 has no B and two coefficients a step. A runs twice for it in each of two steps, and once
    # between them.
    pytest.param(
        {
            "family": "mgnet",
            "base_channels": [4],
            "smoothing_steps": 2,
            "smoother": "polynomial",
            "polynomial_degree": 2,
        },
        108 + 8 + (144 + 2 * 2 + 32) + 50,
        64 * (108 + 5 * 144) + 40,
        id="polynomial",
    ),
    # With degree 0 and one step on the only level nothing is left of the smoother but its batch norms.
    pytest.param(
        {
            "family": "mgnet",
            "base_channels": [4],
            "smoothing_steps": 1,
            "smoother": "polynomial",
            "polynomial_degree": 0,
        },
        108 + 8 + 16 + 50,
        64 * 108 + 40,
        id="polynomial-degree-0",
    ),
    # Channel levels 4 -> 2 (below the threshold 4). Fine: two grouped convolutions of 72 and batch norms, R and P of
    # 2 * 2 = 4 each, batch norm after P. Coarse: two ordinary convolutions of 36.
    pytest.param(
        {"family": "mgic", "base_channels": [4], "blocks": 1, "group_size": 2, "fully_coupled_channels": 4},
        108 + 8 + (2 * (72 + 8) + 2 * 4 + 8) + 2 * (36 + 4) + 50,
        64 * (108 + 2 * 72 + 2 * 4 + 2 * 36) + 40,
        id="mgic-one-cycle",
    ),
]


@pytest.mark.parametrize(("values", "weights", "macs"), BY_HAND)
def test_costs_worked_out_by_hand(values, weights, macs):
    config = ArchitectureConfig.from_dict(values)
    assert (count_weights(config), count_macs(config, 8)) == (weights, macs)


@settings(max_examples=500)
@given(config=st.from_type(ArchitectureConfig))
def test_counted_weights_equal_built_ones(config):
    assert count_weights(config) == sum(parameter.numel() for parameter in build_model(config).parameters())


@settings(max_examples=200)
@given(config=st.from_type(ArchitectureConfig), image_size=st.sampled_from((8, 9, 11, 16)))
def test_counted_macs_equal_run_ones(config, image_size):
    assert count_macs(config, image_size) == run_macs(config, image_size)


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
@pytest.mark.parametrize("family", ["resnet", "mgnet", "mgic", "mgiad"])
@settings(max_examples=40)
@given(image_size=st.integers(8, 65), levels=st.integers(1, 6))
def test_counted_macs_equal_run_ones_at_every_size(family, stem_stride, image_size, levels):
    config = ArchitectureConfig(
        family=family,
        base_channels=(4,) * levels,
        smoothing_steps=1,
        blocks=1,
        group_size=2,
        fully_coupled_channels=3,
        stem_stride=stem_stride,
    )
    assert count_macs(config, image_size) == run_macs(config, image_size)


def test_macs_of_unshared_single_steps_equal_run_ones():
    # With one step per level nothing is left to share, and what is built runs A once per level, not twice.
    config = ArchitectureConfig(family="mgnet", base_channels=(4, 8, 16), smoothing_steps=1, sharing="none")
    assert count_macs(config, 8) == run_macs(config, 8)


@settings(max_examples=100)
@given(config=st.from_type(ArchitectureConfig))
def test_parts_add_up_to_the_whole(config):
    names, costs = zip(*cost_by_part(config, 11), strict=True)
    assert (names[0], names[-1], len(set(names))) == ("stem", "head", len(names))
    assert sum(cost.weights for cost in costs) == count_weights(config)
    assert sum(cost.macs for cost in costs) == count_macs(config, 11)


def test_what_takes_time_worked_out_by_hand():
    # Channel levels 4 -> 2 of 64 pixels, in 2 groups of 2: A and B of the first run twice each. The stem, B twice and A
    # once on the second level, the linear layer and both transfers are the other calls.
    config = ArchitectureConfig(
        family="mgiad", base_channels=(4,), smoothing_steps=1, group_size=2, fully_coupled_channels=2
    )
    cost = total_cost(config, 8)
    assert (cost.calls, cost.groups) == (4 + 1 + 3 + 1 + 2, 4 * 2)
    assert cost.unfolded == 4 * 64 * 9 * 4
    assert cost.transferred == 64 * (4 + 2)
    assert cost.written == 64 * (4 + 4 * 4 + 3 * 2)
    assert cost.grouped_macs == 64 * 4 * 72


@settings(max_examples=50)
@given(config=st.from_type(ArchitectureConfig))
def test_counted_calls_and_groups_equal_run_ones(config):
    model = build_model(config).eval()
    run = {"calls": 0, "groups": 0, "unfolded": 0, "written": 0}

    def count(layer, inputs, output):
        run["calls"] += 1
        groups = getattr(layer, "groups", 1)
        if 1 < groups < inputs[0].shape[1]:
            run["groups"] += groups
            run["unfolded"] += inputs[0].shape[1] * layer.kernel_size[0] ** 2 * output[0, 0].numel()
        run["written"] += output.numel() if isinstance(layer, nn.Conv2d) else 0

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, config.in_channels, 16, 16))
    cost = total_cost(config, 16)
    assert (cost.groups, cost.unfolded, cost.written) == (run["groups"], run["unfolded"], run["written"])
    fixed = config.canonical().family == "mgiad" and config.channel_transfer == "fixed"
    transfers = sum(2 * (len(hierarchy) - 1) for hierarchy in config.channel_hierarchies) if fixed else 0
    assert cost.calls == run["calls"] + transfers
