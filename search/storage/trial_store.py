"""The trials of a search in an Optuna storage, which optuna-dashboard can show while the search runs.

Each trial of mgnas is an Optuna trial, in the same order. Its objectives are (validation accuracy, weights), its
intermediate values the curve, and its user attributes everything else. Trials that other programs have added to the
study are ignored; they take numbers of Optuna's, so the trials of mgnas after them have larger numbers there.

The storage is written directly, because Optuna's `Trial.report` refuses several objectives and Ray's `OptunaSearch`
would store a stopped trial as complete.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState
from sqlalchemy.exc import SQLAlchemyError

from mgnas.errors import SearchStoppedError, UserError, first_line

from ...space.search_space import SearchSpace
from ..optuna_schema import DIRECTIONS, EXPECTED, OPTUNA_STATE
from ..trial_record import ExpectedGain, GaussianPrediction, TrialRecord, TrialState
from .trial_queue import TrialQueue, is_queued

logger = logging.getLogger(__name__)

_STATE = {value: key for key, value in OPTUNA_STATE.items()}
DAMAGE = (
    sqlite3.Error,
    SQLAlchemyError,
    optuna.exceptions.OptunaError,
    AssertionError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What SQLite, SQLAlchemy and Optuna raise, each at its own depth, on a damaged study or a file of another kind."""

_OWN_ATTRIBUTES = {"id", "weights", "seed"}
"""User attributes that every trial of mgnas has had in all versions."""

_TROUBLE = (sqlite3.Error, SQLAlchemyError, optuna.exceptions.StorageInternalError)


class TrialStore:
    """An existing study in a storage. One process writes to it, and any number may read.

    Args:
        storage: that holds the study.
        name: of the study in the storage.
        space: gives the parameters' distributions, and candidates back from their values.
        label: what messages call the study.

    Raises:
        an error of DAMAGE: there is no such study, or it cannot be read.
    """

    def __init__(self, storage: RDBStorage, name: str, space: SearchSpace, label: str) -> None:
        self.space, self.label = space, label
        self._storage = storage
        self._last_read: tuple[object, list[FrozenTrial]] = None, []
        self._distributions: dict[str, BaseDistribution] = {
            parameter.name: parameter.distribution for parameter in space.parameters
        }
        self._study_id = storage.get_study_id_from_name(name)
        trials, others = _split(self._read())
        self._optuna_numbers = [trial.number for trial in trials]
        self._ids: dict[int, int] = {}
        self._stored_curves = {number: dict(trial.intermediate_values) for number, trial in enumerate(trials)}
        self.queue = TrialQueue(storage, self._study_id, self._storing)
        if others:
            numbers = ", ".join(str(trial.number) for trial in others[:8])
            logger.warning("%s: %d trials of other programs are ignored (%s)", label, len(others), numbers)

    def _version(self) -> object:
        """A value that changes with every write, by whichever process; None: not known."""
        return None

    def _read(self) -> list[FrozenTrial]:
        """All trials, which are not read again until somebody has written: thousands of trials take seconds."""
        version = self._version()
        if version is not None and version == self._last_read[0]:
            return self._last_read[1]
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        if version is not None:
            self._last_read = version, trials
        return trials

    def _id(self, number: int) -> int:
        """The storage's own id of a trial."""
        if number not in self._ids:
            optuna_number = self._optuna_numbers[number]
            self._ids[number] = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, optuna_number)
        return self._ids[number]

    def check_present(self) -> None:
        """Make sure that what is written now will be found again.

        Raises:
            SearchStoppedError: it will not.
        """

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        """A context in which the storage is written; its errors become one line.

        Raises:
            SearchStoppedError: the storage cannot be written.
        """
        self.check_present()
        self._last_read = None, []
        try:
            yield
        except _TROUBLE as error:
            raise SearchStoppedError(f"{self.label}: cannot be written ({first_line(root_cause(error))})") from None

    def start(self, record: TrialRecord) -> None:
        """Store that a trial runs now, for the first time or again after it was paused or interrupted.

        Raises:
            SearchStoppedError: the storage cannot be written.
        """
        with self._storing():
            if record.number in self._ids or record.number < len(self._optuna_numbers):
                self._store_decisions(record)
                self._storage.set_trial_state_values(self._id(record.number), OptunaState.RUNNING)
            else:
                self._add(record)

    def _add(self, record: TrialRecord, state: OptunaState | None = None) -> None:
        """Add a trial that starts now; with a state, all of a trial of another study that is in this state."""
        candidate, adopted = record.candidate, state is not None
        expected = {EXPECTED: [record.expected.mean, record.expected.std]} if record.expected else {}
        attributes = {
            "id": candidate.id,
            "weights": candidate.weights,
            "macs": candidate.macs,
            "seed": record.seed,
            **candidate.to_dict(),
        }
        if adopted:
            ended = record.state in (TrialState.COMPLETE, TrialState.FAILED)
            attributes |= _ending(record) if ended else {"seconds": record.seconds}
            attributes |= {"decisions": record.decisions} if record.decisions else {}
        trial = create_trial(
            state=state or OptunaState.RUNNING,
            values=_values(record) if adopted else None,
            params=candidate.params,
            distributions=self._distributions,
            system_attrs=record.sampler_notes | expected,
            user_attrs=attributes,
            intermediate_values=dict(enumerate(record.curve, start=1)) if adopted else None,
        )
        self._ids[record.number] = self._storage.create_new_trial(self._study_id, template_trial=trial)

    def adopt(self, record: TrialRecord) -> None:
        """Store a trial of another study in its present state; the numbers must come in order.

        Raises:
            SearchStoppedError: the storage cannot be written.
        """
        with self._storing():
            self._add(record, OPTUNA_STATE[record.state])
            self._stored_curves[record.number] = dict(enumerate(record.curve, start=1))

    def epoch(self, record: TrialRecord) -> None:
        """Store the epochs of the trial's curve that are new or, after a trial had to begin anew, different.

        Raises:
            SearchStoppedError: the storage cannot be written.
        """
        stored = self._stored_curves.setdefault(record.number, {})
        with self._storing():
            for epoch, accuracy in enumerate(record.curve, start=1):
                if stored.get(epoch) != accuracy:
                    self._storage.set_trial_intermediate_value(self._id(record.number), epoch, accuracy)
                    stored[epoch] = accuracy

    def pause(self, record: TrialRecord) -> None:
        """Store that the trial is paused (for Optuna: waiting), and why.

        Raises:
            SearchStoppedError: the storage cannot be written.
        """
        with self._storing():
            self._store_decisions(record)
            self._storage.set_trial_user_attr(self._id(record.number), "seconds", record.seconds)
            self._storage.set_trial_state_values(self._id(record.number), OPTUNA_STATE[TrialState.PAUSED])

    def _store_decisions(self, record: TrialRecord) -> None:
        if record.decisions:
            self._storage.set_trial_user_attr(self._id(record.number), "decisions", record.decisions)

    def end(self, record: TrialRecord) -> None:
        """Store how the trial ended.

        Raises:
            SearchStoppedError: the storage cannot be written.
        """
        with self._storing():
            trial_id = self._id(record.number)
            self._store_decisions(record)
            for key, value in _ending(record).items():
                self._storage.set_trial_user_attr(trial_id, key, value)
            self._storage.set_trial_state_values(trial_id, OPTUNA_STATE[record.state], _values(record))
            self._stored_curves.pop(record.number, None)

    def load(self) -> list[TrialRecord]:
        """All trials in the order of their numbers.

        Raises:
            UserError: a trial no longer fits the search space.
        """
        try:
            trials = self._read()
        except DAMAGE as error:
            raise UserError(f"{self.label}: cannot be read ({first_line(root_cause(error))})") from None
        return [self._record(number, trial) for number, trial in enumerate(_split(trials)[0])]

    def delete(self) -> None:
        """Delete the study and its trials.

        Raises:
            SearchStoppedError: the storage cannot be written.
        """
        with self._storing():
            self._storage.delete_study(self._study_id)

    def close(self) -> None:
        """Close the connections to the database; the next call opens them again."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _record(self, number: int, trial: FrozenTrial) -> TrialRecord:
        attributes = trial.user_attrs
        try:
            create_trial(params=trial.params, distributions=self._distributions, state=OptunaState.RUNNING)
            candidate = self.space.build(trial.params)
        except (ValueError, KeyError) as error:
            raise UserError(f"{self.label}: trial {number} does not fit the search space ({error})") from None
        curve = [value for _, value in sorted(trial.intermediate_values.items())]
        notes = dict(trial.system_attrs)
        expected = notes.pop(EXPECTED, None)
        try:
            return TrialRecord(
                number,
                candidate,
                int(attributes["seed"]),
                _STATE[trial.state],
                curve[: attributes.get("epochs")],
                str(attributes.get("reason", "")),
                float(attributes.get("seconds", 0.0)),
                _number(attributes.get("finished")),
                notes,
                [str(decision) for decision in attributes.get("decisions", ())],
                expected and GaussianPrediction(*map(float, expected)),
                _number(attributes.get("balanced_accuracy")),
                _gain(attributes.get("gain")),
            )
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            raise UserError(f"{self.label}: trial {number} is damaged ({first_line(error)})") from None


def _gain(value: Any) -> ExpectedGain | None:
    return None if value is None else ExpectedGain(int(value[0]), float(value[1]))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _split(trials: list[FrozenTrial]) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
    """The trials of mgnas, and those that other programs have added, without the queue."""
    own, others = [], []
    for trial in trials:
        if not is_queued(trial):
            (own if trial.user_attrs.keys() >= _OWN_ATTRIBUTES else others).append(trial)
    return own, others


def _ending(record: TrialRecord) -> dict[str, object]:
    return {
        "epochs": len(record.curve),
        "seconds": record.seconds,
        "finished": record.finished,
        "reason": record.reason,
        "balanced_accuracy": record.balanced_accuracy,
        **({} if record.gain is None else {"gain": [record.gain.trials, record.gain.share]}),
    }


def _values(record: TrialRecord) -> list[float] | None:
    """The objectives of a complete trial, else None."""
    return None if record.accuracy is None else [record.accuracy, record.weights]


def create_study(storage: RDBStorage, name: str) -> None:
    """Make an empty study with the objectives of mgnas, and close the storage."""
    directions = [optuna.study.StudyDirection[direction.upper()] for direction in DIRECTIONS]
    study_id = storage.create_new_study(directions, name)
    # The key of Optuna's own `Study.set_metric_names`, which would announce that it is experimental.
    storage.set_study_system_attr(study_id, "study:metric_names", ["validation accuracy", "weights"])
    storage.remove_session()
    storage.engine.dispose()


def root_cause(error: BaseException) -> BaseException:
    """The error that the database itself raised, below those of SQLAlchemy and Optuna."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
