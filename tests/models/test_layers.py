"""Layers in the forms that a CPU and a GPU train fastest."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mgnas.models.layers import Convolution, Head, ResidualOperator, grouped_together


def image(channels, dtype=torch.float64):
    features = torch.randn(2, channels, 5, 5, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return features.to(memory_format=torch.channels_last).requires_grad_()


def merged_groups(layer, dtype=torch.float32):
    """Groups of the convolution that a training layer really runs on such features."""
    return layer.groups // layer.train().groups_to_merge(image(layer.in_channels, dtype))


@settings(max_examples=60)
@given(
    width=st.integers(1, 6),
    groups=st.sampled_from([1, 2, 3, 4, 6, 8, 12]),
    multiplier=st.integers(1, 3),
    kernel_size=st.sampled_from([1, 3, 5, 7]),
    stride=st.sampled_from([1, 2]),
)
def test_values_and_gradients_are_those_of_the_narrow_groups(width, groups, multiplier, kernel_size, stride):
    torch.manual_seed(0)
    layer = Convolution(width * groups, multiplier * groups, kernel_size, stride, groups).double().train()
    features, weight = image(width * groups), layer.weight.detach().clone().requires_grad_()
    given = features.detach().clone().requires_grad_()
    expected = F.conv2d(given, weight, stride=stride, padding=kernel_size // 2, groups=groups)
    result = layer(features)
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=1e-12)
    direction = torch.randn_like(expected)
    (result * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(layer.weight.grad, weight.grad, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(features.grad, given.grad, atol=1e-12, rtol=1e-12)


def test_merged_weights_are_block_diagonal():
    """Two groups of two output channels, one input channel each, become one group."""
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1, 1)
    assert grouped_together(weight, 2, 2).flatten(1).tolist() == [[1, 0], [2, 0], [0, 3], [0, 4]]


@pytest.mark.parametrize(
    ("channels", "groups", "dtype", "expected"),
    [
        ((64, 64), 8, torch.float32, 8),  # Groups of 8 channels are wide enough.
        ((64, 64), 32, torch.float32, 16),  # 2 channels -> 4, which are 16 bytes of float32,
        ((64, 64), 32, torch.bfloat16, 8),  # and 8 are 16 bytes of bfloat16.
        ((64, 128), 64, torch.float32, 16),
        ((64, 64), 64, torch.float32, 64),  # oneDNN's own kernel for depthwise convolutions,
        ((64, 64), 64, torch.bfloat16, 8),  # whose backward pass is slow in bfloat16.
        ((18, 18), 9, torch.bfloat16, 3),  # 9 groups of 2 do not make groups of 8, but of 6.
        ((14, 14), 7, torch.bfloat16, 7),
        ((3, 8), 1, torch.float32, 1),
    ],
)
def test_groups_are_merged_until_they_fill_a_vector(channels, groups, dtype, expected):
    assert merged_groups(Convolution(*channels, groups=groups), dtype) == expected


def test_under_autocast_features_count_as_bfloat16():
    layer = Convolution(64, 64, groups=64)
    with torch.autocast("cpu", torch.bfloat16):
        assert merged_groups(layer) == 8


@pytest.mark.parametrize(
    ("channels", "groups", "pixels", "expected"),
    [
        ((64, 64), 64, 100, 1),  # Depthwise convolutions are groups of 64 channels, however few pixels there are:
        ((64, 128), 64, 100, 1),
        ((256, 256), 256, 100, 4),
        ((16, 32), 16, 100, 1),
        ((64, 64), 8, 16_383, 8),  # other groups stay as they are for few pixels,
        ((64, 64), 8, 16_384, 2),  # and have 32 channels for many.
        ((64, 64), 4, 16_384, 4),  # Groups of 16 channels are wide enough.
        ((64, 64), 2, 16_384, 2),
        ((48, 48), 6, 16_384, 2),  # 6 groups of 8 do not make groups of 32, but of 24.
        ((3, 8), 1, 16_384, 1),
    ],
)
def test_groups_on_a_gpu(channels, groups, pixels, expected, gpu_form):
    layer, features = Convolution(*channels, groups=groups), torch.empty(pixels, channels[0], 1, 1)
    assert groups // layer.train().groups_to_merge(features) == expected
    assert layer.eval().groups_to_merge(features) == 1


def test_an_evaluated_network_runs_its_groups_as_they_are(monkeypatch):
    """So that what is exported has no block-diagonal weights in it."""
    seen = []
    monkeypatch.setattr(F, "conv2d", lambda *arguments: seen.append(arguments[-1]) or torch.zeros(()))
    for layer in (Convolution(8, 8, groups=4), Convolution(8, 8, groups=4).eval()):
        layer(image(8, torch.float32))
    assert seen == [2, 4]


def test_the_residual_operator_merges_its_groups_too():
    operator, features, residual = ResidualOperator(8, groups=4).double(), image(8), image(8)
    product = F.conv2d(features, operator.weight, padding=1, groups=4)
    torch.testing.assert_close(operator(features, residual.clone()), residual - product)
    torch.testing.assert_close(operator(features, residual.clone(), add=True), residual + product)


def test_the_gradient_of_the_head_has_the_layout_of_the_features_on_a_gpu(gpu_form):
    head, features = Head(6, 3), image(6, torch.float32)
    seen = []
    outputs = head(features)
    features.register_hook(seen.append)
    outputs.sum().backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(outputs, head.eval()(features))
    expected = torch.autograd.grad(head(features).sum(), features)[0]
    torch.testing.assert_close(seen[0], expected)
