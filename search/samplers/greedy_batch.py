"""Several proposals from one state of the model: the next ones if nothing was learned in between."""

from __future__ import annotations

import numpy as np

from .acquisition import Front


def greedy_batch(
    front: Front, mean: np.ndarray, cost: np.ndarray, covariance: np.ndarray, noise: float, count: int
) -> list[tuple[int, float]]:
    """Greedily the candidates of the largest expected hypervolume improvement, the first one given.

    What a noisy observation of each chosen one would leave uncertain is the rank-one update of the posterior
    covariance. It stands in the front a standard deviation below its mean, as running trials do; improvements are those
    of observations.

    Args:
        front: to be improved.
        mean, cost: of the candidates, m; the first one is chosen already.
        covariance: of their accuracies, m x m.
        noise: standard deviation of an observation.
        count: how many are wanted, the first one included.

    Returns:
        (row, standard deviation of the accuracy when it was chosen) of at most count - 1 further ones; fewer if no
        other candidate improves the front.
    """
    covariance, left = covariance.copy(), np.ones(len(mean), dtype=bool)
    chosen, row = [], 0
    while True:
        left[row] = False
        if len(chosen) == count - 1 or not left.any():
            return chosen
        column = covariance[row].copy()
        covariance -= np.outer(column, column) / (column[row] + noise**2)
        std = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
        observed = np.hypot(std, noise)
        front = front.with_point(cost[row], mean[row] - observed[row])
        gains = np.where(left, front.improvement(mean, observed, cost), 0.0)
        row = int(np.argmax(gains))
        if not gains[row] > 0:
            return chosen
        chosen.append((row, float(std[row])))
