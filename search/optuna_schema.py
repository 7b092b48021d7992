"""What trials of mgnas are called in every Optuna study: directions, states, attribute keys."""

from __future__ import annotations

from optuna.trial import TrialState as OptunaState

from .trial_record import TrialState

DIRECTIONS = ("maximize", "minimize")
"""Of the objectives (validation accuracy, weights), in this order, in every Optuna study of mgnas."""

OPTUNA_STATE = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.PAUSED: OptunaState.WAITING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.FAILED: OptunaState.FAIL,
}
"""What a trial's state is called there."""
