"""Several proposals from one posterior: the next ones, were nothing learned in between.

Notation:
    m        candidates on the shortlist
    C        posterior covariance of their accuracies without noise, m x m
    v        variance of the noise of an observation

Once candidate j is chosen, one noisy observation of it leaves the covariance C - C_j C_j' / (C_jj + v), a rank-one
update. Until it is observed, j stands in the front one standard deviation below its mean, as running trials do.
"""

from __future__ import annotations

import numpy as np

from .acquisition import Front


def greedy_batch(
    front: Front, mean: np.ndarray, cost: np.ndarray, covariance: np.ndarray, noise: float, count: int
) -> list[tuple[int, float]]:
    """Choose the candidates of the largest expected hypervolume improvement one after the other.

    The first candidate is chosen already. Improvements are those of noisy observations.

    Args:
        front: the front to improve.
        mean, cost: of the candidates, m each.
        covariance: C, m x m; not changed.
        noise: standard deviation of the noise, the square root of v.
        count: number of candidates in the batch, the first one included.

    Returns:
        (row, standard deviation of the accuracy when it was chosen) of at most count - 1 further candidates; fewer if
        no other candidate improves the front.
    """
    covariance, available = covariance.copy(), np.ones(len(mean), dtype=bool)
    chosen, row = [], 0
    while True:
        available[row] = False
        if len(chosen) == count - 1 or not available.any():
            return chosen
        column = covariance[row].copy()
        covariance -= np.outer(column, column) / (column[row] + noise**2)
        std = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
        observed_std = np.hypot(std, noise)
        front = front.with_point(cost[row], mean[row] - observed_std[row])
        gains = np.where(available, front.improvement(mean, observed_std, cost), 0.0)
        row = int(np.argmax(gains))
        if not gains[row] > 0:
            return chosen
        chosen.append((row, float(std[row])))
