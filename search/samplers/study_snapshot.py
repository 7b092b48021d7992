"""What the trials of an Optuna study say to a model-based sampler; each trial's point is worked out once."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial, TrialState

from ..optuna_schema import PREDICTION
from .candidate_pool import Point, Pool


@dataclass
class StudySnapshot:
    """The study at one ask.

    Args:
        observed: points of complete trials and of running ones whose accuracy is predicted, n.
        accuracy: theirs, n.
        variance: of the prediction, n; 0 for complete trials.
        pending: points of the other running trials.
        trainings: id -> trials that are complete or running.
        seen: ids of all trials, the failed ones among them.
        started: trials with a point, whatever became of them.
    """

    observed: list[Point] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    variance: list[float] = field(default_factory=list)
    pending: list[Point] = field(default_factory=list)
    trainings: collections.Counter[str] = field(default_factory=collections.Counter)
    failed: set[str] = field(default_factory=set)
    started: int = 0

    @property
    def seen(self) -> set[str]:
        return self.failed | self.trainings.keys()

    @property
    def points(self) -> list[Point]:
        """Of all trials that count: the observed ones, then the pending ones."""
        return self.observed + self.pending


class StudyReader:
    """Reads the trials of one study.

    Args:
        pool: knows the points behind parameters.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._points: dict[int, Point | None] = {}
        self._announced: dict[int, Point] = {}

    def announce(self, number: int, point: Point) -> None:
        """A trial is about to get these parameters; other threads may ask before it has them."""
        self._announced[number] = point

    def read(self, trials: Sequence[FrozenTrial], asking: int) -> StudySnapshot:
        """What the trials say.

        Args:
            trials: all of the study.
            asking: number of the trial for which a proposal is being made; it does not count.
        """
        snapshot = StudySnapshot()
        for trial in trials:
            point = self._point(trial) if trial.number != asking else None
            if point is None:
                continue
            snapshot.started += 1
            if trial.state in (TrialState.FAIL, TrialState.PRUNED):
                snapshot.failed.add(point.id)
                continue
            snapshot.trainings[point.id] += 1
            prediction = trial.system_attrs.get(PREDICTION)
            if trial.state is TrialState.COMPLETE:
                prediction = (trial.values[0], 0.0)
            if prediction is None:
                snapshot.pending.append(point)
                continue
            snapshot.observed.append(point)
            snapshot.accuracy.append(float(prediction[0]))
            snapshot.variance.append(float(prediction[1]) ** 2)
        return snapshot

    def _point(self, trial: FrozenTrial) -> Point | None:
        if trial.number in self._points:
            return self._points[trial.number]
        if not self._pool.distributions.keys() <= trial.params.keys():
            return None if trial.state.is_finished() else self._announced.get(trial.number)
        self._announced.pop(trial.number, None)
        self._points[trial.number] = self._pool.locate(trial.params)
        return self._points[trial.number]
