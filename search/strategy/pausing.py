"""Which trials are not worth their next epoch, now: they are paused, and taken up again when that changes.

Optuna's pruners and Ray Tune's schedulers refuse several objectives. Here a rule is asked after every epoch of a trial,
and before every new candidate whether a paused trial deserves the worker more. Rules know neither Ray nor torch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import attrgetter

import moocore
import numpy as np

from ..trial_record import TrialRecord, TrialState
from .learning_curves import CurveModel, Prediction


class PausingRule(ABC):
    """Pauses trials and takes them up again."""

    def complete(self, record: TrialRecord) -> None:  # noqa: B027 - not every rule learns from curves
        """A trial has run all its epochs."""

    def curve_likelihood(self, record: TrialRecord) -> Prediction | None:
        """What an unfinished trial's curve says of its final accuracy, for the sampler; None: nothing yet."""
        return None

    @abstractmethod
    def pause(self, record: TrialRecord, records: Sequence[TrialRecord]) -> str | None:
        """Why the trial, which has just reported an epoch and has more to come, should rest; None: it goes on."""

    @abstractmethod
    def resume(self, records: Sequence[TrialRecord], last: bool, spare: bool) -> tuple[TrialRecord, str] | None:
        """The paused trial to take up again now, and why.

        Args:
            records: all trials.
            last: no new candidate will come; what is not taken up now, or later for that reason, never is.
            spare: nor is there any other in the space, though more trials were granted; so all should be taken up.
        """


class ParetoPausing(PausingRule):
    """Pause where the upper quantile of the predicted final accuracy is no better than what is reached with less.

    With A(w) = the best final accuracy of a trial with at most w weights, a trial of w weights rests while

        mean + deviations * std <= A(w)

    so a small network never rests for being worse than a large one. The prediction sharpens as further trials end;
    whoever may still beat A(w) then is taken up again, and, once there are no new candidates, everybody who may at
    the more careful `last_deviations`. Where the whole space is trained all are, so that none is lost for good.

    Args:
        model: predicts.
        deviations: standard deviations above the mean that a running trial is granted.
        last_deviations: the same at the end of the search.
    """

    def __init__(self, model: CurveModel, deviations: float = 2.0, last_deviations: float = 3.0) -> None:
        self.model, self.deviations, self.last_deviations = model, deviations, last_deviations
        self._rivals = Rivals()

    def complete(self, record: TrialRecord) -> None:
        self.model.add(record.curve)
        self._rivals.add(record)

    def curve_likelihood(self, record: TrialRecord) -> Prediction | None:
        return self.model.curve_likelihood(record.curve)

    def predict(self, record: TrialRecord) -> Prediction | None:
        """The final accuracy expected of it, by its curve and by what the sampler expected of its network."""
        expected = record.expected
        return self.model.predict(record.curve, expected and Prediction(expected.mean, expected.std))

    def pause(self, record: TrialRecord, records: Sequence[TrialRecord]) -> str | None:
        expected, rival = self.predict(record), self._rivals.best(record.weights)
        if expected is None or rival is None or expected.quantile(self.deviations) > rival.accuracy:
            return None
        return (
            f"{_words(expected)}; trial {rival.number} has {100 * rival.accuracy:.2f} % with {rival.weights:,} weights"
        )

    def resume(self, records: Sequence[TrialRecord], last: bool, spare: bool) -> tuple[TrialRecord, str] | None:
        deviations = self.last_deviations if last else self.deviations
        best, chosen = -math.inf if spare else 0.0, None
        for record in records:
            if record.state is not TrialState.PAUSED:
                continue
            expected, rival = self.predict(record), self._rivals.best(record.weights)
            ahead = math.inf if expected is None or rival is None else expected.quantile(deviations) - rival.accuracy
            if ahead > best:
                now = f"{_words(expected)} now" if expected else "nothing speaks against it now"
                best, chosen = ahead, (record, now if ahead > 0 else _NOTHING_ELSE)
        return chosen


_NOTHING_ELSE = "the space has nothing else to train"


class Rivals:
    """A(w): the complete trials that are more accurate than all others with at most as many weights."""

    def __init__(self) -> None:
        self._staircase: list[TrialRecord] = []

    def add(self, record: TrialRecord) -> None:
        """A complete trial."""
        before = self.best(record.weights)
        if before is not None and before.accuracy >= record.accuracy:
            return
        start = end = bisect_left(self._staircase, record.weights, key=_weights)
        while end < len(self._staircase) and self._staircase[end].accuracy <= record.accuracy:
            end += 1
        self._staircase[start:end] = [record]

    def best(self, weights: int) -> TrialRecord | None:
        """The trial with the best accuracy among those with at most so many weights."""
        place = bisect_right(self._staircase, weights, key=_weights)
        return self._staircase[place - 1] if place else None


_weights = attrgetter("weights")


class MultiObjectiveASHA(PausingRule):
    """Asynchronous successive halving by non-domination rank and crowding distance.

    After r, r * eta, r * eta^2, ... epochs a trial goes on if it is among the best 1/eta of those that have come so
    far, by the rank of the front it lies on in (accuracy there, weights), and within a front by crowding distance
    (Schmucker et al., Multi-objective Asynchronous Successive Halving, 2021; ranks and distances as in NSGA-II, Deb et
    al. 2002). A trial that rests goes on when later ones make it one of the best.

    Args:
        first_rung: r, in epochs.
        eta: the reduction factor.
        epochs: of a whole training.
    """

    def __init__(self, epochs: int, first_rung: int = 1, eta: int = 3) -> None:
        self.eta = eta
        self.rungs = []
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
        return next(((record, _NOTHING_ELSE) for record in paused), None) if spare else None

    def _best(self, rung: int, records: Sequence[TrialRecord]) -> tuple[int, set[int]]:
        """How many trials have reached the rung, and the numbers of the best 1/eta of them."""
        there = [r for r in records if len(r.curve) >= rung and r.state is not TrialState.FAILED]
        order = ranked(np.array([(record.weights, -record.curve[rung - 1]) for record in there], dtype=float))
        return len(there), {there[place].number for place in order[: max(len(there) // self.eta, 1)]}


def ranked(points: np.ndarray) -> list[int]:
    """Places of the points (n x 2, both to be minimised) from best to worst: by front, then by crowding distance."""
    if not len(points):
        return []
    fronts = moocore.pareto_rank(points)
    order: list[int] = []
    for front in np.unique(fronts):
        places = np.flatnonzero(fronts == front)
        order.extend(places[np.argsort(-_crowding(points[places]), kind="stable")])
    return [int(place) for place in order]


def _crowding(points: np.ndarray) -> np.ndarray:
    """Deb et al. 2002, section III-B: the sides of the box between a point's neighbours on its front, n."""
    distance = np.zeros(len(points))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        span = values[order[-1]] - values[order[0]] or 1.0
        distance[order[[0, -1]]] = np.inf
        distance[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / span
    return distance


def make_pausing_rule(name: str, epochs: int, others: Sequence[Sequence[float]] = ()) -> PausingRule | None:
    """The rule of that name: pareto, mo-asha, or none.

    Args:
        name: as in the search's config.
        epochs: of a whole training.
        others: whole curves on other data, for the prediction.
    """
    if name == "none" or epochs < 2:
        return None
    return MultiObjectiveASHA(epochs) if name == "mo-asha" else ParetoPausing(CurveModel(epochs, others))


def _words(expected: Prediction) -> str:
    return f"{100 * expected.mean:.2f} % +- {100 * expected.std:.2f} expected"
