"""What every network can do: take any image, learn with every weight, start where it should."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mgnas.models import ArchitectureConfig, build_model
from mgnas.models.layers import ResidualOperator, Stem
from mgnas.models.mgiad import FixedChannelTransfer, LearnedChannelTransfer
from mgnas.models.smoothers import SmoothingStep


def assert_all_weights_learn(net, config):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Networks of one channel must not die of a negative one.
            module.bias.data = module.bias.abs() + 0.1
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(8, config.in_channels, 16, 16, dtype=torch.float64, generator=generator)
    F.cross_entropy(net.train()(images), torch.arange(8) % config.num_classes).backward()
    # A weight that cancels out has rounding errors for a gradient, not exact zeros.
    dead = [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9]
    assert dead == []


@settings(max_examples=80)
@given(config=st.from_type(ArchitectureConfig))
def test_every_weight_learns(network, config):
    assert_all_weights_learn(network(config), config)


@pytest.mark.parametrize("sharing", ["none", "A", "AB"])
@pytest.mark.parametrize("steps", [(1,), (2,), (1, 1), (2, 1), (1, 2), (1, 1, 1), (3, 2, 1)])
def test_every_weight_of_mgnet_learns_however_few_the_steps(network, steps, sharing):
    channels = (4, 8, 8)[: len(steps)]
    config = ArchitectureConfig(family="mgnet", base_channels=channels, smoothing_steps=steps, sharing=sharing)
    assert_all_weights_learn(network(config), config)


FAMILIES = [
    pytest.param({"family": "resnet"}, id="resnet"),
    pytest.param({"family": "mgnet", "sharing": "none"}, id="mgnet-none"),
    pytest.param({"family": "mgnet", "sharing": "AB", "resolution_transfer": "dense"}, id="mgnet-AB-dense"),
    pytest.param({"family": "mgnet", "smoother": "polynomial", "polynomial_degree": 2}, id="mgnet-polynomial"),
    pytest.param(
        {"family": "mgiad", "group_size": 1, "kernel_size": 7, "fully_coupled_channels": 4}, id="mgiad-depthwise-7x7"
    ),
    pytest.param({"family": "mgic", "group_size": 4}, id="mgic"),
    pytest.param({"family": "mgic", "group_size": 4, "stem_stride": 4}, id="mgic-stem-4"),
    pytest.param({"family": "mgnet", "stem_stride": 2}, id="mgnet-stem-2"),
    pytest.param({"family": "mgiad", "group_size": 4, "fully_coupled_channels": 2}, id="mgiad-fixed"),
    pytest.param(
        {"family": "mgiad", "group_size": 4, "fully_coupled_channels": 2, "channel_transfer": "learned"},
        id="mgiad-learned",
    ),
]


@pytest.mark.parametrize("values", FAMILIES)
@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 6])
@given(data=st.data())
@settings(max_examples=4)
def test_any_image_from_8_by_8_up_gives_logits(values, levels, data):
    in_channels, count = data.draw(st.sampled_from([1, 3])), data.draw(st.integers(1, 3))
    height, width = data.draw(st.integers(8, 24)), data.draw(st.integers(8, 24))
    config = ArchitectureConfig(base_channels=(8,) * levels, in_channels=in_channels, num_classes=7, **values)
    with torch.no_grad():
        logits = build_model(config).eval()(torch.randn(count, in_channels, height, width))
    assert logits.shape == (count, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize("values", FAMILIES)
def test_six_levels_train_on_8_by_8_images(values):
    # The last three levels see single pixels, of which batch norm needs two: one per image.
    model = build_model(ArchitectureConfig(base_channels=(8,) * 6, **values))
    assert model.train()(torch.randn(2, 3, 8, 8)).isfinite().all()


@given(group_size=st.sampled_from([2, 4, 6, 8, 16, 48]), groups=st.integers(1, 4), seed=st.integers(0, 99))
def test_learned_channel_transfer_starts_as_the_fixed_one(group_size, groups, seed):
    channels = group_size * groups
    generator = torch.Generator().manual_seed(seed)
    fine = torch.randn(2, channels, 3, 3, generator=generator)
    coarse = torch.randn(2, channels // 2, 3, 3, generator=generator)
    fixed, learned = FixedChannelTransfer(channels), LearnedChannelTransfer(channels, groups)
    torch.testing.assert_close(learned.restrict(fine), fixed.restrict(fine))
    torch.testing.assert_close(learned.prolong(coarse), fixed.prolong(coarse))


@pytest.mark.parametrize("training", [False, True], ids=["evaluated", "trained"])
def test_fixed_channel_transfer_averages_pairs_and_repeats_them(training):
    fine = torch.tensor([1.0, 3.0, 10.0, 20.0]).view(1, 4, 1, 1)
    assert FixedChannelTransfer(4).train(training).restrict(fine).flatten().tolist() == [2.0, 15.0]
    twice = [1.0, 1.0, 3.0, 3.0, 10.0, 10.0, 20.0, 20.0]
    assert FixedChannelTransfer(8).train(training).prolong(fine).flatten().tolist() == twice


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_strided_stem_skips_no_row_or_column(stride):
    stem = Stem(ArchitectureConfig(family="resnet", base_channels=(4,), in_channels=1, stem_stride=stride))
    images = torch.rand(1, 1, 33, 33, requires_grad=True)
    stem[0](images).square().sum().backward()
    assert (images.grad != 0).all()


@settings(max_examples=40)
@given(config=st.from_type(ArchitectureConfig))
def test_only_the_linear_layer_has_a_bias(config):
    model = build_model(config)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert [layer.bias is not None for layer in layers] == [isinstance(layer, nn.Linear) for layer in layers]


@settings(max_examples=40)
@given(config=st.from_type(ArchitectureConfig))
def test_equal_seeds_give_equal_networks(config):
    torch.manual_seed(11)
    first = build_model(config)
    torch.manual_seed(11)
    second = build_model(config.canonical())
    assert list(first.state_dict()) == list(second.state_dict())
    assert all(map(torch.equal, first.parameters(), second.parameters()))


@pytest.mark.parametrize("family", ["mgnet", "mgiad"])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("steps", [(1,), (2,), (1, 1)])
def test_every_weight_of_a_polynomial_smoother_learns(network, family, degree, steps):
    config = ArchitectureConfig(
        family=family,
        base_channels=(8, 8)[: len(steps)],
        smoothing_steps=steps,
        smoother="polynomial",
        polynomial_degree=degree,
        group_size=2,
        fully_coupled_channels=4,
    )
    assert_all_weights_learn(network(config), config)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_polynomial_computes_the_same_in_training_and_evaluation(degree):
    """Training scales the weights of A by the last coefficient, evaluation scales the output."""
    step = SmoothingStep(4, degree)
    step.coefficients.data.normal_(generator=torch.Generator().manual_seed(0))
    a, features = ResidualOperator(4), torch.rand(2, 4, 5, 5)
    trained, evaluated = (step._polynomial(features, a.train(mode)) for mode in (True, False))
    torch.testing.assert_close(trained, evaluated, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"family": "mgnet", "smoothing_steps": 4}, 0.2),
        ({"family": "mgnet", "smoothing_steps": 32}, 0.1),
        # 2 nu steps on each of the channel levels 32, 16, 8: 12, and 24.
        ({"family": "mgiad", "smoothing_steps": 2, "group_size": 4}, 0.2),
        ({"family": "mgiad", "smoothing_steps": 4, "group_size": 4}, 0.2 * 16 / 24),
    ],
)
def test_the_more_increments_add_up_on_a_level_the_smaller_they_begin(values, expected):
    model = build_model(ArchitectureConfig(base_channels=(32, 32), **values))
    steps = [module for module in model.modules() if isinstance(module, SmoothingStep)]
    assert len(steps) >= 8
    for step in steps:
        torch.testing.assert_close(step.bn2.weight, torch.full_like(step.bn2.weight, expected))
        assert (step.bn1.weight == 1).all()


@pytest.mark.parametrize(
    ("channels", "steps", "expected"),
    [
        ((4, 4, 4, 4), (40, 40, 40, 40), [0.2 * 16 / 40] * 4),
        ((16, 1024), (8, 64), [0.2, 0.2 / 4]),  # 72 sqrt(1024)
        ((16, 1024), (48, 96), [0.2 / 2 / 3, 0.2 / 2 / 6]),  # 144 sqrt(1024)
    ],
)
def test_increments_of_many_channels_on_all_levels_begin_smaller(channels, steps, expected):
    values = {"base_channels": channels, "smoothing_steps": steps, "smoother": "polynomial", "polynomial_degree": 0}
    model = build_model(ArchitectureConfig(family="mgnet", **values))
    for level, count, scale in zip(model.levels, steps, expected, strict=True):
        weights = [module.bn2.weight for module in level.modules() if isinstance(module, SmoothingStep)]
        assert len(weights) == count
        for weight in weights:
            torch.testing.assert_close(weight, torch.full_like(weight, scale))


def test_corrections_and_increments_of_mgic_begin_small():
    model = build_model(ArchitectureConfig(family="mgic", base_channels=(16,), group_size=4))
    added = [module.weight for name, module in model.named_modules() if name.endswith((".bn", "bn2"))]
    assert len(added) == 2 * (2 * 2 + 1)
    assert all((weight == 0.2).all() for weight in added)
