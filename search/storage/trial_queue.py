"""Trials that a user wants to be run next, in the study: Optuna's own queue.

`Study.enqueue_trial`, optuna-dashboard and `mgnas search --try` put trials in. They wait there until the search hands
them out as trials of its own; then they count as failed for Optuna, and an attribute tells their trial's number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

_PARAMS = "fixed_params"
"""The system attribute in which Optuna keeps an enqueued trial's parameters."""
_OUTCOME = "mgnas"
"""The user attribute that tells what became of an enqueued trial."""


@dataclass(frozen=True)
class QueuedTrial:
    """A trial that is to be run.

    Args:
        number: in the study, which also counts the trials of other programs.
        params: parameters by their names, not checked; those that are missing are for the sampler.
    """

    number: int
    params: Any


class TrialQueue:
    """The queue of one study.

    Args:
        storage: that holds the study.
        study_id: of the study in the storage.
        storing: gives a context in which the storage is written.
    """

    def __init__(self, storage: RDBStorage, study_id: int, storing: Callable[[], AbstractContextManager[None]]) -> None:
        self._storage, self._study_id, self._storing = storage, study_id, storing

    def add(self, params: Mapping[str, Any]) -> None:
        """Put a trial in at the end.

        Raises:
            SearchStoppedError: the storage cannot be written.
        """
        trial = create_trial(state=OptunaState.WAITING, system_attrs={_PARAMS: dict(params)})
        with self._storing():
            self._storage.create_new_trial(self._study_id, template_trial=trial)

    def waiting(self) -> list[QueuedTrial]:
        """The trials that wait, the first one first.

        Raises:
            SearchStoppedError: the storage cannot be read.
        """
        with self._storing():
            trials = self._storage.get_all_trials(self._study_id, deepcopy=False, states=(OptunaState.WAITING,))
        return [QueuedTrial(trial.number, trial.system_attrs[_PARAMS]) for trial in trials if is_queued(trial)]

    def remove(self, trial: QueuedTrial, outcome: str) -> None:
        """Take a trial out.

        Args:
            trial: of the queue.
            outcome: what became of it, in words.

        Raises:
            SearchStoppedError: the storage cannot be written.
        """
        with self._storing():
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)
            self._storage.set_trial_user_attr(trial_id, _OUTCOME, outcome)
            self._storage.set_trial_state_values(trial_id, OptunaState.FAIL)


def is_queued(trial: FrozenTrial) -> bool:
    """Whether a trial of a study was enqueued: it waits, or the queue has handed it out."""
    waits = trial.state is OptunaState.WAITING and _PARAMS in trial.system_attrs
    return waits or _OUTCOME in trial.user_attrs
