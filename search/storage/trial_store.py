"""The trials of a search in an Optuna storage, readable by optuna-dashboard while the search runs.

One Optuna trial per mgnas trial, under the same number, with objectives (validation accuracy, weights), the curve as
intermediate values, and everything else as user attributes. Optuna's own `report` and `OptunaSearch` refuse or
mistake several objectives (a stopped trial would be stored as complete), so the storage is written directly.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState
from sqlalchemy.exc import SQLAlchemyError

from mgnas.errors import SearchStoppedError, UserError

from ...space.search_space import SearchSpace
from ..optuna_schema import EXPECTED, OPTUNA_STATE
from ..trial_record import GaussianPrediction, TrialRecord, TrialState

_STATE = {value: key for key, value in OPTUNA_STATE.items()}
# What SQLite, SQLAlchemy and Optuna raise, each at its own depth, on a file that is none of theirs or was damaged.
DAMAGE = (
    sqlite3.Error,
    SQLAlchemyError,
    optuna.exceptions.OptunaError,
    AssertionError,
    KeyError,
    RuntimeError,
    ValueError,
)
_TROUBLE = (sqlite3.Error, SQLAlchemyError, optuna.exceptions.StorageInternalError)


class TrialStore:
    """A study that exists in a storage.

    Args:
        storage: where it is.
        name: its name there.
        space: gives the parameters' distributions, and candidates back from their values.
        label: what messages call it.

    Raises:
        optuna.exceptions.OptunaError and others of DAMAGE: it is not there, or cannot be read.
    """

    def __init__(self, storage: RDBStorage, name: str, space: SearchSpace, label: str) -> None:
        self.space, self.label = space, label
        self._storage = storage
        self._last_read: tuple[object, list[FrozenTrial]] = None, []
        self._distributions = {parameter.name: parameter.distribution for parameter in space.parameters}
        self._study_id = storage.get_study_id_from_name(name)
        trials = self._read()
        self._ids = {trial.number: trial._trial_id for trial in trials}
        self._stored = {trial.number: dict(trial.intermediate_values) for trial in trials}

    def _version(self) -> object:
        """Equal as long as nobody has written; None: not known."""
        return None

    def _read(self) -> list[FrozenTrial]:
        """All trials; read once for whoever opens a study and loads it, since thousands take seconds."""
        version = self._version()
        if version is not None and version == self._last_read[0]:
            return self._last_read[1]
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        if version is not None:
            self._last_read = version, trials
        return trials

    def check_present(self) -> None:
        """Make sure that what is written now will be found again.

        Raises:
            SearchStoppedError: it will not.
        """

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        """Errors of the storage as one line.

        Raises:
            SearchStoppedError: instead of them.
        """
        self.check_present()
        self._last_read = None, []
        try:
            yield
        except _TROUBLE as error:
            raise SearchStoppedError(f"{self.label}: cannot be written ({reason_of(error)})") from None

    def start(self, record: TrialRecord) -> None:
        """Store a trial that has been handed out; one that is stored already is running again if it was paused.

        Raises:
            SearchStoppedError: as all that write here, if the storage cannot be written.
        """
        with self._storing():
            if record.number in self._ids:
                self._store_decisions(record)
                self._storage.set_trial_state_values(self._ids[record.number], OptunaState.RUNNING)
            else:
                self._ids[record.number] = self._add(record)

    def _add(self, record: TrialRecord, state: OptunaState | None = None) -> int:
        """A new running trial of the storage, or all of one that stands as `state` says; its id there."""
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
        return self._storage.create_new_trial(self._study_id, template_trial=trial)

    def adopt(self, record: TrialRecord) -> None:
        """Store a trial of another study as it stands; the numbers must come in order.

        Raises:
            SearchStoppedError: the storage cannot be written.
        """
        with self._storing():
            self._ids[record.number] = self._add(record, OPTUNA_STATE[record.state])
            self._stored[record.number] = dict(enumerate(record.curve, start=1))

    def epoch(self, record: TrialRecord) -> None:
        """Store what is new of the trial's curve; all of it if the trial had to begin anew."""
        stored = self._stored.setdefault(record.number, {})
        with self._storing():
            for epoch, accuracy in enumerate(record.curve, start=1):
                if stored.get(epoch) != accuracy:
                    self._storage.set_trial_intermediate_value(self._ids[record.number], epoch, accuracy)
                    stored[epoch] = accuracy

    def pause(self, record: TrialRecord) -> None:
        """Store that the trial rests, and why. For Optuna it is waiting."""
        with self._storing():
            self._store_decisions(record)
            self._storage.set_trial_user_attr(self._ids[record.number], "seconds", record.seconds)
            self._storage.set_trial_state_values(self._ids[record.number], OPTUNA_STATE[TrialState.PAUSED])

    def _store_decisions(self, record: TrialRecord) -> None:
        if record.decisions:
            self._storage.set_trial_user_attr(self._ids[record.number], "decisions", record.decisions)

    def end(self, record: TrialRecord) -> None:
        """Store how the trial ended."""
        trial_id = self._ids[record.number]
        with self._storing():
            self._store_decisions(record)
            for key, value in _ending(record).items():
                self._storage.set_trial_user_attr(trial_id, key, value)
            self._storage.set_trial_state_values(trial_id, OPTUNA_STATE[record.state], _values(record))
            self._stored.pop(record.number, None)

    def load(self) -> list[TrialRecord]:
        """All trials in the order of their numbers.

        Raises:
            UserError: a trial no longer fits the search space.
        """
        try:
            trials = self._read()
        except DAMAGE as error:
            raise UserError(f"{self.label}: cannot be read ({reason_of(error)})") from None
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
            raise UserError(f"{self.label}: trial {trial.number} does not fit the search space ({error})") from None
        curve = [value for _, value in sorted(trial.intermediate_values.items())]
        notes = dict(trial.system_attrs)
        expected = notes.pop(EXPECTED, None)
        return TrialRecord(
            trial.number,
            candidate,
            seed,
            _STATE[trial.state],
            curve[: attributes.get("epochs")],
            attributes.get("reason", ""),
            attributes.get("seconds", 0.0),
            attributes.get("finished"),
            notes,
            list(attributes.get("decisions", ())),
            expected and GaussianPrediction(*expected),
        )


def _ending(record: TrialRecord) -> dict[str, object]:
    return {
        "epochs": len(record.curve),
        "seconds": record.seconds,
        "finished": record.finished,
        "reason": record.reason,
    }


def _values(record: TrialRecord) -> list[float] | None:
    return [record.accuracy, record.weights] if record.state is TrialState.COMPLETE else None


def reason_of(error: Exception) -> str:
    """What the database itself said, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
