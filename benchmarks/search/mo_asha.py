"""Multi-objective successive halving as a pausing rule, for comparison only: a peer of mgnas's own rule."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np

from mgnas.search.strategy.pausing import NOTHING_ELSE, PausingRule
from mgnas.search.trial_record import TrialRecord, TrialState


class MultiObjectiveASHA(PausingRule):
    """Asynchronous successive halving by non-domination rank and crowding distance.

    After r, r * eta, r * eta^2, ... epochs (the rungs) a trial goes on if it is among the best 1/eta of those that have
    reached the rung so far. They are ordered by the rank of their front in (accuracy there, weights), and within a
    front by crowding distance (Schmucker et al., Multi-objective Asynchronous Successive Halving, 2021; ranks and
    distances as in NSGA-II, Deb et al. 2002). A paused trial is resumed when later ones make it one of the best.

    Args:
        epochs: of a whole training.
        first_rung: r, in epochs.
        eta: the reduction factor.
    """

    def __init__(self, epochs: int, first_rung: int = 1, eta: int = 3) -> None:
        self.eta = eta
        self.rungs: list[int] = []
        while first_rung < epochs:
            self.rungs.append(first_rung)
            first_rung *= eta

    def pause(self, record: TrialRecord, records: Sequence[TrialRecord]) -> str | None:
        rung = len(record.curve)
        if rung not in self.rungs:
            return None
        reached, promoted = self._best(rung, records)
        if record.number in promoted:
            return None
        return f"not among the best {len(promoted)} of {reached} after epoch {rung}"

    def resume(self, records: Sequence[TrialRecord], last: bool, spare: bool) -> tuple[TrialRecord, str] | None:
        for rung in reversed(self.rungs):
            _, promoted = self._best(rung, records)
            for record in records:
                if record.state is TrialState.PAUSED and len(record.curve) == rung and record.number in promoted:
                    return record, f"among the best {len(promoted)} after epoch {rung} now"
        paused = (record for record in records if record.state is TrialState.PAUSED)
        return next(((record, NOTHING_ELSE) for record in paused), None) if spare else None

    def _best(self, rung: int, records: Sequence[TrialRecord]) -> tuple[int, set[int]]:
        """How many trials have reached the rung, and the numbers of the best 1/eta of them."""
        reached = [r for r in records if len(r.curve) >= rung and r.state is not TrialState.FAILED]
        order = ranked(np.array([(record.weights, -record.curve[rung - 1]) for record in reached], dtype=float))
        return len(reached), {reached[index].number for index in order[: max(len(reached) // self.eta, 1)]}


def ranked(points: np.ndarray) -> list[int]:
    """Rows of the points (n x 2, both to be minimised) from best to worst: by front, then by crowding distance."""
    if not len(points):
        return []
    fronts = moocore.pareto_rank(points)
    order: list[int] = []
    for front in np.unique(fronts):
        rows = np.flatnonzero(fronts == front)
        order.extend(int(row) for row in rows[np.argsort(-_crowding(points[rows]), kind="stable")])
    return order


def _crowding(points: np.ndarray) -> np.ndarray:
    """Deb et al. 2002, section III-B: the sides of the box between a point's neighbours on its front, n."""
    distance = np.zeros(len(points))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        span = values[order[-1]] - values[order[0]] or 1.0
        distance[order[[0, -1]]] = np.inf
        distance[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / span
    return distance
