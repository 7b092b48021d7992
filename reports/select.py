"""Choosing one network from the front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from ..models.errors import UserError
from ..search.trial_record import TrialRecord
from .pareto import pareto_front

Preference = Literal["knee", "accuracy", "weights"]


def select(
    records: Sequence[TrialRecord],
    *,
    max_weights: int | None = None,
    min_accuracy: float | None = None,
    prefer: Preference = "knee",
) -> TrialRecord:
    """The trial on the front that keeps the limits and is preferred.

    Args:
        records: all trials of a run.
        max_weights: at most so many weights.
        min_accuracy: at least this validation accuracy, as a fraction.
        prefer: `accuracy`: the most accurate. `weights`: the lightest. `knee`: where more weights stop paying, the
            point of the whole front farthest above the line between its ends (accuracy against log weights).

    Raises:
        UserError: no trial is complete, or none keeps the limits.
    """
    front = pareto_front(records)
    if not front:
        raise UserError("no trial of this run is complete yet; continue it with `mgnas resume`")
    light = [record for record in front if max_weights is None or record.weights <= max_weights]
    if not light:
        smallest = f"the smallest of the {len(front)} on the front has {front[0].weights:,}"
        raise UserError(f"--max-weights: no network has at most {max_weights:,} weights; {smallest}")
    allowed = [record for record in light if min_accuracy is None or record.accuracy >= min_accuracy]
    if not allowed:
        within = f" within {max_weights:,} weights" if max_weights is not None else ""
        best = f"the best{within} has {max(record.accuracy for record in light):.4f}"
        raise UserError(f"--min-accuracy: no network reaches {min_accuracy:g}; {best}")
    if prefer == "accuracy":
        return max(allowed, key=lambda record: record.accuracy)
    if prefer == "weights":
        return min(allowed, key=lambda record: record.weights)
    return max(allowed, key=lambda record: height_above_chord(record, front))


def height_above_chord(record: TrialRecord, front: Sequence[TrialRecord]) -> float:
    """How far a trial lies above the line between the front's ends, both axes scaled to 0..1.

    Axes are log weights and accuracy; `front` is sorted by weights. Zero for a front of one point.
    """
    first, last = front[0], front[-1]
    if first.weights == last.weights:
        return 0.0
    along = math.log(record.weights / first.weights) / math.log(last.weights / first.weights)
    up = (record.accuracy - first.accuracy) / (last.accuracy - first.accuracy)
    return up - along


def selection(record: TrialRecord, run: str, data: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """What `mgnas train` takes: the chosen network with its data, recipe and origin.

    Args:
        record: the chosen trial.
        run: path of the run it comes from.
        data: the data settings.
        training: the recipe of the full training; settings that were searched come from the trial.
    """
    candidate = record.candidate
    searched = {name: getattr(candidate.training, name) for name in candidate.searched}
    return {
        "architecture": candidate.architecture.to_dict(),
        "training": training | searched,
        "data": data,
        "origin": {
            "run": run,
            "trial": record.number,
            "validation_accuracy": round(record.accuracy, 6),
            "weights": candidate.weights,
            "macs": candidate.macs,
        },
    }
