"""The trials of a search in an SQLite file of its run directory."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from optuna.storages import RDBStorage

from mgnas.errors import SearchStoppedError, UserError, first_line

from ...space.search_space import SearchSpace
from ..trial_record import TrialRecord
from .trial_store import DAMAGE, TrialStore, create_study, root_cause

_STUDY = "mgnas"


class DamagedStudyError(UserError):
    """The study's file cannot be read, though the run may still be rebuilt from its journal."""


class SqliteTrialStore(TrialStore):
    """A study in an SQLite file of its own.

    Args:
        path: the file.
        space: gives the parameters' distributions, and candidates back from their values.

    Raises:
        DamagedStudyError: the file is missing or damaged.
    """

    def __init__(self, path: str | os.PathLike, space: SearchSpace) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DamagedStudyError(f"{path}: is missing, and with it the trials of this run; start the search anew")
        try:
            _check_integrity(self.path)
            super().__init__(_storage(self.path), _STUDY, space, str(path))
        except DAMAGE as error:
            problem = f"not a readable study of mgnas ({first_line(root_cause(error))})"
            raise DamagedStudyError(f"{path}: {problem}; restore it from a copy") from None
        self._inode = self.path.stat().st_ino

    @staticmethod
    def create(path: str | os.PathLike) -> None:
        """Make an empty study."""
        create_study(_storage(Path(path)), _STUDY)

    @classmethod
    def rebuild(cls, path: Path, space: SearchSpace, records: Iterable[TrialRecord]) -> SqliteTrialStore:
        """Put a study with these trials in the place of a damaged one, which is kept under another name beside it."""
        building = path.with_name(f".{path.name}.new")
        building.unlink(missing_ok=True)
        cls.create(building)
        store = cls(building, space)
        for record in records:
            store.adopt(record)
        store.close()
        if path.exists():
            path.replace(path.with_name(f"{path.stem}.damaged-{time.time_ns()}.db"))
        for suffix in ("-journal", "-wal", "-shm"):  # SQLite would apply what they hold to the new file.
            path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
        building.replace(path)
        return cls(path, space)

    def _version(self) -> object:
        # Every write changes the file itself, because mgnas uses SQLite without a write-ahead log.
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def check_present(self) -> None:
        # A file that is deleted while it is open can still be written, but what is written is lost.
        try:
            present = self.path.stat().st_ino == self._inode
        except OSError:
            present = False
        if not present:
            raise SearchStoppedError(f"{self.path}: is no longer there; has the run directory been moved or deleted?")


def _check_integrity(path: Path) -> None:
    """Read the whole file. A damaged page could otherwise go unnoticed for a while, or be read as something else."""
    # NOTE: Not read-only: SQLite must be able to roll back what a killed writer left half-done.
    with contextlib.closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=rw", uri=True)) as connection:
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    if "studies" not in tables:
        raise sqlite3.DatabaseError("it holds no Optuna study")


def _storage(path: Path) -> RDBStorage:
    # The path is quoted as a `file:` address, because '?' and '%' have a meaning in database addresses. SQLAlchemy
    # undoes the second quoting, SQLite the first.
    address = quote(f"file:{quote(str(path.resolve()))}", safe="/:")
    return RDBStorage(f"sqlite:///{address}?uri=true", engine_kwargs={"connect_args": {"timeout": 60}})
