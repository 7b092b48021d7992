"""Draws of the model's hyperparameters from their posterior, in place of the most probable ones.

A few dozen trainings leave the hyperparameters uncertain, and the most probable ones take too little for noise: on the
shipped tables half of the deviation between seeds. A choice of the next network suffers little from that, a
probability a lot. So probabilities are taken over hyperparameters, too.

The priors of log l, log s and log v are normal, so elliptical slice sampling draws from the posterior without anything
to tune (Murray, Adams & MacKay, "Elliptical slice sampling", AISTATS 2010). Notation: gp_hyperparameters.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.linalg import solve_triangular
from scipy.spatial.distance import cdist

from ..gp_hyperparameters import LENGTHSCALE_BOUNDS, Hyperparameters, log_priors

_POINTS = 150
"""Observations that a chain looks at, at most, drawn at random; more determine the hyperparameters well enough."""
_BURN_IN, _THINNING = 80, 10
_NUGGET = 1e-9
"""Added to the diagonal, so that equal points without noise can be factorised."""


def sampled_hyperparameters(
    learned: Hyperparameters,
    x: np.ndarray,
    accuracy: np.ndarray,
    variance: np.ndarray,
    prior: np.ndarray | None = None,
    *,
    like: Hyperparameters | None = None,
    count: int = 16,
    seed: int = 0,
) -> list[Hyperparameters]:
    """Hyperparameters from their posterior; takes half a second.

    Args:
        learned: the most probable ones, where the chain begins. Their standardisation is kept.
        x, accuracy, variance, prior: as for `AccuracyModel.fit`.
        like: as for `AccuracyModel`.
        count: number of draws.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    if len(x) > _POINTS:
        chosen = np.sort(rng.choice(len(x), _POINTS, replace=False))
        x, accuracy, variance = x[chosen], accuracy[chosen], variance[chosen]
        prior = None if prior is None else prior[chosen]
    trend, mean = (part.numpy() for part in learned.trend(len(x), prior))
    residual = (accuracy - learned.centre) / learned.y_std - mean
    fixed = trend @ trend.T + np.diag(variance / learned.y_std**2 + _NUGGET)
    centre, width = log_priors(x.shape[1], like)
    likelihood = _log_likelihood(x, residual, fixed)
    logs = np.log([*learned.lengthscales, learned.signal, learned.noise])
    position = (logs - centre) / width
    drawn: list[Hyperparameters] = []
    level = likelihood(logs)
    for step in range(_BURN_IN + count * _THINNING):
        position, level = _slice(position, level, lambda w: likelihood(centre + width * w), rng)
        if step >= _BURN_IN and (step - _BURN_IN) % _THINNING == 0:
            *lengthscales, signal, noise = np.exp(centre + width * position)
            bounded = np.clip(lengthscales, *LENGTHSCALE_BOUNDS)
            drawn.append(replace(learned, lengthscales=bounded, signal=float(signal), noise=float(noise)))
    return drawn


def _log_likelihood(x: np.ndarray, residual: np.ndarray, fixed: np.ndarray) -> Callable[[np.ndarray], float]:
    """log l, log s, log v -> log likelihood up to a constant; -inf if the covariance is singular.

    Args:
        x: n x d.
        residual: r, n.
        fixed: the part of K that does not depend on the hyperparameters, n x n.
    """
    d, varying = x.shape[1], np.ptp(x, axis=0) > 0
    x = x[:, varying]

    def likelihood(logs: np.ndarray) -> float:
        scaled = x * np.exp(-logs[:d][varying])
        h = cdist(scaled, scaled) * math.sqrt(5)
        covariance = math.exp(logs[d]) * (1 + h + h * h / 3) * np.exp(-h) + fixed
        covariance.flat[:: len(x) + 1] += math.exp(logs[d + 1])
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return -math.inf
        whitened = solve_triangular(factor, residual, lower=True, check_finite=False)
        return float(-0.5 * whitened @ whitened - np.log(np.diagonal(factor)).sum())

    return likelihood


def _slice(
    position: np.ndarray, level: float, likelihood: Callable[[np.ndarray], float], rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """One step of elliptical slice sampling, in units in which the prior is a standard normal distribution.

    Returns:
        the next position and its log likelihood.
    """
    other, threshold = rng.standard_normal(len(position)), level + math.log(1 - rng.random())
    angle = rng.random() * 2 * math.pi
    low, high = angle - 2 * math.pi, angle
    # NOTE: The bracket shrinks to the present position, whose likelihood is above the threshold.
    while high - low > 1e-9:
        moved = position * math.cos(angle) + other * math.sin(angle)
        reached = likelihood(moved)
        if reached > threshold:
            return moved, reached
        low, high = (angle, high) if angle < 0 else (low, angle)
        angle = rng.uniform(low, high)
    return position, level
