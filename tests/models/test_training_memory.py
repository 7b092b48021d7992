"""The memory of a training in closed form, against networks worked out by hand and against traces of real ones."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from mgnas.models import ArchitectureConfig, build_model
from mgnas.models.training_memory import (
    kept_values,
    largest_activation,
    parameter_bytes,
    scaled_weights,
    training_bytes,
)

IMAGES = 10_007
"""A prime number that is no number of channels, so that activations can be told from weights."""


def traced_bytes(config: ArchitectureConfig, image_size: int) -> int:
    """Bytes of the distinct activations that the forward pass keeps on a GPU in half precision, by fake tensors."""
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.ndim == 4 and tensor.shape[0] == IMAGES:
            storage = tensor.untyped_storage()
            storages[storage._cdata] = storage  # storages have no public identity; they are kept, so none is reused
        return tensor

    with FakeTensorMode(), torch.device("cuda"):
        model = build_model(config).train()
        shape = (IMAGES, config.in_channels, image_size, image_size)
        images = torch.empty(shape).contiguous(memory_format=torch.channels_last)
        # torch.autocast refuses to be switched on where there is no GPU.
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        try:
            with saved_tensors_hooks(keep, lambda tensor: tensor):
                model(images)
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.clear_autocast_cache()
    return sum(storage.nbytes() for storage in storages.values())


BY_HAND = [
    # The stem keeps the image's 3 channels and its convolution's output. The block keeps its input, both convolutions'
    # outputs and both ReLUs'.
    pytest.param({"family": "resnet", "base_channels": [4], "blocks": 1}, 64 * (3 + 4 + 5 * 4), id="resnet"),
    # One step keeps its residual, the first ReLU's output, that of B, and the increment.
    pytest.param({"family": "mgnet", "base_channels": [4], "smoothing_steps": 1}, 64 * (3 + 4 + 4 * 4), id="one-step"),
    # Two steps on each level. The transfers keep u and r of level 1.
    pytest.param(
        {"family": "mgnet", "base_channels": [4, 8], "smoothing_steps": 2},
        64 * (3 + 4 + 2 * 16 + 2 * 4) + 16 * 2 * 4 * 8,
        id="two-levels",
    ),
    # Two steps on each of the channel levels 4 -> 2, and the correction that A reads.
    pytest.param(
        {"family": "mgiad", "base_channels": [4], "smoothing_steps": 1, "group_size": 2, "fully_coupled_channels": 2},
        64 * (3 + 4 + 2 * 16 + 2 * 8 + 4),
        id="mgiad",
    ),
    # The last of three channel levels has one channel, whose repeats need no memory of their own.
    pytest.param(
        {"family": "mgiad", "base_channels": [4], "smoothing_steps": 1, "group_size": 1, "fully_coupled_channels": 1},
        64 * (3 + 4 + 2 * 16 + 2 * 8 + 4 + 2 * 4 + 1),
        id="mgiad-single-channel",
    ),
    # The image is kept at its size, and the stem's output at a quarter of it.
    pytest.param(
        {"family": "mgnet", "base_channels": [4], "smoothing_steps": 1, "stem_stride": 4},
        64 * 3 + 4 * (4 + 4 * 4),
        id="stem-stride-4",
    ),
    # Degree 0 keeps the residual, the first ReLU's output and the increment; degree 3 two values of Horner's rule more
    # than the four tensors of a learned B.
    pytest.param(
        {
            "family": "mgnet",
            "base_channels": [4],
            "smoothing_steps": 2,
            "smoother": "polynomial",
            "polynomial_degree": 0,
        },
        64 * (3 + 4 + 2 * 3 * 4),
        id="degree-0",
    ),
    pytest.param(
        {
            "family": "mgnet",
            "base_channels": [4],
            "smoothing_steps": 2,
            "smoother": "polynomial",
            "polynomial_degree": 3,
        },
        64 * (3 + 4 + 2 * 6 * 4),
        id="degree-3",
    ),
    # A smoother on each of the channel levels 4 -> 2. Between them: restricted features, their difference, the input
    # of the batch norm, and the corrected features.
    pytest.param(
        {"family": "mgic", "base_channels": [4], "blocks": 1, "group_size": 2, "fully_coupled_channels": 4},
        64 * (3 + 4 + (4 + 4 * 4) + 4 * 2 + 2 + 2 + 4 + 4),
        id="mgic",
    ),
]


@pytest.mark.parametrize(("values", "kept"), BY_HAND)
def test_kept_values_worked_out_by_hand(values, kept):
    assert kept_values(ArchitectureConfig.from_dict(values), 8) == kept


@settings(max_examples=60)
@given(config=st.from_type(ArchitectureConfig), image_size=st.sampled_from((8, 9, 16, 23)))
def test_kept_values_equal_those_of_a_trace(config, image_size):
    assert 2 * IMAGES * kept_values(config, image_size) == traced_bytes(config, image_size)


@settings(max_examples=30)
@given(config=st.from_type(ArchitectureConfig))
def test_the_parameters_and_their_optimizer_take_what_is_counted(config):
    model = build_model(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    tensors = [*model.parameters(), *(parameter.grad for parameter in model.parameters())]
    tensors += [state["momentum_buffer"] for state in optimizer.state.values()]
    weights = sum(parameter.numel() for parameter in model.parameters())
    copies = 4 * weights  # the cast weights and the negated ones, two bytes each
    assert parameter_bytes(config) == sum(tensor.nbytes for tensor in tensors) + copies
    assert parameter_bytes(config, average=True) == parameter_bytes(config) + 4 * weights
    assert parameter_bytes(config, second_moments=True) == parameter_bytes(config) + 4 * weights


def test_every_step_with_a_polynomial_keeps_a_scaled_copy_of_its_operator():
    polynomial = {"smoother": "polynomial", "polynomial_degree": 2, "smoothing_steps": 3}
    mgnet = ArchitectureConfig(family="mgnet", base_channels=(4, 8), **polynomial)
    assert scaled_weights(mgnet) == 3 * 9 * (16 + 64)
    # Six steps on each of the channel levels 8 -> 4, the first in groups of 2.
    mgiad = ArchitectureConfig(family="mgiad", base_channels=(8,), group_size=2, fully_coupled_channels=4, **polynomial)
    assert scaled_weights(mgiad) == 6 * 9 * (8 * 2 + 4 * 4)
    wide = replace(mgiad, kernel_size=5)
    assert scaled_weights(wide) == 6 * (25 * 8 * 2 + 9 * 4 * 4)
    none = {**polynomial, "polynomial_degree": 0}
    assert scaled_weights(ArchitectureConfig(family="mgnet", base_channels=(4, 8), **none)) == 0
    assert scaled_weights(ArchitectureConfig(family="mgnet", base_channels=(4, 8))) == 0


def test_the_largest_activation_need_not_be_on_the_finest_level():
    assert largest_activation(ArchitectureConfig(family="mgnet", base_channels=(4, 8)), 9) == 4 * 81
    assert largest_activation(ArchitectureConfig(family="resnet", base_channels=(4, 32)), 9) == 32 * 25


def test_the_bytes_of_a_training_are_linear_in_its_batches():
    config = ArchitectureConfig(family="mgiad", base_channels=(16, 32))
    base = training_bytes(config, 32, 128, 1024)
    image, temporary = 5 * 3 * 32**2, 2 * 6 * 16 * 32**2
    assert training_bytes(config, 32, 128, 2048) - base == 1.25 * 1024 * (image + temporary)
    per_image = 2 * kept_values(config, 32) + image + temporary
    assert training_bytes(config, 32, 256, 1024) - base == 1.25 * 128 * per_image
    assert training_bytes(config, 32, 256, 1024, value_bytes=4) > training_bytes(config, 32, 256, 1024)
    assert base - 1.25 * (128 * per_image + 1024 * (image + temporary) + parameter_bytes(config)) == 512 * 2**20
