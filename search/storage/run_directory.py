"""The run directory: everything about one search, in files that a person can read.

config.yaml    the search, complete with defaults
run.json       the run's id, what its trials were trained with, and the address of its study if that is on a server
study.db       the Optuna study, unless it is on a server: every trial with its curve
journal.jsonl  each start and each end of a trial once more; a damaged study.db is rebuilt from it
clock.json     seconds of searching so far, without the interruptions
trials/        the checkpoints of trials that are running or paused
driver.lock    the lock of the process that searches
driver.json    host and id of the process that searches, while it does
report/        what `mgnas report` writes
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mgnas.errors import UserError
from mgnas.files import read_json, write_text, write_yaml
from mgnas.scratch import scratch_folder

from ...space.search_space import SearchSpace
from ..config import SearchConfig
from ..data.dataset import Dataset
from ..data.digest import dataset_digest, former_digest
from ..trial_record import TrialRecord, TrialState
from .checkpoints import Checkpoint, CheckpointUnavailableError
from .journal import Journal
from .run_lock import RunLock
from .run_metadata import RunMetadata, training_fingerprint
from .server_address import is_trusted, trust, without_password
from .server_trial_store import ServerTrialStore
from .sqlite_trial_store import DamagedStudyError, SqliteTrialStore
from .trial_queue import TrialQueue
from .trial_store import TrialStore

logger = logging.getLogger(__name__)

_CONFIG, _STUDY, _CLOCK, _JOURNAL = "config.yaml", "study.db", "clock.json", "journal.jsonl"


class RunDirectory:
    """An existing run. The `record_...` methods store what becomes of a trial.

    Each of them writes the study first and then the journal, and returns when both are on the disk. A process that is
    killed in between loses nothing, because the journal is written anew from the study when the search goes on.

    Args:
        path: the directory.
        study: address of a database server with the run's study, in place of the address in run.json.

    Raises:
        UserError: there is no such run, it is incomplete, or something in it is a link.
    """

    def __init__(self, path: str | os.PathLike, study: str | None = None) -> None:
        self.path = Path(path)
        self._open_config(study)
        self._store = self._open_store()

    def _open_config(self, study: str | None) -> None:
        """Read everything but the study."""
        if not self.path.is_dir():
            hint = _existing_runs(self.path.parent)
            raise UserError(f"{self.path}: no such run directory{hint}")
        refuse_links(self.path.iterdir())
        self._metadata = RunMetadata.read(self.path)
        self._metadata.study = study or self._trusted_server()
        replaceable = self._metadata.study is not None or (self.path / _JOURNAL).is_file()
        for name in (_CONFIG,) if replaceable else (_CONFIG, _STUDY):
            if not (self.path / name).is_file():
                problem = f"{name} is missing, so this is no complete run directory"
                raise UserError(f"{self.path}: {problem}; start a new search")
        self.config = SearchConfig.load(self.path / _CONFIG)
        self.space: SearchSpace = self.config.search_space()
        self._journal = Journal(self.path / _JOURNAL)
        self.lock = RunLock(self.path)

    def _trusted_server(self) -> str | None:
        """The server of the study. The author of a received run may not choose where this user's password goes.

        Raises:
            UserError: run.json alone names it.
        """
        stored = self._metadata.study
        if stored is None or is_trusted(self._metadata.id, stored):
            return stored
        if named := os.environ.get("MGNAS_STUDY"):
            return named
        problem = f"its study is on a server that you have not named yet ({without_password(stored)})"
        remedy = "if you trust this run, name the server with --study or MGNAS_STUDY"
        raise UserError(f"{self.path / 'run.json'}: {problem}; {remedy}")

    def _open_store(self) -> TrialStore:
        if self._metadata.study is not None:
            return ServerTrialStore(self._metadata.study, self._metadata.study_name or "", self.space)
        try:
            return SqliteTrialStore(self.path / _STUDY, self.space)
        except DamagedStudyError as error:
            if not self._journal.path.is_file():
                raise
            problem = str(error).rpartition("; ")[0]
            raise DamagedStudyError(f"{problem}; `mgnas resume {self.path}` rebuilds it from {_JOURNAL}") from None

    @classmethod
    def create(
        cls, config: SearchConfig, parent: str | os.PathLike, name: str | None = None, study: str | None = None
    ) -> RunDirectory:
        """Make a new run `parent/name`, whole or not at all.

        Args:
            config: the search.
            parent: folder of the run directories; made if missing.
            name: of the new directory; default: the config's name and the first free number.
            study: address of a database server to keep the study on; default: a file in the directory.

        Raises:
            UserError: the name is taken, the folder cannot be written, or the server cannot be used.
        """
        parent = Path(parent)
        if name is not None and (Path(name).name != name or name.startswith(".") or not name.isprintable()):
            raise UserError(f"--name: expected a plain folder name, got {name!r}; use --runs for the parent folder")
        config.search_space()  # An impossible space is refused before anything is written.
        try:
            parent.mkdir(parents=True, exist_ok=True)
            with scratch_folder(parent, ".new-run-") as scratch:
                metadata = RunMetadata(study=study, trained_with=training_fingerprint(config))
                path = parent / name if name else _free_name(parent, config.name)
                building = scratch / "run"
                building.mkdir()
                write_yaml(building / _CONFIG, config.to_dict())
                if study is None:
                    SqliteTrialStore.create(building / _STUDY)
                else:
                    metadata.study_name = f"{path.name}-{metadata.id}"
                    ServerTrialStore.create(study, metadata.study_name)
                metadata.write(building)
                (building / "trials").mkdir()
                while not _moved(building, path):
                    if name:
                        remedy = f"continue it with `mgnas resume {path}`, or choose another --name"
                        raise UserError(f"{path}: exists already; {remedy}")
                    path = _free_name(parent, config.name)  # Another search has just taken the number.
        except UserError:
            raise
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{parent}: cannot be written ({reason}); choose another --name or --runs") from None
        if study is not None:
            trust(metadata.id, study)
        return cls(path, study)

    @classmethod
    @contextmanager
    def open_for_resume(cls, path: str | os.PathLike, study: str | None = None) -> Iterator[RunDirectory]:
        """A context with a run whose search is to go on: locked, and rebuilt if its study was damaged.

        Raises:
            UserError: another process searches there, the run cannot be read or rebuilt, or its config was changed so
                that old and new trials could not be compared.
        """
        run = cls.__new__(cls)
        run.path = Path(path)
        run._open_config(study)
        with run.lock:
            run._metadata.check_fingerprint(run.config)
            try:
                run._store = run._open_store()
            except DamagedStudyError as error:
                run._rebuild_study(error)
            run._metadata.write(run.path)
            if run._metadata.study is not None:
                trust(run.id, run._metadata.study)
            run.clean_up()
            yield run

    def clean_up(self) -> None:
        """Write the journal anew, and delete half-written checkpoints and those of trials that have ended."""
        records = self.load()
        self._journal.rewrite(records)
        needed = {record.number for record in records if record.state in (TrialState.RUNNING, TrialState.PAUSED)}
        for file in (self.path / "trials").glob("*.pt*"):
            number = file.name.lstrip(".").partition(".")[0]
            if file.name.startswith(".") or (number.isdecimal() and int(number) not in needed):
                file.unlink(missing_ok=True)

    def remove_if_empty(self) -> None:
        """Delete a run that has no trial, with its study on a server; its lock must be free."""
        with contextlib.suppress(UserError):
            if self.path.is_dir() and not self.load():
                self._store.delete()
                self._store.close()
                shutil.rmtree(self.path, ignore_errors=True)

    def load(self) -> list[TrialRecord]:
        """All trials so far, in the order of their numbers.

        Raises:
            UserError: the study cannot be read, or a trial no longer fits the search space.
        """
        return self._store.load()

    @property
    def queue(self) -> TrialQueue:
        """The trials that the user wants to be run next."""
        return self._store.queue

    def close(self) -> None:
        """Close the study; the next call opens it again."""
        self._store.close()

    def record_start(self, trial: TrialRecord) -> None:
        """Store that a trial runs now, for the first time or again after it was paused or interrupted.

        Raises:
            SearchStoppedError: the study or the journal cannot be written.
        """
        self._store.start(trial)
        self._journal.start(trial)

    def record_epoch(self, trial: TrialRecord) -> None:
        """Store the new epochs of a running trial's curve.

        Raises:
            SearchStoppedError: the study cannot be written.
        """
        self._store.epoch(trial)

    def record_pause(self, trial: TrialRecord) -> None:
        """Store that a trial is paused, and why. It keeps its checkpoint.

        Raises:
            SearchStoppedError: the study or the journal cannot be written.
        """
        self._store.pause(trial)
        self._journal.end(trial)

    def record_end(self, trial: TrialRecord) -> None:
        """Store how a trial ended, set the clock to that moment, and delete the trial's checkpoint.

        A checkpoint that cannot be deleted is only in the way; `clean_up` tries again.

        Raises:
            SearchStoppedError: the study or the journal cannot be written.
            UserError: the clock cannot be written.
        """
        self._store.end(trial)
        self._journal.end(trial)
        if trial.finished is not None:
            self.elapsed = trial.finished
        try:
            Checkpoint(str(self.checkpoint(trial.number))).remove()
        except CheckpointUnavailableError as error:
            logger.warning("%s", error)

    @property
    def id(self) -> str:
        """The id of this run and no other, wherever its directory is moved."""
        return self._metadata.id

    @property
    def largest_class(self) -> tuple[str, float] | None:
        """Name of the class with the most validation images, and its share of them; None: not known."""
        return self._metadata.largest_class

    @property
    def validation_images(self) -> int | None:
        """Number of the images that accuracies are measured on; None: not known."""
        return self._metadata.validation_images

    @property
    def trained_on_gpus(self) -> bool | None:
        """Whether the trials are trained on GPUs; None: it is not decided yet."""
        return self._metadata.trained_on_gpus

    @property
    def storage(self) -> str:
        """Folder or address of the checkpoints of running and paused trials."""
        parent = self.config.resources.storage
        if parent is None:
            return str((self.path / "trials").absolute())
        return f"{parent.rstrip('/')}/{self.path.resolve().name}-{self.id}"

    def checkpoint(self, number: int) -> Path | str:
        """The checkpoint of a trial: a file, or an address of the storage."""
        address = f"{self.storage}/{number:05d}.pt"
        return address if "://" in address else Path(address)

    def change_config(self, config: SearchConfig) -> None:
        """Use a changed config: more trials, other workers, what the trials get of the GPUs.

        It is not stored before `store_config`, because the search may turn out not to be possible with it.
        """
        self.config = config
        self._metadata.trained_with = training_fingerprint(config)

    def store_config(self) -> None:
        """Store the config that is used.

        Raises:
            UserError: a file cannot be written.
        """
        write_yaml(self.path / _CONFIG, self.config.to_dict())
        self._metadata.write(self.path)

    def check_data(self, dataset: Dataset) -> None:
        """Refuse other images than those that the trials so far have learned from.

        Raises:
            UserError: the images are others, or a file cannot be written.
        """
        before = replace(self._metadata)
        self._metadata.check_images(dataset_digest(dataset), self.config.file, former_digest(dataset))
        label, share = dataset.validation.largest_class()
        self._metadata.largest_class = dataset.class_names[label], share
        self._metadata.validation_images = len(dataset.validation)
        if self._metadata != before:
            self.store_config()

    @property
    def elapsed(self) -> float:
        """Seconds of searching so far, as last stored; if the file is damaged, until the last trial ended."""
        try:
            return float(read_json(self.path / _CLOCK)["elapsed"])
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError, KeyError, TypeError):
            last = max((record.finished or 0.0 for record in self.load()), default=0.0)
            logger.warning("%s: is damaged; the clock goes on from the end of the last trial", self.path / _CLOCK)
            return last

    @elapsed.setter
    def elapsed(self, seconds: float) -> None:
        write_text(self.path / _CLOCK, json.dumps({"elapsed": round(seconds, 3)}) + "\n")

    def _rebuild_study(self, error: DamagedStudyError) -> None:
        """Replace a study that cannot be read by one made from the journal; the damaged file is kept."""
        records = self._journal.read(self.space)
        if not self._journal.path.is_file():
            raise error
        self._store = SqliteTrialStore.rebuild(self.path / _STUDY, self.space, records)
        ended = sum(record.state is not TrialState.RUNNING for record in records)
        counts = f"{len(records)} trials, {ended} of them ended"
        logger.warning("study.db could not be read; rebuilt from %s with %s, nothing of them is lost", _JOURNAL, counts)


def _moved(building: Path, path: Path) -> bool:
    """Give a new run its name; returns whether the name was free.

    A folder cannot be renamed to one that holds something, so of several searches that try at once only one succeeds.
    """
    if path.exists():
        return False
    try:
        building.rename(path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True


def refuse_links(paths: Iterable[Path]) -> None:
    """Refuse links inside a run, which may be somebody else's: what is written through them lies outside.

    Raises:
        UserError: one of the paths is a symbolic link.
    """
    for path in paths:
        if path.is_symlink():
            raise UserError(f"{path}: is a link, which may lead out of the run; put what it leads to in its place")


def _free_name(parent: Path, name: str) -> Path:
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def _existing_runs(parent: Path) -> str:
    runs = sorted(path.parent.name for path in parent.glob(f"[!.]*/{_CONFIG}")) if parent.is_dir() else []
    return f"; in {parent} there are {', '.join(runs[:8])}" if runs else ""
