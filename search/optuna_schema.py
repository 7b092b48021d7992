"""What mgnas writes into Optuna studies: directions, states, attribute keys."""

from __future__ import annotations

from optuna.trial import TrialState as OptunaState

from .trial_record import TrialState

DIRECTIONS = ("maximize", "minimize")
"""Directions of the objectives (validation accuracy, weights), in this order, in every Optuna study of mgnas."""

OPTUNA_STATE = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.PAUSED: OptunaState.WAITING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.FAILED: OptunaState.FAIL,
}
"""The name of each trial state in Optuna."""

EXPECTED = "mgnas:belief"
"""Key of a system attribute: [mean, standard deviation] of `TrialRecord.expected`, as storage/ writes it to disk.

Version 0.1.0 wrote the same key.
"""
