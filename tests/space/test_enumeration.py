"""space/enumeration.py and models/batch.py: arrays say the same of a space as its candidates one by one."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgnas.models.batch import SETTINGS
from mgnas.models.config import ArchitectureConfig
from mgnas.space.candidate import TrainingSettings
from mgnas.space.enumeration import distinct_networks
from mgnas.space.search_space import SearchSpace

CHOICES = {
    "base_channels": [[4], [12, 24], [16, 32], [8, 12], [8, 16, 32], [8, 24, 24, 48], [16, 16, 64, 64]],
    "channel_scaling": [0.5, 1, 1.25, 3],
    "stem_stride": [1, 2, 4],
    "smoothing_steps": [1, 2, 3, [1, 2], [2, 1], [2, 1, 1], [1, 1, 3, 1], 129],
    "sharing": ["none", "A", "AB"],
    "smoother": ["learned", "polynomial"],
    "polynomial_degree": [0, 1, 3],
    "group_size": [1, 2, 3, 4, 8, 64],
    "kernel_size": [3, 5],
    "channel_levels": [None, 1, 2, 3],
    "fully_coupled_channels": [2, 5, 8, 16],
    "resolution_transfer": ["depthwise", "dense"],
    "residual_activation": [False, True],
    "channel_transfer": ["fixed", "learned"],
    "blocks": [1, 2, [1, 3], [2, 2, 2]],
    "family": ["resnet", "mgnet", "mgic", "mgiad"],
}
LIMITS = {
    "max_weights": 40_000,
    "min_weights": 900,
    "max_macs": 900_000,
    "max_activation_memory": 20_000,
    "max_flash_int8": 15_000,
}


@st.composite
def spaces(draw) -> SearchSpace:
    """Spaces of all families with at most some thousand points, many of them invalid."""
    names = draw(st.sets(st.sampled_from([*CHOICES]), min_size=2, max_size=5)) | {"family", "base_channels"}
    parameters, fixed = {}, {}
    for name, choices in CHOICES.items():
        if name in names:
            most = min(len(choices), 3)
            parameters[name] = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=most, unique_by=str))
        elif name not in ("smoothing_steps", "blocks") and draw(st.booleans()):
            fixed[name] = draw(st.sampled_from(choices))
    limits = draw(st.sets(st.sampled_from([*LIMITS])))
    mapping = {"fixed": fixed, "parameters": parameters, "limits": {name: LIMITS[name] for name in limits}}
    shape = {"num_classes": 10, "in_channels": draw(st.sampled_from([1, 3])), "image_size": draw(st.integers(3, 33))}
    unchecked = SearchSpace.__new__(SearchSpace)  # Most random spaces have a choice that fits nothing.
    unchecked._read(mapping)
    unchecked.training, unchecked.searched_training_settings = TrainingSettings(), ()
    unchecked.image_size = shape.pop("image_size")
    unchecked.fixed |= shape
    return unchecked


@settings(max_examples=25, deadline=None)
@given(spaces())
def test_the_networks_are_those_of_enumerate_with_equal_ids_parameters_weights_and_order(space):
    networks = distinct_networks(space)
    assert networks is not None
    made = [
        (order, network_id, params, weights)
        for own in networks
        for order, network_id, params, weights in zip(
            own.order.tolist(), own.batch.ids(), own.params, own.weights.tolist(), strict=True
        )
    ]
    expected = [(candidate.id, candidate.params, candidate.weights) for candidate in space.enumerate()]
    assert [tuple(rest) for _, *rest in sorted(made, key=lambda entry: entry[0])] == expected


@settings(max_examples=15, deadline=None)
@given(spaces())
def test_macs_are_those_of_each_candidate(space):
    macs = {candidate.id: candidate.macs for candidate in space.enumerate()}
    for own in distinct_networks(space) or []:
        assert own.batch.cost(space.image_size)[1].tolist() == [macs[network_id] for network_id in own.batch.ids()]


def test_every_setting_of_an_architecture_is_known_to_batches():
    assert {field.name for field in dataclasses.fields(ArchitectureConfig)} == SETTINGS


def test_an_order_is_a_position_among_the_effective_points():
    space = SearchSpace(
        {"fixed": {"family": "mgnet"}, "parameters": {"base_channels": [[6], [4]], "smoothing_steps": [1, 2]}},
        TrainingSettings(),
        num_classes=10,
        in_channels=1,
        image_size=8,
    )
    (networks,) = distinct_networks(space) or []
    points = list(space.effective_values())
    assert [points[order] for order in networks.order] == networks.params
    assert np.array_equal(networks.order, [0, 1, 2, 3])


@pytest.mark.parametrize("parameter", [{"learning_rate": [0.1, 0.2]}, {"learning_rate": {"low": 0.1, "high": 0.2}}])
def test_spaces_that_vary_training_settings_are_left_to_enumerate(parameter):
    mapping = {
        "fixed": {"family": "mgnet", "base_channels": [4]},
        "parameters": {"smoothing_steps": [1, 2], **parameter},
    }
    space = SearchSpace(mapping, TrainingSettings(), num_classes=10, in_channels=1, image_size=8)
    assert distinct_networks(space) is None
