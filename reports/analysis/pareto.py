"""The Pareto front of accuracy against weights. The only place that turns the two into a minimisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import moocore
import numpy as np

from ...search.trial_record import TrialRecord, TrialState


def complete(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that have a final accuracy; half-trained and failed ones enter no front."""
    return [record for record in records if record.state is TrialState.COMPLETE]


def objectives(records: Sequence[TrialRecord]) -> np.ndarray:
    """(log10 weights, 1 - accuracy) of complete trials, both to be minimised: n x 2."""
    pairs = [(math.log10(record.weights), 1 - record.accuracy) for record in records]
    return np.array(pairs, dtype=float).reshape(-1, 2)


def pareto_front(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The complete trials that no other beats in accuracy and weights, by ascending weights.

    Of trials with equal accuracy and equal weights the first is kept.
    """
    finished = complete(records)
    if not finished:
        return []
    kept = moocore.is_nondominated(objectives(finished))
    front = [record for record, on_front in zip(finished, kept, strict=True) if on_front]
    return sorted(front, key=lambda record: record.weights)


def reference_weights(records: Sequence[TrialRecord], max_weights: int | None) -> int:
    """The weights of the reference point: the search's budget, else the heaviest trial."""
    return max_weights or max((record.weights for record in records), default=1)


def hypervolume(records: Sequence[TrialRecord], weights: int) -> float:
    """Area that the front dominates, in accuracy x decades of weights.

    Args:
        records: trials; those without a final accuracy count nothing.
        weights: of the reference point, whose accuracy is 0.
    """
    finished = complete(records)
    return float(moocore.hypervolume(objectives(finished), ref=(math.log10(weights), 1.0))) if finished else 0.0


def hypervolume_over_trials(records: Sequence[TrialRecord], weights: int) -> list[float]:
    """The hypervolume after each complete trial, in the order in which they finished."""
    finished = sorted(complete(records), key=lambda record: (record.finished or 0, record.number))
    values, front = [], []
    for record in finished:
        front = pareto_front([*front, record])
        values.append(hypervolume(front, weights))
    return values
