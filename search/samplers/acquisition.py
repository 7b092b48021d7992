"""How much hypervolume a candidate is expected to add when its cost is known and its accuracy is not.

Notation:
    c, p     cost; p is that of a candidate, n of them
    y        accuracy of a candidate, normal with a mean and a standard deviation, n each
    front    m points (cost, accuracy)
    A(c)     staircase of the front: max(reference accuracy, best accuracy of the front at cost <= c)
    slab     interval of the cost axis on which A is constant; k <= m + 1 of them, whose ends are `edges` (k + 1) and
             whose accuracies are `levels` (k)

A candidate of cost p and accuracy y dominates all (c, a) with p <= c <= reference cost and a <= y. Of these, the ones
above the staircase are new:

    improvement(y) = integral from p to the reference cost of max(0, y - A(c)) dc
                   = sum over slabs of width(slab right of p) * max(0, y - A(slab)).

This is the decomposition by slabs of the two-dimensional hypervolume improvement (Emmerich, Deutz & Klinkenberg,
"Hypervolume-based expected improvement: monotonicity properties and exact computation", CEC 2011). There both
objectives are random and each slab costs a product of two expectations. Here p is a number: the widths are constants,
only y is random, and the expectation of the sum is the sum of expectations,

    EHVI = sum over slabs of width(slab right of p) * E[max(0, y - A(slab))],

where each term is the classical expected improvement of a normal y over the threshold A(slab). Nothing is sampled or
approximated, and p need not be modelled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfcx, ndtr

ExpectedImprovement = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(mean, std, threshold) -> E[max(0, y - threshold)]."""

_STD_OF_KNOWN = 1e-150
"""A standard deviation below this is taken for 0; dividing by it would overflow."""


def expected_improvement(mean: ArrayLike, std: ArrayLike, threshold: ArrayLike) -> np.ndarray:
    """E[max(0, y - threshold)] for y ~ N(mean, std^2): std * (phi(z) + z * Phi(z)) with z = (mean - threshold) / std.

    Args:
        mean, std, threshold: arrays that broadcast against each other; std >= 0, where 0 means that y is known.
    """
    mean, std, threshold = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (mean, std, threshold)))
    gap = mean - threshold
    known = std < _STD_OF_KNOWN
    z = gap / np.where(known, 1.0, std)
    with np.errstate(over="ignore", under="ignore"):  # far from the threshold, where the density is 0
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    # NOTE: Left of 0 the two terms cancel. Written with the scaled complementary error function, small improvements
    # keep their digits; late in a search the choice falls among them.
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
    improvement: ExpectedImprovement = expected_improvement,
) -> np.ndarray:
    """Exact expected hypervolume improvement of n candidates of known cost, in O(n m); n values >= 0.

    Args:
        mean, std: of the candidates' accuracies, n each; std may be 0.
        cost: of the candidates, n, on the increasing scale in which the hypervolume is measured (mgnas: log10 weights).
        front_cost, front_accuracy: m points each, in any order; dominated ones change nothing, m may be 0.
        reference_cost: the upper end of the cost axis; a candidate that costs as much or more improves nothing.
        reference_accuracy: the lower end of the accuracy axis.
        improvement: E[max(0, y - threshold)] of one slab. It is another one if y is not normal but an increasing
            function of a normal variable (outcome_transforms.py); mean, std, front and reference accuracy are then
            those of that variable.
    """
    edges, levels = staircase(front_cost, front_accuracy, reference_cost, reference_accuracy)
    cost = np.asarray(cost, dtype=float)[:, None]
    # NOTE: n x k. The first slab has no left end; each candidate's own cost is its left end.
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
    """The front that candidates are to improve.

    Args:
        cost, accuracy, reference_cost, reference_accuracy: m points and the reference, as for
            `expected_hypervolume_improvement`.
        expected_improvement: its `improvement`.
    """

    cost: np.ndarray
    accuracy: np.ndarray
    reference_cost: float
    reference_accuracy: float
    expected_improvement: ExpectedImprovement = expected_improvement

    def improvement(self, mean: np.ndarray, std: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Expected hypervolume improvement of n candidates, n."""
        front = self.cost, self.accuracy, self.reference_cost, self.reference_accuracy
        return expected_hypervolume_improvement(mean, std, cost, *front, self.expected_improvement)

    def with_point(self, cost: float, accuracy: float) -> Front:
        """The front with one more point; only points on the staircase are kept."""
        costs, accuracies = np.append(self.cost, cost), np.append(self.accuracy, accuracy)
        on_staircase = gaps(costs, accuracies) == 0
        return replace(self, cost=costs[on_staircase], accuracy=accuracies[on_staircase])


def gaps(cost: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """A(cost) - accuracy of each of m points that form the staircase themselves, m values >= 0; 0 on the staircase."""
    edges, levels = staircase(cost, accuracy, np.inf, -np.inf)
    return levels[np.searchsorted(edges[1:-1], cost, side="right")] - accuracy
