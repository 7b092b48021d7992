"""The features of architectures: worked out by hand, equal for equal networks and only for those."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mgnas.errors import ConfigError
from mgnas.models import ArchitectureConfig
from mgnas.search.config import SearchConfig
from mgnas.search.samplers.features import ADDED_FEATURES, FEATURES, added_features, architecture_features

CONFIGS = Path(__file__).parents[3] / "configs"


def named(**settings) -> dict[str, float]:
    """Features that are not 0, by name."""
    config = ArchitectureConfig(**settings)
    assert architecture_features(config).shape == (len(FEATURES),)
    names = (*FEATURES, *ADDED_FEATURES)
    return {name: value for name, value in zip(names, all_features(config), strict=True) if value != 0}


def all_features(config: ArchitectureConfig) -> np.ndarray:
    return np.concatenate([architecture_features(config), added_features(config)])


def test_the_features_of_an_mgiad():
    """32 = 2^5 and 128 = 2^7 channels, 2 nu = 4 = 2^2 steps, 8 = 2^3 channels a group, 128-64-32-16 channel levels."""
    found = named(
        family="mgiad",
        base_channels=[16, 64],
        channel_scaling=2,
        smoothing_steps=2,
        group_size=8,
        kernel_size=5,
        fully_coupled_channels=16,
        resolution_transfer="dense",
        channel_transfer="learned",
    )
    assert found == pytest.approx(
        {
            "mgiad": 1,
            "resolution_levels": 1 / 5,
            "first_channels": 3 / 8,
            "mean_channels": 4 / 8,
            "last_channels": 5 / 8,
            "steps": 2 / 4,
            "sharing": 1,
            "resolution_transfer": 1,
            "channel_transfer": 1,
            "group_size": 4 / 8,
            "kernel_size": 2 / 4,
            "channel_levels": 3 / 6,
            "coarsest_channels": 4 / 8,
        }
    )


def test_the_features_of_an_mgnet_with_more_steps_on_the_last_level():
    found = named(family="mgnet", base_channels=[8, 8, 16], smoothing_steps=[1, 2, 4], sharing="A")
    assert found == pytest.approx(
        {
            "mgnet": 1,
            "resolution_levels": 2 / 5,
            "first_channels": 1 / 8,
            "mean_channels": (10 / 3 - 2) / 8,
            "last_channels": 2 / 8,
            "steps": 1 / 4,
            "steps_slope": 2 / 3 / 2,
            "sharing": 0.5,
        }
    )


def test_the_features_of_polynomial_smoothers():
    """Sharing of A and B has no meaning there, and is that of a canonical form."""
    settings = {"family": "mgnet", "base_channels": [4, 4], "smoothing_steps": 1, "sharing": "none"}
    found = named(**settings, smoother="polynomial", polynomial_degree=2, residual_activation=True)
    assert found == pytest.approx(
        {
            "mgnet": 1,
            "resolution_levels": 1 / 5,
            "sharing": 1,
            "polynomial": 1,
            "polynomial_degree": 2 / 3,
            "residual_activation": 1,
        }
    )
    assert "polynomial_degree" not in named(**settings, smoother="learned", polynomial_degree=2)


def test_the_features_of_an_mgic():
    """16 channels are not below 16, 8 are."""
    found = named(family="mgic", base_channels=[16], blocks=4, group_size=4, fully_coupled_channels=16)
    assert found == pytest.approx(
        {
            "mgic": 1,
            "first_channels": 2 / 8,
            "mean_channels": 2 / 8,
            "last_channels": 2 / 8,
            "steps": 2 / 4,
            "channel_transfer": 1,
            "group_size": 3 / 8,
            "channel_levels": 1 / 6,
            "coarsest_channels": 3 / 8,
        }
    )


def test_the_stride_of_the_stem():
    assert [named(family="resnet", base_channels=[8], stem_stride=s).get("stem_stride") for s in (1, 2, 4)] == [
        None,
        1 / 2,
        1,
    ]


def test_blocks_per_stage_are_steps_per_level():
    found = named(family="resnet", base_channels=[8, 8, 16], blocks=[1, 2, 4])
    assert (found["steps"], found["steps_slope"]) == pytest.approx((1 / 4, 2 / 3 / 2))


def test_a_resnet_has_neither_groups_nor_shared_weights():
    found = named(family="resnet", base_channels=[64, 128, 256, 512], blocks=2, group_size=4, sharing="AB")
    assert set(found) == {
        "resnet",
        "resolution_levels",
        "first_channels",
        "mean_channels",
        "last_channels",
        "steps",
    }


def test_data_sets_share_the_features():
    config = ArchitectureConfig(family="mgnet", base_channels=[8, 16])
    assert (architecture_features(config) == architecture_features(replace(config, num_classes=200))).all()


def test_different_networks_of_the_digits_space_have_different_features():
    space = SearchConfig.load(CONFIGS / "digits.yaml").search_space()
    candidates = list(space.enumerate())
    x = np.array([all_features(candidate.architecture) for candidate in candidates])
    assert len(candidates) > 300
    assert len(np.unique(x.round(9), axis=0)) == len(candidates)
    assert x.min() >= 0
    assert x.max() <= 1


ARCHITECTURES = st.fixed_dictionaries(
    {
        "family": st.sampled_from(["resnet", "mgnet", "mgic", "mgiad"]),
        "base_channels": st.lists(st.sampled_from([4, 8, 16]), min_size=1, max_size=2),
        "channel_scaling": st.sampled_from([1, 2]),
        "smoothing_steps": st.integers(1, 2),
        "sharing": st.sampled_from(["none", "A", "AB"]),
        "stem_stride": st.sampled_from([1, 2, 4]),
        "smoother": st.sampled_from(["learned", "polynomial"]),
        "polynomial_degree": st.integers(0, 3),
        "residual_activation": st.booleans(),
        "group_size": st.sampled_from([1, 4, 8]),
        "kernel_size": st.sampled_from([3, 5, 7]),
        "channel_levels": st.sampled_from([None, 1, 2]),
        "fully_coupled_channels": st.sampled_from([4, 8, 64]),
        "resolution_transfer": st.sampled_from(["depthwise", "dense"]),
        "channel_transfer": st.sampled_from(["fixed", "learned"]),
        "blocks": st.integers(1, 2),
    }
)


@given(ARCHITECTURES, st.data())
def test_features_are_equal_exactly_if_the_networks_are(settings, data):
    """Against the same settings with one of them changed, which often has no effect."""
    name = data.draw(st.sampled_from(sorted(settings)))
    changed = data.draw(ARCHITECTURES)[name]
    try:
        one, other = ArchitectureConfig(**settings), ArchitectureConfig(**{**settings, name: changed})
    except (ConfigError, ValueError):
        assume(False)
    same = np.array_equal(all_features(one), all_features(other))
    assert same == (one.id == other.id), [
        (field.name, getattr(one.canonical(), field.name), getattr(other.canonical(), field.name))
        for field in fields(one)
    ]
