"""What the trials of an Optuna study tell a model-based sampler; the point of each trial is worked out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial, TrialState

from ..trial_record import GaussianPrediction
from .candidate_pool import Point, Pool


@dataclass
class StudySnapshot:
    """The study at one ask.

    Args:
        observed: points of complete trials, and of unfinished ones whose accuracy is predicted, n.
        accuracy: their final or predicted accuracies, n.
        variance: of the predictions, n; 0 for complete trials.
        pending: points of the other unfinished trials.
        seen: ids of the points of all trials, of failed ones too.
        started: number of trials with a point, of failed ones too.
        first: the point of the first of them; None: there is none.
    """

    observed: list[Point] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    variance: list[float] = field(default_factory=list)
    pending: list[Point] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    started: int = 0
    first: Point | None = None

    @property
    def points(self) -> list[Point]:
        """Points of all trials but the failed ones: the observed ones, then the pending ones."""
        return self.observed + self.pending


class StudyReader:
    """Reads the trials of one study.

    Args:
        pool: knows the point of a trial's parameters.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._points: dict[int, Point | None] = {}
        self._announced: dict[int, Point] = {}

    def announce(self, number: int, point: Point) -> None:
        """A trial is about to get the parameters of this point; other threads may ask before it has them."""
        self._announced[number] = point

    def read(
        self, trials: Sequence[FrozenTrial], asking: int, predictions: Mapping[int, GaussianPrediction]
    ) -> StudySnapshot:
        """The study as these trials show it.

        Args:
            trials: all of the study.
            asking: number of the trial that a proposal is wanted for; it does not count.
            predictions: trial number -> final accuracy predicted of an unfinished trial; of others they are ignored.
        """
        snapshot = StudySnapshot()
        for trial in trials:
            point = self._point(trial) if trial.number != asking else None
            if point is None:
                continue
            snapshot.started += 1
            snapshot.first = snapshot.first or point
            snapshot.seen.add(point.id)
            if trial.state in (TrialState.FAIL, TrialState.PRUNED):
                continue
            known = predictions.get(trial.number)
            if trial.state is TrialState.COMPLETE:
                known = GaussianPrediction(trial.values[0], 0.0)
            if known is None:
                snapshot.pending.append(point)
                continue
            snapshot.observed.append(point)
            snapshot.accuracy.append(known.mean)
            snapshot.variance.append(known.std**2)
        return snapshot

    def _point(self, trial: FrozenTrial) -> Point | None:
        if trial.number in self._points:
            return self._points[trial.number]
        if not self._pool.distributions.keys() <= trial.params.keys():
            return None if trial.state.is_finished() else self._announced.get(trial.number)
        self._announced.pop(trial.number, None)
        self._points[trial.number] = self._pool.locate(trial.params)
        return self._points[trial.number]
