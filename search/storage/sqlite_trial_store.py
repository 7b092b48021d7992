"""The trials of a search in an SQLite file of its run directory."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from optuna.storages import RDBStorage

from mgnas.errors import SearchStoppedError, UserError, first_line
from mgnas.files import short

from ...space.search_space import SearchSpace
from ..trial_record import TrialRecord
from .trial_store import DAMAGE, TrialStore, create_study, root_cause

_STUDY = "mgnas"
_LOCK_SECONDS = 20
"""How long opening a study waits for another program that has locked it."""
_CHECK_SECONDS = 60
"""How long SQLite's own check of a file may take. That of ten thousand trials takes less than a second."""
_DAMAGE_CODES = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""What SQLite's own check gives on a damaged file. Every other code says that a healthy file cannot be used now."""


class DamagedStudyError(UserError):
    """The study's file is missing, empty or damaged, though the run may still be rebuilt from its journal."""


class SqliteTrialStore(TrialStore):
    """A study in an SQLite file of its own.

    Args:
        path: the file.
        space: gives the parameters' distributions, and candidates back from their values.

    Raises:
        DamagedStudyError: the file is missing, empty, or fails SQLite's own check.
        UserError: the file is healthy, but locked, not accessible, or of another program.
    """

    def __init__(self, path: str | os.PathLike, space: SearchSpace) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DamagedStudyError(f"{path}: is missing, and with it the trials of this run; start the search anew")
        try:
            _check_integrity(self.path)
        except sqlite3.Error as error:
            reason = first_line(error)
            # An error that the sqlite3 module makes itself has no code: what it read was no text, for example.
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DAMAGE_CODES:
                problem = f"not a readable study of mgnas ({reason}); restore it from a copy"
                raise DamagedStudyError(f"{path}: {problem}") from None
            raise UserError(f"{path}: cannot be used now ({reason}); {_remedy(error)}") from None
        try:
            super().__init__(_storage(self.path), _STUDY, space, str(path))
        except DAMAGE as error:
            cause = root_cause(error)
            if isinstance(cause, sqlite3.OperationalError):
                problem = f"cannot be used now ({first_line(cause)}); {_remedy(cause)}"
            else:
                problem = f"not a readable study of mgnas ({first_line(cause)}); restore it from a copy"
            raise UserError(f"{path}: {problem}") from None
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
    """Read the whole file. A damaged page could otherwise go unnoticed for a while, or be read as something else.

    Views and triggers are refused, because a crafted file's could run for ever when the study is read or written. What
    else SQLite would compute from the file it computes in its check, which has a deadline.
    """
    # NOTE: Not read-only: SQLite must be able to roll back what a killed writer left half-done.
    address = f"file:{quote(str(path.resolve()))}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=_LOCK_SECONDS, check_same_thread=False)
    with contextlib.closing(connection):
        entries = connection.execute("SELECT type, name, sql LIKE '%virtual%' FROM sqlite_master").fetchall()
        active = [f"{kind} {name}" for kind, name, virtual in entries if virtual or kind not in ("table", "index")]
        if active:
            raise UserError(f"{path}: not a study that mgnas wrote (it holds the {short(active[0])}); do not use it")
        verdict = _verdict(connection, path)
    tables = {name for kind, name, _ in entries if kind == "table"}
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    if not tables:
        raise sqlite3.DatabaseError("it is empty")
    # Optuna would make what is missing, and the study would look like one without trials.
    if not tables.issuperset(("studies", "trials")):
        shown = ", ".join(sorted(map(str, tables))[:5])
        raise UserError(f"{path}: not a readable study of mgnas (it holds {shown}); restore it from a copy")


def _verdict(connection: sqlite3.Connection, path: Path) -> str:
    """What SQLite's own check says of a file."""
    # In a thread, because a thread that is inside SQLite would neither see a deadline nor Ctrl-C.
    with ThreadPoolExecutor(1) as thread:
        check = thread.submit(lambda: connection.execute("PRAGMA integrity_check(1)").fetchone())
        try:
            (verdict,) = check.result(_CHECK_SECONDS)
        except TimeoutError:
            problem = f"SQLite's check takes more than {_CHECK_SECONDS} seconds"
            raise UserError(f"{path}: {problem}; use a copy on a faster disk, or restore it from a copy") from None
        finally:
            connection.interrupt()
    return verdict


def _remedy(error: sqlite3.Error) -> str:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another program has locked it; end that program, and try again"
    return "mend that, and try again; the file is left as it is"


def _storage(path: Path) -> RDBStorage:
    # The path is quoted as a `file:` address, because '?' and '%' have a meaning in database addresses. SQLAlchemy
    # undoes the second quoting, SQLite the first.
    address = quote(f"file:{quote(str(path.resolve()))}", safe="/:")
    return RDBStorage(f"sqlite:///{address}?uri=true", engine_kwargs={"connect_args": {"timeout": 60}})
