"""What of an architecture the accuracy models see: numbers that mean the same in every search space and data set.

The settings themselves would tie a model to one space: `channel_scaling: 2` says nothing without its base channels,
and the same network has many descriptions. So the features are read off the canonical form, and quantities that mean
the same in several families share a feature: a residual block and a smoothing step both add depth, a ResNet shares
as little as an MgNet with `sharing: none`, an MGiaD shares both operators and smooths 2 nu times on a level.

Weights and MACs are left out on purpose: a Gaussian process without them found the front of a table of really trained
networks a third sooner. So are the numbers of classes and input channels, which belong to the data set.
"""

from __future__ import annotations

import math

import numpy as np

from ...models.config import ArchitectureConfig

_FAMILIES = ("resnet", "mgnet", "mgic", "mgiad")
_SHARING = {"none": 0.0, "A": 0.5, "AB": 1.0}

FEATURES: tuple[str, ...] = (
    *_FAMILIES,
    "resolution_levels",
    "first_channels",
    "mean_channels",
    "last_channels",
    "steps",
    "steps_slope",
    "sharing",
    "resolution_transfer",
    "channel_transfer",
    "group_size",
    "channel_levels",
    "coarsest_channels",
)
"""Names of the features, in order. Channels, group sizes and steps are logarithms; see `architecture_features`."""


LEAST_TRAININGS = 8
"""Fewer finished trainings say too little about an architecture's 16 features."""


def architecture_features(config: ArchitectureConfig) -> np.ndarray:
    """The features of a network: len(FEATURES) floats, about 0 to 1, equal for equal networks.

    - one of the families is 1, the others are 0;
    - resolution levels: 1 is 0, 6 is 1;
    - channels of the first and the last resolution level, and the geometric mean of all: 4 is 0, 1,024 is 1;
    - steps: of an average level, 1 is 0, 16 is 1; their slope: 0 if all levels have the same, positive if the last
      levels have more;
    - sharing: none 0, A 1/2, AB 1; resolution transfers: dense 1; channel transfers: learned 1;
    - group size: 1 is 1/8, 128 is 1; channel levels: 1 is 0, 7 is 1; fully coupled channels: 1 is 0, 256 is 1.

    A setting without effect on the network is 0.
    """
    config = config.canonical()
    channels = np.log2(config.channels)
    depths = np.log2(_depths(config))
    positions = np.linspace(-1, 1, len(depths)) if len(depths) > 1 else np.zeros(1)
    return np.array(
        [
            *(float(config.family == family) for family in _FAMILIES),
            (len(channels) - 1) / 5,
            *((value - 2) / 8 for value in (channels[0], channels.mean(), channels[-1])),
            depths.mean() / 4,
            (positions * (depths - depths[0])).mean() / 2,
            _sharing(config),
            float(config.resolution_transfer == "dense"),
            float(config.family == "mgic" or config.channel_transfer == "learned"),
            *_channel_hierarchy(config),
        ]
    )


def _depths(config: ArchitectureConfig) -> tuple[int, ...]:
    """Smoothing steps, or residual blocks, per resolution level."""
    if config.family in ("resnet", "mgic"):
        return config.stage_blocks
    return tuple(2 * steps for steps in config.steps) if config.family == "mgiad" else config.steps


def _sharing(config: ArchitectureConfig) -> float:
    if config.family == "mgiad":
        return _SHARING["AB"]
    return _SHARING[config.sharing] if config.family == "mgnet" else _SHARING["none"]


def _channel_hierarchy(config: ArchitectureConfig) -> tuple[float, float, float]:
    """Group size, channel levels and fully coupled channels; zeros where nothing is grouped."""
    deepest = max(map(len, config.channel_hierarchies))
    if deepest == 1:
        return 0.0, 0.0, 0.0
    # NOTE: The canonical threshold of an MGIC lies one above the channels that are fully coupled.
    coarsest = config.fully_coupled_channels - (config.family == "mgic")
    return (1 + math.log2(config.group_size)) / 8, (deepest - 1) / 6, math.log2(coarsest) / 8
