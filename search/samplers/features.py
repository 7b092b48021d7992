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
from collections.abc import Sequence

import numpy as np

from ...models.batch import ArchitectureBatch, decode, encode
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

ADDED_FEATURES: dict[str, str] = {
    "stem_stride": "stem_stride",
    "polynomial": "smoother",
    "polynomial_degree": "polynomial_degree",
    "residual_activation": "residual_activation",
    "kernel_size": "kernel_size",
}
"""Features of settings that earlier versions do not have -> the setting.

A model has them only in a space that varies the setting, and a prior only if its trainings vary it. Elsewhere they
would be constant, and still change the model, because lengthscales are expected to grow with the number of features.
"""

LEAST_TRAININGS = 8
"""Fewer finished trainings say too little about the features."""


def architecture_features(config: ArchitectureConfig) -> np.ndarray:
    """The features of a network: len(FEATURES) floats of about 0 to 1, equal for equal networks.

    | feature | 0 stands for | 1 stands for |
    |---|---|---|
    | one per family | another family | this family |
    | resolution levels | 1 | 6 |
    | channels of the first and last resolution level, geometric mean of all | 4 | 1,024 |
    | steps of an average level | 1 | 16 |
    | slope of the steps | equal steps; positive: the last levels have more | |
    | sharing | none (A: 1/2) | AB |
    | resolution transfer | depthwise | dense |
    | channel transfer | fixed | learned |
    | group size | none (1: 1/8) | 128 |
    | channel levels | 1 | 7 |
    | fully coupled channels | 1 | 256 |

    A setting without effect on the network is 0.
    """
    config = config.canonical()
    return _features(
        config.family,
        np.array(config.channels),
        np.array(_depths(config)),
        _sharing(config),
        float(config.resolution_transfer == "dense"),
        float(config.family == "mgic" or config.channel_transfer == "learned"),
        _channel_hierarchy(config),
    )


def features_of_batch(batch: ArchitectureBatch) -> np.ndarray:
    """`architecture_features` of n canonical forms, n x len(FEATURES)."""
    columns, depths = batch.columns, batch.depths()
    n_depths = batch.blocks if batch.family in ("resnet", "mgic") else batch.steps * (1 + (batch.family == "mgiad"))
    sharing = np.array([_SHARING[decode("sharing", index)] for index in range(len(_SHARING))])[columns["sharing"]]
    if batch.family != "mgnet":
        sharing = np.full(len(batch), _SHARING["AB" if batch.family == "mgiad" else "none"])
    learned = columns["channel_transfer"] == encode("channel_transfer", "learned")
    deepest = depths.max(axis=1)
    coarsest = columns["fully_coupled_channels"] - (batch.family == "mgic")
    hierarchy = (1 + np.log2(columns["group_size"])) / 8, (deepest - 1) / 6, np.log2(np.maximum(coarsest, 1)) / 8
    return _features(
        batch.family,
        batch.channels,
        n_depths,
        sharing,
        (columns["resolution_transfer"] == encode("resolution_transfer", "dense")).astype(float),
        np.ones(len(batch)) if batch.family == "mgic" else learned.astype(float),
        [np.where(deepest > 1, value, 0.0) for value in hierarchy],
    )


def _features(
    family: str,
    channels: np.ndarray,
    n_steps: np.ndarray,
    sharing: float | np.ndarray,
    dense: float | np.ndarray,
    learned: float | np.ndarray,
    hierarchy: Sequence[float | np.ndarray],
) -> np.ndarray:
    """The features of one architecture or of n: channels and steps of l levels, (n x) l; all others (n)."""
    channels, depths = np.log2(channels), np.log2(n_steps)
    levels = channels.shape[-1]
    positions = np.linspace(-1, 1, levels) if levels > 1 else np.zeros(1)
    scalars = [
        *(float(family == other) for other in _FAMILIES),
        (levels - 1) / 5,
        *((value - 2) / 8 for value in (channels[..., 0], channels.mean(axis=-1), channels[..., -1])),
        depths.mean(axis=-1) / 4,
        (positions * (depths - depths[..., :1])).mean(axis=-1) / 2,
        sharing,
        dense,
        learned,
        *hierarchy,
    ]
    return np.stack(np.broadcast_arrays(*scalars), axis=-1)


def added_features(config: ArchitectureConfig) -> np.ndarray:
    """The features of the added settings: len(ADDED_FEATURES) floats of 0 to 1, equal for equal networks.

    | feature | 0 stands for | 1 stands for |
    |---|---|---|
    | stride of the stem | 1 | 4 |
    | polynomial | B learned | B a polynomial in A |
    | degree of the polynomial | 0 | 3 |
    | residual activation | no | yes |
    | kernel size of grouped levels | 3 | 7 |
    """
    config = config.canonical()
    grouped = any(len(hierarchy) > 1 for hierarchy in config.channel_hierarchies)
    return np.array(
        [
            math.log2(config.stem_stride) / 2,
            float(config.smoother == "polynomial"),
            (config.degree or 0) / 3,
            float(config.residual_activation),
            (config.kernel_size - 3) / 4 if grouped else 0.0,
        ]
    )


def added_features_of_batch(batch: ArchitectureBatch) -> np.ndarray:
    """`added_features` of n canonical forms, n x len(ADDED_FEATURES)."""
    columns, polynomial = batch.columns, batch.smoother == "polynomial"
    grouped = batch.depths().max(axis=1) > 1
    return np.stack(
        [
            np.log2(columns["stem_stride"]) / 2,
            np.full(len(batch), float(polynomial)),
            polynomial * columns["polynomial_degree"] / 3,
            columns["residual_activation"].astype(float),
            np.where(grouped, (columns["kernel_size"] - 3) / 4, 0.0),
        ],
        axis=-1,
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
    """Group size, channel levels and fully coupled channels; zeros if nothing is grouped."""
    deepest = max(map(len, config.channel_hierarchies))
    if deepest == 1:
        return 0.0, 0.0, 0.0
    # NOTE: The canonical threshold of an MGIC is the number of fully coupled channels plus 1.
    coarsest = config.fully_coupled_channels - (config.family == "mgic")
    return (1 + math.log2(config.group_size)) / 8, (deepest - 1) / 6, math.log2(coarsest) / 8
