"""Fitting a latency model to measured networks, and the error of its predictions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ....models.cost import Cost
from ....space.latency import LatencyModel, amounts

MIN_NETWORKS = 4
"""Fewer networks than this say nothing of others."""


@dataclass(frozen=True)
class FittedLatency:
    """A model and what it was fitted to.

    Args:
        model: predicts the latency for one image.
        networks: number of measured networks.
        error: median relative error, as a fraction, of predictions for each network from all others.
    """

    model: LatencyModel
    networks: int
    error: float


def fit_with_error(costs: Sequence[Cost], milliseconds: Sequence[float]) -> FittedLatency:
    """`fit_latency` of two networks or more, and the error that it has for a network that it does not know."""
    errors = prediction_errors(costs, milliseconds)
    return FittedLatency(fit_latency(costs, milliseconds), len(costs), statistics.median(errors))


def prediction_errors(costs: Sequence[Cost], milliseconds: Sequence[float]) -> list[float]:
    """The relative error of each network's prediction from all others, as a fraction."""
    errors = []
    for index, (cost, time) in enumerate(zip(costs, milliseconds, strict=True)):
        others = [number for number in range(len(costs)) if number != index]
        model = fit_latency([costs[number] for number in others], [milliseconds[number] for number in others])
        errors.append(abs(model.milliseconds(cost) / time - 1))
    return errors


def fit_latency(costs: Sequence[Cost], milliseconds: Sequence[float]) -> LatencyModel:
    """The model with the least sum of squared relative errors, among those without negative times.

    Args:
        costs: of the measured networks.
        milliseconds: what they take for one image.
    """
    from scipy.optimize import nnls

    relative = np.array([amounts(cost) for cost in costs]) / np.array(milliseconds)[:, None]
    # Columns of one size, because single networks and millions of values are not.
    scale = np.maximum(relative.max(axis=0), 1e-12)
    solution, _ = nnls(relative / scale, np.ones(len(relative)))
    names = [field.name for field in fields(LatencyModel)]
    return LatencyModel(**{name: float(time) for name, time in zip(names, solution / scale, strict=True)})
