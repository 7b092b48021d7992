"""All trials of a search as a pandas table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ...search.trial_record import TrialRecord
from ...space.parameter import Parameter
from .pareto import pareto_front

if TYPE_CHECKING:
    import pandas as pd


def trial_table(trials: Sequence[TrialRecord], searched: Sequence[Parameter]) -> pd.DataFrame:
    """One row per trial, with a column for each searched setting.

    `Run.to_dataframe` explains the columns.

    Args:
        trials: in the order of the rows.
        searched: the settings that the search varies.
    """
    import pandas as pd

    numbers_on_front = {trial.number for trial in pareto_front(trials)}
    settings = [asdict(trial.candidate.training) | asdict(trial.candidate.architecture) for trial in trials]
    columns: dict[str, list[Any]] = {
        "trial": [trial.number for trial in trials],
        "state": [trial.state.value for trial in trials],
        "accuracy": [_or_nan(trial.accuracy) for trial in trials],
        "balanced_accuracy": [
            math.nan if trial.accuracy is None else _or_nan(trial.balanced_accuracy) for trial in trials
        ],
        "weights": [trial.weights for trial in trials],
        "macs": [trial.candidate.macs for trial in trials],
        "on_front": [trial.number in numbers_on_front for trial in trials],
        "epochs": [len(trial.curve) for trial in trials],
        "seconds": [trial.seconds for trial in trials],
        "finished": [_or_nan(trial.finished) for trial in trials],
        "network": [trial.candidate.architecture.describe() for trial in trials],
        "id": [trial.candidate.id for trial in trials],
        "reason": [trial.reason for trial in trials],
    }
    names = [parameter.name for parameter in searched]
    return pd.DataFrame(columns | {name: [values[name] for values in settings] for name in names})


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
