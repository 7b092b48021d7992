"""What further trials are expected to add to the hypervolume: the search, simulated by the model itself.

Notation, all accuracies on the model's scale:
    k, p, m    trained networks, pending ones, candidates: the first k of N = k + p + m networks are the trained ones
    f          accuracies without noise, N; normal with a mean and a covariance C by the model's posterior
    v          variance of the noise of a training
    n          further trials
    R          rollouts

One rollout draws a world, f ~ N(mean, C), and lets the search go on in it. First the pending trials end. Then the
candidate of the largest expected hypervolume improvement is trained, n times. A training of network j shows
y = f_j + noise, and leaves, by a rank-one update,

    mean + C_j (y - mean_j) / (C_jj + v),    C - C_j C_j' / (C_jj + v).

The world knows f of all networks, so the hypervolumes of the networks trained before and after are numbers. Their
difference, averaged over rollouts, is the expected gain. The n choices learn from each other, and no independence is
assumed. What is neglected: hyperparameters stay what they are, and only the m candidates that are most promising now
are looked at.
"""

from __future__ import annotations

import numpy as np

from ..acquisition import Front, staircase
from ..outcome_transforms import OutcomeTransform
from .front_posterior import factorised


def hypervolume(cost: np.ndarray, accuracy: np.ndarray, reference_cost: float, reference_accuracy: float) -> float:
    """The area that points dominate, in accuracy x cost, measured from the reference."""
    edges, levels = staircase(cost, accuracy, reference_cost, reference_accuracy)
    # NOTE: The first slab has no left end; its level is the reference's.
    return float(np.sum(np.diff(edges[1:]) * (levels[1:] - reference_accuracy)))


def expected_gain(
    mean: np.ndarray,
    covariance: np.ndarray,
    noise: float,
    cost: np.ndarray,
    trained: int,
    pending: int,
    count: int,
    front: Front,
    reference: tuple[float, float],
    transform: OutcomeTransform,
    rollouts: int = 24,
    seed: int = 0,
) -> tuple[float, float]:
    """Expected hypervolume of the networks trained so far, pending ones included, and what n further trials add.

    Args:
        mean, covariance: of f, N and N x N.
        noise: the square root of v.
        cost: of the networks, N, on the scale of the hypervolume.
        trained, pending: k and p.
        count: n.
        front: what the search takes for its front; its reference decides which candidates it prefers.
        reference: (accuracy, cost) that the hypervolume is measured from, the accuracy on its own scale.
        transform: gives the model's scale.
        rollouts: R.
        seed: of the worlds and the noise. Equal seeds make estimates of one search comparable.

    Returns:
        (hypervolume, gain).

    Raises:
        ModelFitError: the covariance is none.
    """
    rng, factor = np.random.default_rng(seed), factorised(covariance)
    started, before, gains = trained + pending, [], []
    for _ in range(rollouts):
        world = mean + factor @ rng.standard_normal(len(mean))
        chosen = _rollout(mean.copy(), covariance.copy(), noise, cost, world, started, pending, count, front, rng)
        accuracy = np.asarray(transform.untransform(world + noise * rng.standard_normal(len(world))))
        known = np.arange(started)
        reached = [hypervolume(cost[rows], accuracy[rows], reference[1], reference[0]) for rows in (known, chosen)]
        before.append(reached[0])
        gains.append(reached[1] - reached[0])
    return float(np.mean(before)), float(np.mean(gains))


def _rollout(
    mean: np.ndarray,
    covariance: np.ndarray,
    noise: float,
    cost: np.ndarray,
    world: np.ndarray,
    started: int,
    pending: int,
    count: int,
    front: Front,
    rng: np.random.Generator,
) -> np.ndarray:
    """One search of n trials; the rows of all networks trained at its end. Changes mean and covariance."""

    def train(row: int) -> None:
        column = covariance[row].copy()
        variance = column[row] + noise**2
        if variance > 0:
            mean[:] += column * ((world[row] + noise * rng.standard_normal() - mean[row]) / variance)
            covariance[:] -= np.outer(column, column / variance)

    for row in range(started - pending, started):
        train(row)
    rows, candidates = list(range(started)), np.arange(started, len(mean))
    for _ in range(min(count, len(candidates))):
        observed = Front(
            cost[rows], mean[rows], front.reference_cost, front.reference_accuracy, front.expected_improvement
        )
        std = np.hypot(np.sqrt(np.maximum(np.diagonal(covariance)[candidates], 0.0)), noise)
        best = int(np.argmax(observed.improvement(mean[candidates], std, cost[candidates])))
        train(int(candidates[best]))
        rows.append(int(candidates[best]))
        candidates = np.delete(candidates, best)
    return np.array(rows)
