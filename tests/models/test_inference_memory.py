"""The memory of an inference in closed form, against networks worked out by hand and traces of real ones."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgnas.models import ArchitectureConfig, build_model
from mgnas.models.inference_memory import activation_memory, flash_memory, peak_values
from mgnas.models.layers import Convolution

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "training"))
from activation_trace import traced_peak


def mgnet(**settings):
    return {"family": "mgnet", "base_channels": [4], "smoothing_steps": 2, **settings}


BY_HAND = [
    # The second convolution of the block reads and writes a tensor, and the shortcut keeps one.
    pytest.param({"family": "resnet", "base_channels": [4], "blocks": 1}, 64 * 3 * 4, id="resnet"),
    # The stem: the image of 3 channels, and the output.
    pytest.param(mgnet(base_channels=[1], smoothing_steps=1), 64 * (3 + 1), id="stem"),
    # A single step has neither features nor a later residual: B reads one tensor and writes one.
    pytest.param(mgnet(base_channels=[16], smoothing_steps=1), 64 * 2 * 16, id="one-step"),
    # The first of two steps: residual, B's input and its output; or increment, A's output and residual.
    pytest.param(mgnet(), 64 * 3 * 4, id="two-steps"),
    # The features, too, in the second of three steps.
    pytest.param(mgnet(smoothing_steps=3), 64 * 4 * 4, id="three-steps"),
    # R from 1 to 64 channels: the residual, Pi's result of 16 pixels, and R's.
    pytest.param(
        mgnet(base_channels=[1, 64], smoothing_steps=1, smoother="polynomial", polynomial_degree=0),
        64 + 16 * 2 * 64,
        id="transfer",
    ),
    # Degree 0 needs no further tensor for B; degree 3 needs two more than a convolution.
    pytest.param(
        mgnet(smoothing_steps=1, base_channels=[16], smoother="polynomial", polynomial_degree=0), 64 * 19, id="degree-0"
    ),
    pytest.param(mgnet(smoothing_steps=3, smoother="polynomial", polynomial_degree=3), 64 * 6 * 4, id="degree-3"),
    # The correction, A times the correction, features and residual.
    pytest.param(
        {"family": "mgiad", "base_channels": [4], "smoothing_steps": 1, "group_size": 2, "fully_coupled_channels": 2},
        64 * 4 * 4,
        id="mgiad",
    ),
    # The smoother of the finest channel level; the cycle below it keeps 4 + 2 channels, and needs 3 times 2.
    pytest.param(
        {"family": "mgic", "base_channels": [8], "blocks": 1, "group_size": 2, "fully_coupled_channels": 4},
        64 * max(3 * 8, 8 + 4 * 4, 8 + 4 + 3 * 2),
        id="mgic",
    ),
]


@pytest.mark.parametrize(("values", "peak"), BY_HAND)
def test_peaks_worked_out_by_hand(values, peak):
    assert peak_values(ArchitectureConfig.from_dict(values), 8) == peak


@settings(max_examples=100)
@given(config=st.from_type(ArchitectureConfig), image_size=st.sampled_from((8, 9, 16, 23, 32)))
def test_peaks_equal_those_of_a_trace(config, image_size):
    model = build_model(config).eval()
    assert peak_values(config, image_size) == traced_peak(model, config.in_channels, image_size)


def test_many_classes_count():
    config = ArchitectureConfig(family="resnet", base_channels=(2,), num_classes=1000)
    assert peak_values(config, 8) == 2 + 1000


def test_bytes_are_those_of_the_type_and_the_image_is_converted_once():
    wide = ArchitectureConfig.from_dict(mgnet(smoothing_steps=3))
    assert (activation_memory(wide, 8), activation_memory(wide, 8, int8=True)) == (4 * 64 * 16, 64 * 16)
    # Stride 4 leaves 4 values of 64, so the image in uint8 and in float32 is the most.
    strided = ArchitectureConfig(family="mgnet", base_channels=(4,), smoothing_steps=1, stem_stride=4)
    assert peak_values(strided, 8) == 3 * 64 + 4 * 4
    assert (activation_memory(strided, 8), activation_memory(strided, 8, int8=True)) == ((1 + 4) * 3 * 64, 3 * 64 + 16)


@settings(max_examples=30)
@given(config=st.from_type(ArchitectureConfig))
def test_flash_holds_the_weights_and_the_statistics_of_a_built_network(config):
    model = build_model(config)
    stored = sum(value.numel() for value in model.state_dict().values())
    matrices = [module for module in model.modules() if isinstance(module, Convolution | torch.nn.Linear)]
    weights, rows = sum(m.weight.numel() for m in matrices), sum(len(m.weight) for m in matrices)
    assert flash_memory(config) == 4 * stored
    assert flash_memory(config, int8=True) == weights + 4 * (stored - weights + rows)


@settings(max_examples=50)
@given(config=st.from_type(ArchitectureConfig), image_size=st.sampled_from((16, 32)))
def test_a_larger_image_never_needs_less(config, image_size):
    assert peak_values(config, image_size) <= peak_values(config, 2 * image_size)
    assert 4 <= activation_memory(config, image_size) / activation_memory(config, image_size, int8=True) <= 5
