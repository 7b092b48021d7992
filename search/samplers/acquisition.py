"""How much hypervolume a candidate is expected to add when its cost is known and its accuracy is not.

Write c for the cost and y for the accuracy. The staircase of the front,

    A(c) = max(reference accuracy, best accuracy of the front at cost <= c),

is constant on slabs of the cost axis that end where the front's points stand. A candidate of cost p and accuracy y
dominates all (c, a) with p <= c <= reference cost and a <= y. Of these, the ones above the staircase are new:

    improvement(y) = integral from p to the reference cost of max(0, y - A(c)) dc
                   = sum over slabs of width(slab right of p) * max(0, y - A(slab)).

This is the one-slab-after-another decomposition of the two-dimensional hypervolume improvement (Emmerich, Deutz &
Klinkenberg, "Hypervolume-based expected improvement: monotonicity properties and exact computation", CEC 2011). There
both objectives are random and each slab costs a product of two expectations. Here p is a number: the widths are
constants, only y is random, and the expectation of the sum is the sum of expectations,

    EHVI = sum over slabs of width(slab right of p) * E[max(0, y - A(slab))],

where each term is the classical expected improvement of a normal y over the threshold A(slab). Nothing is sampled or
approximated, and p need not be modelled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import erfcx, ndtr

_KNOWN = 1e-150
"""A standard deviation below this is 0; dividing by it would overflow."""


def expected_improvement(mean: np.ndarray, std: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """E[max(0, y - threshold)] for y ~ N(mean, std^2): std * (phi(z) + z * Phi(z)) with z = (mean - threshold) / std.

    Args:
        mean, std, threshold: arrays that broadcast against each other; std >= 0, where 0 means that y is known.
    """
    mean, std, threshold = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (mean, std, threshold)))
    gap = mean - threshold
    known = std < _KNOWN
    z = gap / np.where(known, 1.0, std)
    with np.errstate(over="ignore", under="ignore"):  # far from the threshold, where the density is 0
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    # NOTE: Left of 0 the two terms cancel. Written with the scaled complementary error function, the small
    # improvements, among which the choice falls late in a search, keep their digits.
    left = np.minimum(z, 0.0)
    tail = density * np.maximum(1 + left * np.sqrt(np.pi / 2) * erfcx(-left / np.sqrt(2)), 0.0)
    right = density + z * ndtr(z)
    return np.where(known, np.maximum(gap, 0.0), np.where(z < 0, std * tail, np.maximum(std * right, gap)))


def expected_hypervolume_improvement(
    mean: np.ndarray,
    std: np.ndarray,
    cost: np.ndarray,
    front_cost: np.ndarray,
    front_accuracy: np.ndarray,
    reference_cost: float,
    reference_accuracy: float,
    improvement: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] = expected_improvement,
) -> np.ndarray:
    """Exact expected hypervolume improvement of n candidates of known cost, in O(n m); n values >= 0.

    Args:
        mean, std: of the candidates' accuracies, n each; std may be 0.
        cost: of the candidates, n, on the increasing scale in which the hypervolume is measured (mgnas: log10 weights).
        front_cost, front_accuracy: m points each, in any order; dominated ones change nothing, m may be 0.
        reference_cost: the upper end of the cost axis; what costs as much or more improves nothing.
        reference_accuracy: the lower end of the accuracy axis.
        improvement: (mean, std, threshold) -> E[max(0, y - threshold)], where y is not normal but some increasing
            function of a normal variable (scales.py); mean, std, front and reference are then that variable's.
    """
    edges, levels = staircase(front_cost, front_accuracy, reference_cost, reference_accuracy)
    cost = np.asarray(cost, dtype=float)[:, None]
    # NOTE: n x slabs. The first slab reaches left without end: it is cut off at each candidate's own cost.
    widths = np.clip(edges[1:] - np.maximum(edges[:-1], cost), 0.0, None)
    gains = improvement(np.asarray(mean)[:, None], np.asarray(std)[:, None], levels)
    return np.sum(widths * gains, axis=1)


def staircase(
    front_cost: np.ndarray, front_accuracy: np.ndarray, reference_cost: float, reference_accuracy: float
) -> tuple[np.ndarray, np.ndarray]:
    """A(c) as slabs: edges (k + 1, ascending, from -inf to the reference cost) and the k strictly rising levels.

    Args: as for `expected_hypervolume_improvement`.
    """
    front_cost, front_accuracy = (np.asarray(a, dtype=float) for a in (front_cost, front_accuracy))
    inside = front_cost < reference_cost
    front_cost, front_accuracy = front_cost[inside], front_accuracy[inside]
    order = np.lexsort((-front_accuracy, front_cost))  # of points of equal cost the best one first
    front_cost, front_accuracy = front_cost[order], front_accuracy[order]
    reached = np.maximum.accumulate(np.concatenate([[reference_accuracy], front_accuracy]))
    rises = reached[1:] > reached[:-1]
    edges = np.concatenate([[-np.inf], front_cost[rises], [reference_cost]])
    return edges, np.concatenate([[reference_accuracy], reached[1:][rises]])


@dataclass(frozen=True)
class Front:
    """What has been reached, as the sum above takes it.

    Args: m points, the reference and `gain`, its `improvement`, as for `expected_hypervolume_improvement`.
    """

    cost: np.ndarray
    accuracy: np.ndarray
    reference_cost: float
    reference_accuracy: float
    gain: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] = expected_improvement

    def improvement(self, mean: np.ndarray, std: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Expected hypervolume improvement of n candidates."""
        return expected_hypervolume_improvement(
            mean, std, cost, self.cost, self.accuracy, self.reference_cost, self.reference_accuracy, self.gain
        )

    def without(self, row: int) -> Front:
        """The same without one of its points."""
        return replace(self, cost=np.delete(self.cost, row), accuracy=np.delete(self.accuracy, row))

    def with_point(self, cost: float, accuracy: float) -> Front:
        """The same with one more point; of all, only those on the staircase are kept."""
        costs, accuracies = np.append(self.cost, cost), np.append(self.accuracy, accuracy)
        on = gaps(costs, accuracies) == 0
        return replace(self, cost=costs[on], accuracy=accuracies[on])

    def gaps(self) -> np.ndarray:
        """How much each of the points lacks to the best of no more cost, m; 0 for those on the staircase."""
        return gaps(self.cost, self.accuracy)


def gaps(cost: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """A(cost) - accuracy for each of m points that form the staircase themselves, m >= 0."""
    edges, levels = staircase(cost, accuracy, np.inf, -np.inf)
    return levels[np.searchsorted(edges[1:-1], cost, side="right")] - accuracy
