"""The run directory: everything about one search, in files that a person can read.

config.yaml    the search, complete with defaults
run.json       the run's id, what its trials are trained with, and the address of its study if that is on a server
study.db       the Optuna study, unless it is on a server: every trial with its curve
journal.jsonl  every trial's start and end once more, a line each; a damaged study.db is rebuilt from it
clock.json     seconds of searching so far, over all interruptions
trials/        the checkpoints of trials that are running or paused
driver.json    while a search is running: whose it is
report/        what `mgnas report` makes of it
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mgnas.errors import UserError
from mgnas.files import write_text, write_yaml

from ...space.search_space import SearchSpace
from ..config import SearchConfig
from ..data.dataset import Dataset
from ..trial_record import TrialRecord, TrialState
from .checkpoints import Checkpoint, CheckpointUnavailableError
from .fingerprint import dataset_digest, training_fingerprint
from .journal import Journal
from .run_lock import RunLock
from .run_metadata import RunMetadata
from .study import DamagedStudyError, StudyFile, StudyServer
from .trial_store import TrialStore

logger = logging.getLogger(__name__)

_CONFIG, _STUDY, _CLOCK, _JOURNAL = "config.yaml", "study.db", "clock.json", "journal.jsonl"


class RunDirectory:
    """An existing run.

    Args:
        path: the directory.
        study: address of a database server with its study, in place of the one that the run knows.

    Raises:
        UserError: there is none, or it is incomplete.
    """

    def __init__(self, path: str | os.PathLike, study: str | None = None) -> None:
        self.path = Path(path)
        self._open_config(study)
        self.study = self._open_study()

    def _open_config(self, study: str | None) -> None:
        """Read all but the study."""
        if not self.path.is_dir():
            hint = _existing_runs(self.path.parent)
            raise UserError(f"{self.path}: no such run directory{hint}")
        self._identity = RunMetadata.read(self.path)
        self._identity.study = study or self._identity.study
        elsewhere = self._identity.study is not None or (self.path / _JOURNAL).is_file()
        for name in (_CONFIG,) if elsewhere else (_CONFIG, _STUDY):
            if not (self.path / name).is_file():
                problem = f"{name} is missing, so this is no complete run directory"
                raise UserError(f"{self.path}: {problem}; start a new search")
        self.config = SearchConfig.load(self.path / _CONFIG)
        self.space: SearchSpace = self.config.search_space()
        self.journal = Journal(self.path / _JOURNAL)
        self.lock = RunLock(self.path)

    def _open_study(self) -> TrialStore:
        if self._identity.study is not None:
            return StudyServer(self._identity.study, self._identity.study_name or "", self.space)
        try:
            return StudyFile(self.path / _STUDY, self.space)
        except DamagedStudyError as error:
            if not self.journal.path.is_file():
                raise
            problem = str(error).rpartition("; ")[0]
            raise DamagedStudyError(f"{problem}; `mgnas resume {self.path}` rebuilds it from {_JOURNAL}") from None

    @classmethod
    def create(
        cls, config: SearchConfig, parent: str | os.PathLike, name: str | None = None, study: str | None = None
    ) -> RunDirectory:
        """Make a new run `parent/name`, whole or not at all.

        Args:
            config: what to search.
            parent: folder of the run directories; made if missing.
            name: default: the config's name and the first free number.
            study: address of a database server to keep the study on; default: a file in the directory.

        Raises:
            UserError: the name is taken, or the folder cannot be written, or the server cannot be used.
        """
        parent = Path(parent)
        if name is not None and (Path(name).name != name or name.startswith(".") or not name.isprintable()):
            raise UserError(f"--name: expected a plain folder name, got {name!r}; use --runs for the parent folder")
        config.search_space()  # Before anything is written: an impossible space leaves no run behind.
        try:
            parent.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(dir=parent, prefix=".new-"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{parent}: cannot be written ({reason}); choose another folder with --runs") from None
        try:
            path = parent / name if name else _free_name(parent, config.name)
            identity = RunMetadata(study=study, trained_with=training_fingerprint(config))
            building.chmod(0o755)
            write_yaml(building / _CONFIG, config.to_dict())
            if study is None:
                StudyFile.create(building / _STUDY)
            else:
                identity.study_name = f"{path.name}-{identity.id}"
                StudyServer.create(study, identity.study_name)
            identity.write(building)
            (building / "trials").mkdir()
            if path.exists():
                raise UserError(
                    f"{path}: exists already; continue it with `mgnas resume {path}`, or choose another --name"
                )
            building.rename(path)
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            raise UserError(
                f"{parent}: cannot be written ({error.strerror}); choose another --name or --runs"
            ) from None
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        return cls(path)

    @classmethod
    @contextmanager
    def open_for_resume(cls, path: str | os.PathLike, study: str | None = None) -> Iterator[RunDirectory]:
        """A context with a run to go on with: nobody else searches there meanwhile, and what was damaged is mended.

        Raises:
            UserError: somebody else searches there; the run cannot be read or mended; its config has been changed in a
                way that changes what its trials mean.
        """
        run = cls.__new__(cls)
        run.path = Path(path)
        run._open_config(study)
        with run.lock:
            run._identity.check_fingerprint(run.config)
            try:
                run.study = run._open_study()
            except DamagedStudyError as error:
                run._rebuild_study(error)
            run._identity.write(run.path)
            run.clean_up()
            yield run

    def clean_up(self) -> None:
        """Write the journal anew, and delete the checkpoints of trials that have ended and what was half written."""
        records = self.load()
        self.journal.rewrite(records)
        needed = {record.number for record in records if record.state in (TrialState.RUNNING, TrialState.PAUSED)}
        for file in (self.path / "trials").glob("*.pt*"):
            number = file.name.lstrip(".").partition(".")[0]
            if file.name.startswith(".") or (number.isdecimal() and int(number) not in needed):
                file.unlink(missing_ok=True)

    def load(self) -> list[TrialRecord]:
        """All trials so far, in the order of their numbers."""
        return self.study.load()

    @property
    def id(self) -> str:
        """Belongs to this run and no other, wherever its directory is moved."""
        return self._identity.id

    @property
    def storage(self) -> str:
        """Folder or address of the checkpoints of running trials."""
        outside = self.config.resources.storage
        if outside is None:
            return str((self.path / "trials").absolute())
        return f"{outside.rstrip('/')}/{self.path.resolve().name}-{self.id}"

    def checkpoint(self, number: int) -> Path | str:
        """Where a running trial keeps its checkpoint: a file, or an address of the storage."""
        address = f"{self.storage}/{number:05d}.pt"
        return address if "://" in address else Path(address)

    def forget_checkpoint(self, number: int) -> None:
        """Delete what an ended trial has kept; if that fails it is only in the way, and `resume` tries again."""
        try:
            Checkpoint(str(self.checkpoint(number))).remove()
        except CheckpointUnavailableError as error:
            logger.warning("%s", error)

    def update_config(self, config: SearchConfig) -> None:
        """Store a changed config (more trials, other workers)."""
        write_yaml(self.path / _CONFIG, config.to_dict())
        self.config = config

    def check_data(self, dataset: Dataset) -> None:
        """Make sure that these are the images that the trials so far have learned from.

        Raises:
            UserError: they are others.
        """
        self._identity.check_images(dataset_digest(dataset), self.config.file)
        self._identity.write(self.path)

    @property
    def elapsed(self) -> float:
        """Seconds of searching so far, as last saved; if the file is damaged, until the last trial ended."""
        try:
            return float(json.loads((self.path / _CLOCK).read_text())["elapsed"])
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
        """Put a study made of the journal in the place of one that cannot be read, which is kept."""
        records = self.journal.read(self.space)
        if not self.journal.path.is_file():
            raise error
        damaged = self.path / _STUDY
        if damaged.exists():
            damaged.replace(self.path / f"study.damaged-{time.time_ns()}.db")
        for rest in ("-journal", "-wal", "-shm"):  # SQLite would apply what they hold to the new file.
            (self.path / f"{_STUDY}{rest}").unlink(missing_ok=True)
        building = self.path / f".{_STUDY}.new"
        building.unlink(missing_ok=True)
        StudyFile.create(building)
        study = StudyFile(building, self.space)
        for record in records:
            study.adopt(record)
        study.close()
        building.replace(damaged)
        self.study = StudyFile(damaged, self.space)
        ended = sum(record.state is not TrialState.RUNNING for record in records)
        begun = f"{len(records)} trials, {ended} of them ended"
        logger.warning("study.db could not be read; rebuilt from %s with %s, nothing of them is lost", _JOURNAL, begun)


def _free_name(parent: Path, name: str) -> Path:
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def _existing_runs(parent: Path) -> str:
    runs = sorted(path.parent.name for path in parent.glob(f"[!.]*/{_CONFIG}")) if parent.is_dir() else []
    return f"; in {parent} there are {', '.join(runs[:8])}" if runs else ""
