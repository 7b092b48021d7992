"""The Optuna study on disk: the search's memory, readable by optuna-dashboard while it runs.

One Optuna trial per mgnas trial, under the same number, with objectives (validation accuracy, weights), the curve as
intermediate values, and everything else as user attributes. Optuna's own `report` and `OptunaSearch` refuse or
mistake several objectives (a stopped trial would be stored as complete), so the storage is written directly.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState
from sqlalchemy.exc import SQLAlchemyError

from ..models.errors import UserError
from ..space.search_space import SearchSpace
from .strategy import DIRECTIONS, OPTUNA_STATE
from .trial_record import TrialRecord, TrialState

_STUDY = "mgnas"
_STATE = {value: key for key, value in OPTUNA_STATE.items()}
# What SQLite, SQLAlchemy and Optuna raise, each at its own depth, on a file that is none of theirs or was damaged.
_DAMAGE = (
    sqlite3.Error,
    SQLAlchemyError,
    optuna.exceptions.OptunaError,
    AssertionError,
    KeyError,
    RuntimeError,
    ValueError,
)


class StudyFile:
    """A study in an SQLite file.

    Args:
        path: the file.
        space: gives the parameters' distributions, and candidates back from their values.

    Raises:
        UserError: the file is missing or damaged.
    """

    def __init__(self, path: str | os.PathLike, space: SearchSpace) -> None:
        self.path, self.space = Path(path), space
        self._distributions = {parameter.name: parameter.distribution for parameter in space.parameters}
        if not self.path.is_file():
            raise UserError(f"{path}: is missing, and with it the trials of this run; start the search anew")
        try:
            _check_integrity(self.path)
            self._storage = _storage(self.path)
            self._study_id = self._storage.get_study_id_from_name(_STUDY)
            trials = self._storage.get_all_trials(self._study_id)
        except _DAMAGE as error:
            reason = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
            raise UserError(f"{path}: not a readable study of mgnas ({reason}); restore it from a copy") from None
        numbers = [trial.number for trial in trials]
        self._ids = {n: self._storage.get_trial_id_from_study_id_trial_number(self._study_id, n) for n in numbers}
        self._stored = {trial.number: dict(trial.intermediate_values) for trial in trials}

    @staticmethod
    def create(path: str | os.PathLike) -> None:
        """Make an empty study."""
        directions = [optuna.study.StudyDirection[direction.upper()] for direction in DIRECTIONS]
        storage = _storage(Path(path))
        study_id = storage.create_new_study(directions, _STUDY)
        storage.set_study_system_attr(study_id, "study:metric_names", ["validation accuracy", "weights"])
        storage.remove_session()
        storage.engine.dispose()

    def start(self, record: TrialRecord) -> None:
        """Store a trial that has been handed out; one that is stored already is running again if it was paused."""
        if record.number in self._ids:
            self._store_decisions(record)
            self._storage.set_trial_state_values(self._ids[record.number], OptunaState.RUNNING)
            return
        candidate = record.candidate
        trial = create_trial(
            state=OptunaState.RUNNING,
            params=candidate.values,
            distributions=self._distributions,
            system_attrs=record.sampler_notes,
            user_attrs={
                "id": candidate.id,
                "weights": candidate.weights,
                "macs": candidate.macs,
                "seed": record.seed,
                **candidate.to_dict(),
            },
        )
        self._ids[record.number] = self._storage.create_new_trial(self._study_id, template_trial=trial)

    def epoch(self, record: TrialRecord) -> None:
        """Store what is new of the trial's curve; all of it if the trial had to begin anew."""
        stored = self._stored.setdefault(record.number, {})
        for epoch, accuracy in enumerate(record.curve, start=1):
            if stored.get(epoch) != accuracy:
                self._storage.set_trial_intermediate_value(self._ids[record.number], epoch, accuracy)
                stored[epoch] = accuracy

    def pause(self, record: TrialRecord) -> None:
        """Store that the trial rests, and why. For Optuna it is waiting."""
        self._store_decisions(record)
        self._storage.set_trial_user_attr(self._ids[record.number], "seconds", record.seconds)
        self._storage.set_trial_state_values(self._ids[record.number], OPTUNA_STATE[TrialState.PAUSED])

    def _store_decisions(self, record: TrialRecord) -> None:
        if record.decisions:
            self._storage.set_trial_user_attr(self._ids[record.number], "decisions", record.decisions)

    def end(self, record: TrialRecord) -> None:
        """Store how the trial ended."""
        trial_id = self._ids[record.number]
        self._store_decisions(record)
        ending = {
            "epochs": len(record.curve),
            "seconds": record.seconds,
            "finished": record.finished,
            "reason": record.reason,
        }
        for key, value in ending.items():
            self._storage.set_trial_user_attr(trial_id, key, value)
        values = [record.accuracy, record.weights] if record.state is TrialState.COMPLETE else None
        self._storage.set_trial_state_values(trial_id, OPTUNA_STATE[record.state], values)

    def load(self) -> list[TrialRecord]:
        """All trials in the order of their numbers.

        Raises:
            UserError: a trial no longer fits the search space.
        """
        try:
            trials = self._storage.get_all_trials(self._study_id)
        except _DAMAGE as error:
            raise UserError(f"{self.path}: cannot be read ({str(error).splitlines()[0]})") from None
        return [self._record(trial) for trial in trials]

    def close(self) -> None:
        """Release the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        attributes = trial.user_attrs
        try:
            create_trial(params=trial.params, distributions=self._distributions, state=OptunaState.RUNNING)
            candidate = self.space.build(trial.params)
            seed = attributes["seed"]
        except (ValueError, KeyError) as error:
            raise UserError(f"{self.path}: trial {trial.number} does not fit the search space ({error})") from None
        curve = [value for _, value in sorted(trial.intermediate_values.items())]
        return TrialRecord(
            trial.number,
            candidate,
            seed,
            _STATE[trial.state],
            curve[: attributes.get("epochs")],
            attributes.get("reason", ""),
            attributes.get("seconds", 0.0),
            attributes.get("finished"),
            trial.system_attrs,
            list(attributes.get("decisions", ())),
        )


def _check_integrity(path: Path) -> None:
    """A damaged page can otherwise go unnoticed until it is read, or be read as something else."""
    # NOTE: Not read-only: SQLite must be able to roll back what a killed writer left half-done.
    with contextlib.closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=rw", uri=True)) as connection:
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    if "studies" not in tables:
        raise sqlite3.DatabaseError("it holds no Optuna study")


def _storage(path: Path) -> RDBStorage:
    # As a quoted file: address, because '?' and '%' in a folder's name mean something in database addresses. The
    # second quoting is undone by SQLAlchemy, the first by SQLite.
    address = quote(f"file:{quote(str(path.resolve()))}", safe="/:")
    return RDBStorage(f"sqlite:///{address}?uri=true", engine_kwargs={"connect_args": {"timeout": 60}})
