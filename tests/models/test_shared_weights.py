"""Weights that are prepared for all operators of a network at once, against weights that each use prepares itself.

The networks take the form that a GPU trains, which a CPU can compute, too.
"""

from collections import Counter

import pytest
import torch
from torch import nn

from mgnas.models import ArchitectureConfig, build_model, layers, shared_weights
from mgnas.models.gathered_gradients import GatheredGradient
from mgnas.models.shared_weights import Shared, prepare

NETWORKS = {
    "mgnet AB": {"family": "mgnet", "base_channels": (4, 8), "smoothing_steps": 3},
    "mgnet A": {"family": "mgnet", "base_channels": (4, 8), "smoothing_steps": 3, "sharing": "A"},
    "mgnet, one last step": {"family": "mgnet", "base_channels": (4, 8), "smoothing_steps": (3, 1)},
    "mgnet none": {"family": "mgnet", "base_channels": (4, 8), "smoothing_steps": 2, "sharing": "none"},
    "mgiad": {"family": "mgiad", "base_channels": (8, 16), "group_size": 4, "fully_coupled_channels": 4},
    "mgiad, one level": {"family": "mgiad", "base_channels": (8,), "group_size": 4, "fully_coupled_channels": 2},
    "mgiad, learned": {
        "family": "mgiad",
        "base_channels": (8, 16),
        "group_size": 4,
        "fully_coupled_channels": 4,
        "channel_transfer": "learned",
    },
    "mgiad, depthwise 7x7": {
        "family": "mgiad",
        "base_channels": (8, 16),
        "group_size": 1,
        "kernel_size": 7,
        "fully_coupled_channels": 4,
    },
    "mgnet, degree 0": {"family": "mgnet", "base_channels": (4, 8), "smoother": "polynomial", "polynomial_degree": 0},
    "mgnet, degree 3": {"family": "mgnet", "base_channels": (4, 8), "smoother": "polynomial", "polynomial_degree": 3},
    "mgiad, degree 1": {
        "family": "mgiad",
        "base_channels": (8, 16),
        "group_size": 4,
        "fully_coupled_channels": 4,
        "smoother": "polynomial",
        "residual_activation": True,
    },
}


@pytest.fixture(params=[True, False], ids=["gathered", "one by one"])
def gathers(request, monkeypatch) -> bool:
    """Whether the gradients of a weight's uses are computed as one."""
    if not request.param:
        monkeypatch.setattr(shared_weights, "GATHERED_VALUES", 0)
    return request.param


@pytest.fixture(params=NETWORKS)
def model(request) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(ArchitectureConfig(in_channels=1, **NETWORKS[request.param])).train()


def gradients(model: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)).to(model.head.linear.weight.dtype)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16, cache_enabled=False):
        model(images).square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_gradients_are_those_of_weights_prepared_at_each_use(model, gpu_form, gathers, monkeypatch):
    model = model.double()
    together = gradients(model)
    monkeypatch.setattr("mgnas.models.mgnet.prepare", lambda *_: None)
    alone = gradients(model)
    for name, gradient in alone.items():
        torch.testing.assert_close(together[name], gradient, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("channels", [8, 64])
def test_gradients_do_not_depend_on_how_groups_are_merged(model, gpu_form, gathers, monkeypatch, channels):
    model = model.double().to(memory_format=torch.channels_last)
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def result() -> list[torch.Tensor]:
        model.zero_grad()
        logits = model(images)
        logits.square().sum().backward()
        return [logits.detach(), *(parameter.grad for parameter in model.parameters())]

    monkeypatch.setattr(layers, "_GPU_CHANNELS", 0)
    monkeypatch.setattr(layers, "_GPU_DEPTHWISE_CHANNELS", 0)
    separate = result()
    monkeypatch.setattr(layers, "_GPU_CHANNELS", channels)
    monkeypatch.setattr(layers, "_GPU_DEPTHWISE_CHANNELS", channels)
    monkeypatch.setattr(layers, "_GPU_MANY_PIXELS", 0)
    for one, other in zip(result(), separate, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_gradients_in_half_precision_point_where_those_of_float32_do(model, gpu_form, gathers):
    exact = gradients(model)
    half = gradients(model, torch.bfloat16)
    assert all(gradient.dtype is torch.float32 for gradient in half.values())
    weights = [name for name in exact if name.endswith("weight") and exact[name].ndim == 4]
    for name in weights:
        cosine = nn.functional.cosine_similarity(half[name].flatten(), exact[name].flatten(), dim=0)
        assert cosine > 0.95, name


def test_each_use_takes_its_own_alias_and_none_is_left(model, gpu_form, gathers, monkeypatch):
    """Or all uses the only one, if gradients are gathered."""
    made, used = {}, Counter()
    repeatedly = layers.Convolution.repeatedly

    def noting(shared, features):
        made.update(prepare(shared, features))
        return made

    def counting(operator, *arguments):
        convolution = repeatedly(operator, *arguments)

        def counted(*inputs, **more):
            used[operator] += 1
            return convolution(*inputs, **more)

        return counted

    monkeypatch.setattr("mgnas.models.mgnet.prepare", noting)
    monkeypatch.setattr(layers.Convolution, "repeatedly", counting)
    model(torch.randn(2, 1, 8, 8))
    assert {use.operator: used[use.operator] for use in model._shared} == {
        use.operator: use.times for use in model._shared
    }
    assert {operator: len(kernels) for operator, kernels in made.items()} == {
        use.operator: 1 if gathers else use.times for use in model._shared
    }
    kernels = [kernel for kernels in made.values() for kernel in kernels]
    assert len({id(kernel.weight) for kernel in kernels}) == len(kernels)


def test_a_levels_gradients_are_computed_before_those_of_the_level_before(gpu_form, monkeypatch):
    """So that what is gathered is in memory for one level only."""
    model = build_model(ArchitectureConfig(in_channels=1, **NETWORKS["mgiad"])).train()
    leave, weight_gradient = GatheredGradient.leave, GatheredGradient.weight_gradient
    waiting, sizes = {}, set()

    def leaving(gathered, use, features, *more):
        size = features.shape[-1]
        assert set(waiting.values()) <= {size}
        waiting[gathered] = size
        sizes.add(size)
        leave(gathered, use, features, *more)

    def computing(gathered, weight):
        waiting.pop(gathered, None)
        return weight_gradient(gathered, weight)

    monkeypatch.setattr(GatheredGradient, "leave", leaving)
    monkeypatch.setattr(GatheredGradient, "weight_gradient", computing)
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    assert sizes == {4, 8}
    assert not waiting


def test_all_weights_are_prepared_in_one_operation_each(model, gpu_form, gathers):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        gradients(model, torch.bfloat16)
    counts = {event.key: event.count for event in profile.key_averages()}
    most_uses = 1 if gathers else max(use.times for use in model._shared)
    assert counts["aten::_foreach_copy_"] == 2  # there and back
    assert counts.get("aten::_foreach_add", 0) == most_uses - 1
    assert counts.get("aten::_foreach_neg_", 0) in (0, 2)


def test_operators_prepare_their_weights_themselves_outside_of_a_gpus_training(model, gpu_form, monkeypatch):
    features = torch.randn(2, 4, 8, 8)
    assert prepare(model._shared, features) is not None
    with torch.no_grad():
        assert prepare(model._shared, features) is None
    assert prepare(model.eval()._shared, features) is None
    monkeypatch.undo()
    assert prepare(model.train()._shared, features) is None


def test_an_unused_alias_has_no_gradient_and_the_others_count(gpu_form, monkeypatch):
    monkeypatch.setattr(shared_weights, "GATHERED_VALUES", 0)
    operator, other = layers.ResidualOperator(2), layers.Convolution(2, 2)
    features = torch.randn(1, 2, 4, 4)
    uses = prepare([Shared(operator, 3, 0), Shared(other, 2, 0)], features)
    (uses[operator][0].weight.sum() + 2 * uses[operator][2].weight.sum()).backward()
    assert torch.equal(operator.weight.grad, torch.full_like(operator.weight, -3.0))
    assert other.weight.grad is None


def test_each_operator_is_prepared_for_the_pixels_of_its_level(gpu_form, monkeypatch):
    """Odd sizes are rounded up: 7 x 5 pixels become 4 x 3, and 2 x 2."""
    features = torch.randn(3, 8, 7, 5)
    convolutions = [layers.Convolution(8, 8, groups=2) for _ in range(3)]
    shared = [Shared(convolution, 2, level) for level, convolution in enumerate(convolutions)]

    def prepared(name, value, what) -> list:
        monkeypatch.setattr(*name, value)
        uses = prepare(shared, features)
        return [what(uses[convolution][0]) for convolution in convolutions]

    for pixels, expected in ((105, [1, 2, 2]), (106, [2, 2, 2]), (36, [1, 1, 2]), (37, [1, 2, 2]), (12, [1, 1, 1])):
        assert prepared((layers, "_GPU_MANY_PIXELS"), pixels, lambda kernel: kernel.groups) == expected
    for level, pixels in enumerate((105, 36, 12)):
        for more in (0, 1):
            values = 8 * pixels - more
            found = prepared((shared_weights, "GATHERED_VALUES"), values, lambda kernel: kernel.gathered is not None)
            assert found == [index >= level + more for index in range(3)]
