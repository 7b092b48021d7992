"""Scores of replayed searches on a table: the hypervolume that they found, and the bound that an oracle sets.

A replayed search sees single trainings. Its score counts, for each architecture that it completed, the mean accuracy
over seeds. It is the hypervolume in (accuracy, log10 weights), as a share of that of all architectures of the table.
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

    It is the nadir of the front of mean accuracies, moved out by a tenth of the front's extent on either axis (the
    usual choice: Ishibuchi et al., How to Specify a Reference Point in Hypervolume Calculation, 2018). The worst
    network of the table would be no good reference: it may have failed to learn, and measured from there the first
    decent network would dominate most of the volume.

    Raises:
        UserError: the front is a single network, so that there is no trade-off to find.
    """
    accuracies = table.mean_accuracies()
    points = np.array([[math.log10(rows[0].weights), -accuracies[key]] for key, rows in table.by_id.items()])
    front = points[moocore.is_nondominated(points)]
    if len(front) < 2:
        raise UserError(f"{table.name}: one network dominates all others; there is no front to search for")
    weights, accuracy = front.max(axis=0) + _MARGIN * np.ptp(front, axis=0)
    return float(weights), float(-accuracy)


@dataclass(frozen=True)
class Trace:
    """How the share of the hypervolume grew: a step function of the epochs, which starts at 0.

    Args:
        epochs: at which it rose: n, ascending.
        shares: its values from these epochs on: n, ascending.
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
        index = int(np.searchsorted(self.shares, share - _ROUNDING))
        return int(self.epochs[index]) if index < len(self.epochs) else None

    def at(self, epochs: np.ndarray) -> np.ndarray:
        """The shares after these numbers of epochs, in the same shape."""
        return np.concatenate([[0.0], self.shares])[np.searchsorted(self.epochs, epochs, side="right")]


class HypervolumeScorer:
    """Scores replays on one table by its mean accuracies over seeds.

    Args:
        table: the table.
        measured_from: the reference point (log10 weights, accuracy); default: that of `reference`.

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
        """Whether a model predicted some of the table's accuracies."""
        return bool(self.table.meta.get("surrogate"))

    def trace(self, replay: Replay) -> Trace:
        """How the hypervolume of the trials that a replay completed grew."""
        front, epochs, shares = _Front(self.reference), [], [0.0]
        for completion in replay.completions:
            if front.add(self.points[completion.architecture]):
                share = front.hypervolume() / self.hypervolume
                if share > shares[-1]:
                    epochs.append(completion.epochs)
                    shares.append(share)
        return Trace(np.array(epochs, dtype=int), np.array(shares[1:]), replay.epochs)

    def oracle(self) -> Trace:
        """The best share that k completed trainings can reach, for k = 1, 2, ...; no search can be faster.

        The front sorted by weights has log10 weights p_1 < ... < p_n and accuracies y_1 < ... < y_n; (P, Y) is the
        reference point. The best hypervolume of k points of the front, of which the i-th is the lightest, is exactly

            H(1, i) = (P - p_i) (y_i - Y),    H(k, i) = max over j > i of (p_j - p_i) (y_i - Y) + H(k - 1, j).

        Dynamic programming computes it in O(k n^2). A point off the front cannot do better than one that dominates it.
        Every training counts the epochs of the table's shortest training.
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
    """A function that is called with the id of each completed architecture.

    It returns whether all of them together dominate that share of the table's hypervolume.
    """
    scorer = HypervolumeScorer(table)
    front = _Front(scorer.reference)

    def enough(architecture: str) -> bool:
        front.add(scorer.points[architecture])
        return front.hypervolume() >= (share - _ROUNDING) * scorer.hypervolume

    return enough


class _Front:
    """Points that no other dominates, sorted by log10 weights and so by accuracy."""

    def __init__(self, reference: tuple[float, float]) -> None:
        self.points: list[tuple[float, float]] = []
        self._reference = reference

    def add(self, point: tuple[float, float]) -> bool:
        """Add the point unless another one is as good; returns whether it was added."""
        log_weights, accuracy = point
        index = bisect.bisect_right(self.points, (log_weights, math.inf))
        if index and self.points[index - 1][1] >= accuracy:
            return False
        first = index - 1 if index and self.points[index - 1][0] == log_weights else index
        last = index
        while last < len(self.points) and self.points[last][1] <= accuracy:
            last += 1
        self.points[first:last] = [point]
        return True

    def hypervolume(self) -> float:
        return float(moocore.hypervolume(self.points, ref=self._reference, maximise=[False, True]))


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile, interpolated linearly.

    A quartile between a finite and an infinite value is infinite.
    """
    ordered = sorted(values)

    def at(part: float) -> float:
        position = part * (len(ordered) - 1)
        low, rest = int(position), position - int(position)
        if rest == 0:
            return ordered[low]
        above = ordered[low + 1]
        return above if math.isinf(above) else ordered[low] + rest * (above - ordered[low])

    return at(0.25), at(0.5), at(0.75)
