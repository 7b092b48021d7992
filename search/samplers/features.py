"""What the accuracy models see of an architecture: numbers that mean the same in every search space and data set.

The settings themselves would tie a model to one space: `channel_scaling: 2` says nothing without its base channels,
and the same network has many descriptions. So the features are read off the canonical form. Quantities that mean the
same in several families share a feature: a residual block and a smoothing step both add depth; a ResNet shares no
operators, like an MgNet with `sharing: none`; an MGiaD shares both operators and smooths 2 nu times on a level.
Polynomial smoothers count as sharing both: A and the polynomials in it are all that a level has.

Weights and MACs are left out on purpose: without them a Gaussian process needed a third fewer trainings to find the
front of a table of really trained networks. The numbers of classes and input channels are left out because they belong
to the data set.
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
    "stem_stride",
    "steps",
    "steps_slope",
    "sharing",
    "polynomial",
    "polynomial_degree",
    "resolution_transfer",
    "residual_activation",
    "channel_transfer",
    "group_size",
    "kernel_size",
    "channel_levels",
    "coarsest_channels",
)
"""Names of the features, in order. Channels, group sizes and steps are logarithms; see `architecture_features`."""

LEAST_TRAININGS = 8
"""Fewer finished trainings say too little about the features."""


def architecture_features(config: ArchitectureConfig) -> np.ndarray:
    """The features of a network: len(FEATURES) floats of about 0 to 1, equal for equal networks.

    | feature | 0 stands for | 1 stands for |
    |---|---|---|
    | one per family | another family | this family |
    | resolution levels | 1 | 6 |
    | channels of the first and last resolution level, geometric mean of all | 4 | 1,024 |
    | stride of the stem | 1 | 4 |
    | steps of an average level | 1 | 16 |
    | slope of the steps | equal steps; positive: the last levels have more | |
    | sharing | none (A: 1/2) | AB |
    | polynomial | B learned | B a polynomial in A |
    | degree of the polynomial | 0 | 3 |
    | resolution transfer | depthwise | dense |
    | residual activation | no | yes |
    | channel transfer | fixed | learned |
    | group size | none (1: 1/8) | 128 |
    | kernel size of grouped levels | 3 | 7 |
    | channel levels | 1 | 7 |
    | fully coupled channels | 1 | 256 |

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
            math.log2(config.stem_stride) / 2,
            depths.mean() / 4,
            (positions * (depths - depths[0])).mean() / 2,
            _sharing(config),
            float(config.smoother == "polynomial"),
            (config.degree or 0) / 3,
            float(config.resolution_transfer == "dense"),
            float(config.residual_activation),
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


def _channel_hierarchy(config: ArchitectureConfig) -> tuple[float, float, float, float]:
    """Group size, kernel size, channel levels and fully coupled channels; zeros if nothing is grouped."""
    deepest = max(map(len, config.channel_hierarchies))
    if deepest == 1:
        return 0.0, 0.0, 0.0, 0.0
    # NOTE: The canonical threshold of an MGIC is the number of fully coupled channels plus 1.
    coarsest = config.fully_coupled_channels - (config.family == "mgic")
    group_size = (1 + math.log2(config.group_size)) / 8
    return group_size, (config.kernel_size - 3) / 4, (deepest - 1) / 6, math.log2(coarsest) / 8
