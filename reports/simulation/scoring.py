"""What replayed searches have found: hypervolume by the truth, and the bound that an oracle sets.

A replayed search sees single trainings; it is judged by the mean accuracy over seeds of what it has completed, in
(accuracy, log10 weights), as a share of what all architectures of the table dominate together.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from mgnas.errors import UserError

from ...search.history.table import TabularBenchmark
from ...search.simulation.simulator import Replay

_ROUNDING = 1e-12
_MARGIN = 0.1


def reference(table: TabularBenchmark) -> tuple[float, float]:
    """(log10 weights, accuracy) that hypervolumes are measured from.

    The nadir of the table's true front, moved out by a tenth of the front's extent on either axis (the usual choice:
    Ishibuchi et al., How to Specify a Reference Point in Hypervolume Calculation, 2018). From the worst network of the
    table instead, which may have failed to learn, the first decent network would dominate most of the volume.

    Raises:
        UserError: the front is a single network, so that there is no trade-off to find.
    """
    truth = table.mean_accuracies()
    costs = np.array([[math.log10(rows[0].weights), -truth[key]] for key, rows in table.by_id.items()])
    front = costs[moocore.is_nondominated(costs)]
    if len(front) < 2:
        raise UserError(f"{table.name}: one network dominates all others; there is no front to search for")
    weights, accuracy = front.max(axis=0) + _MARGIN * np.ptp(front, axis=0)
    return float(weights), float(-accuracy)


@dataclass(frozen=True)
class Trace:
    """The share of the hypervolume as it grew; 0 before the first entry, constant between two.

    Args:
        epochs: at which it rose, n, ascending.
        shares: from there on, n, ascending.
        total: epochs of the whole search.
    """

    epochs: np.ndarray
    shares: np.ndarray
    total: int

    @property
    def final(self) -> float:
        return float(self.shares[-1]) if len(self.shares) else 0.0

    def epochs_until(self, share: float) -> int | None:
        """Epochs until that share; None if it was not reached."""
        place = int(np.searchsorted(self.shares, share - _ROUNDING))
        return int(self.epochs[place]) if place < len(self.epochs) else None

    def at(self, epochs: np.ndarray) -> np.ndarray:
        """The shares after so many epochs, same shape."""
        return np.concatenate([[0.0], self.shares])[np.searchsorted(self.epochs, epochs, side="right")]


class HypervolumeScorer:
    """Scores replays on one table by its truth.

    Args:
        table: the table.
        measured_from: (log10 weights, accuracy) of the reference point; None: that of `reference`.

    Raises:
        UserError: no architecture of the table dominates the reference point, so that there is nothing to find.
    """

    def __init__(self, table: TabularBenchmark, measured_from: tuple[float, float] | None = None) -> None:
        self.table = table
        self.reference = measured_from or reference(table)
        weights = {key: math.log10(rows[0].weights) for key, rows in table.by_id.items()}
        self.points = {key: (weights[key], accuracy) for key, accuracy in table.mean_accuracies().items()}
        front = _Front(self.reference)
        for point in self.points.values():
            front.add(point)
        self.front, self.hypervolume = front.points, front.hypervolume()
        if not self.hypervolume > 0:
            raise UserError(f"{table.name}: no network dominates the reference point; there is nothing to find")

    @property
    def surrogate(self) -> bool:
        """Whether the table is a model's, not one of trained networks alone."""
        return bool(self.table.meta.get("surrogate"))

    def trace(self, replay: Replay) -> Trace:
        """How the hypervolume of what a replay completed grew."""
        front, epochs, shares = _Front(self.reference), [], [0.0]
        for completion in replay.completions:
            if front.add(self.points[completion.architecture]):
                share = front.hypervolume() / self.hypervolume
                if share > shares[-1]:
                    epochs.append(completion.epochs)
                    shares.append(share)
        return Trace(np.array(epochs, dtype=int), np.array(shares[1:]), replay.epochs)

    def oracle(self) -> Trace:
        """The bound: the best that k completed trainings can reach, for k = 1, 2, ...; no search can be faster.

        With the front sorted by weights, p_1 < ... < p_n with accuracies y_1 < ... < y_n, the best hypervolume of k of
        its points whose lightest is i is exactly

            H(1, i) = (P - p_i) (y_i - Y),    H(k, i) = max over j > i of (p_j - p_i) (y_i - Y) + H(k - 1, j)

        for the reference (P, Y): dynamic programming in O(k n^2). Points off the front cannot do better than those that
        dominate them. A training counts as many epochs as the table's shortest.
        """
        log_weights, accuracy = (np.array(values) for values in zip(*self.front, strict=True))
        heights = accuracy - self.reference[1]
        gains = (log_weights - log_weights[:, None]) * heights[:, None]
        later = np.triu(np.ones(gains.shape, dtype=bool), 1)
        best = (self.reference[0] - log_weights) * heights
        shares = [best.max()]
        for _ in range(len(heights) - 1):
            best = np.where(later, gains + best, -np.inf).max(axis=1)
            shares.append(best.max())
        counts = np.arange(1, len(shares) + 1) * min(len(row.curve) for row in self.table.rows)
        # NOTE: A point at the reference's weights or accuracy adds nothing, so k - 1 points may do as well as k.
        return Trace(counts, np.maximum.accumulate(shares) / self.hypervolume, int(counts[-1]))


def until_share(share: float, table: TabularBenchmark) -> Callable[[str], bool]:
    """Takes ids of completed architectures; says when they dominate that share of the table's hypervolume."""
    judge = HypervolumeScorer(table)
    front = _Front(judge.reference)

    def enough(architecture: str) -> bool:
        front.add(judge.points[architecture])
        return front.hypervolume() >= (share - _ROUNDING) * judge.hypervolume

    return enough


class _Front:
    """Points that no other dominates, sorted by log10 weights and so by accuracy."""

    def __init__(self, reference: tuple[float, float]) -> None:
        self.points: list[tuple[float, float]] = []
        self._reference = reference

    def add(self, point: tuple[float, float]) -> bool:
        """Take the point in unless another one is as good; whether it was taken in."""
        log_weights, accuracy = point
        place = bisect.bisect_right(self.points, (log_weights, math.inf))
        if place and self.points[place - 1][1] >= accuracy:
            return False
        first = place - 1 if place and self.points[place - 1][0] == log_weights else place
        last = place
        while last < len(self.points) and self.points[last][1] <= accuracy:
            last += 1
        self.points[first:last] = [point]
        return True

    def hypervolume(self) -> float:
        return float(moocore.hypervolume(self.points, ref=self._reference, maximise=[False, True]))


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile, interpolated linearly; next to an infinite value they are infinite."""
    ordered = sorted(values)

    def at(part: float) -> float:
        place = part * (len(ordered) - 1)
        low, rest = int(place), place - int(place)
        if rest == 0:
            return ordered[low]
        above = ordered[low + 1]
        return above if math.isinf(above) else ordered[low] + rest * (above - ordered[low])

    return at(0.25), at(0.5), at(0.75)
