"""The Pareto front of accuracy against weights. The only place that turns the two into a minimisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import moocore
import numpy as np

from ...search.trial_record import CompletedTrial, TrialRecord, completed_trials


def objectives(trials: Sequence[CompletedTrial]) -> np.ndarray:
    """(log10 weights, 1 - accuracy), both to be minimised: n x 2."""
    pairs = [(math.log10(trial.weights), 1 - trial.accuracy) for trial in trials]
    return np.array(pairs, dtype=float).reshape(-1, 2)


def pareto_front(records: Sequence[TrialRecord]) -> list[CompletedTrial]:
    """The front of a run's complete trials, by ascending weights; half-trained and failed ones enter no front."""
    return nondominated(completed_trials(records))


def nondominated(trials: Sequence[CompletedTrial]) -> list[CompletedTrial]:
    """The trials that no other beats in accuracy and weights, by ascending weights.

    Of trials with equal accuracy and equal weights the first is kept.
    """
    if not trials:
        return []
    kept = moocore.is_nondominated(objectives(trials))
    front = [trial for trial, on_front in zip(trials, kept, strict=True) if on_front]
    return sorted(front, key=lambda trial: trial.weights)


def leading_fronts(trials: Sequence[CompletedTrial], networks: int) -> list[CompletedTrial]:
    """The front, and while that makes fewer than `networks` different networks, the front of the other trials, too."""
    leading, others = [], list(trials)
    while others and len({trial.architecture for trial in leading}) < networks:
        leading += nondominated(others)
        others = [trial for trial in others if trial not in leading]
    return leading


def reference_weights(records: Sequence[TrialRecord], max_weights: int | None) -> int:
    """The weights of the reference point: the search's budget, or the heaviest trial's if there is no budget."""
    return max_weights or max((record.weights for record in records), default=1)


def hypervolume(trials: Sequence[CompletedTrial], weights: int, accuracy: float = 0.0) -> float:
    """Area that the trials dominate, in accuracy x decades of weights; 0 without trials.

    Args:
        trials: on a front or not.
        weights, accuracy: of the reference point.
    """
    reference = (math.log10(weights), 1.0 - accuracy)
    return float(moocore.hypervolume(objectives(trials), ref=reference)) if trials else 0.0


def hypervolume_over_trials(trials: Sequence[CompletedTrial], weights: int, accuracy: float = 0.0) -> list[float]:
    """The hypervolume after each trial, in the order in which they finished."""
    values, front = [], []
    for trial in sorted(trials, key=lambda trial: (trial.finished or 0, trial.number)):
        front = nondominated([*front, trial])
        values.append(hypervolume(front, weights, accuracy))
    return values
