"""Where a search's trials are stored: an SQLite file of the run, or a database server that many may read."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

import optuna
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from mgnas.errors import SearchStoppedError, UserError

from ...space.search_space import SearchSpace
from ..optuna_schema import DIRECTIONS
from .trial_store import DAMAGE, TrialStore, reason_of

_STUDY = "mgnas"
_SERVERS = {"postgresql": ("psycopg", "postgresql"), "mysql": ("pymysql", "mysql"), "mariadb": ("pymysql", "mysql")}


class DamagedStudyError(UserError):
    """The study's file cannot be read, though the run may still be rebuilt from its journal."""


class StudyFile(TrialStore):
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
            super().__init__(_file_storage(self.path), _STUDY, space, str(path))
        except DAMAGE as error:
            problem = f"not a readable study of mgnas ({reason_of(error)})"
            raise DamagedStudyError(f"{path}: {problem}; restore it from a copy") from None
        self._inode = self.path.stat().st_ino

    @staticmethod
    def create(path: str | os.PathLike) -> None:
        """Make an empty study."""
        _create(_file_storage(Path(path)), _STUDY)

    def _version(self) -> object:
        # As mgnas uses SQLite, whoever writes changes the file itself.
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def check_present(self) -> None:
        # A file that is deleted while it is open can be written, and is lost all the same.
        try:
            there = self.path.stat().st_ino == self._inode
        except OSError:
            there = False
        if not there:
            raise SearchStoppedError(f"{self.path}: is no longer there; has the run directory been moved or deleted?")


class StudyServer(TrialStore):
    """A study on a database server, which many may read at the same time.

    Args:
        url: of the database, as SQLAlchemy names it.
        name: of the study there.
        space: gives the parameters' distributions, and candidates back from their values.

    Raises:
        UserError: the server does not answer, or has no such study.
    """

    def __init__(self, url: str, name: str, space: SearchSpace) -> None:
        label = f"study {name} on {without_password(url)}"
        try:
            super().__init__(_server_storage(url), name, space, label)
        except DAMAGE as error:
            raise UserError(
                f"{label}: cannot be read ({reason_of(error)}); name another address with --study"
            ) from None

    @staticmethod
    def create(url: str, name: str) -> None:
        """Make an empty study.

        Raises:
            UserError: the server does not answer, or has a study of that name.
        """
        try:
            _create(_server_storage(url), name)
        except DAMAGE as error:
            raise UserError(f"--study {without_password(url)}: cannot be used ({reason_of(error)})") from None


def without_password(url: str) -> str:
    """A database's address for messages and files."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return re.sub(r":[^:/@]*@", ":***@", url)


def has_password(url: str) -> bool:
    """Whether a database's address holds one."""
    try:
        return make_url(url).password is not None
    except (ArgumentError, ValueError):
        return True


def _create(storage: RDBStorage, name: str) -> None:
    directions = [optuna.study.StudyDirection[direction.upper()] for direction in DIRECTIONS]
    study_id = storage.create_new_study(directions, name)
    storage.set_study_system_attr(study_id, "study:metric_names", ["validation accuracy", "weights"])
    storage.remove_session()
    storage.engine.dispose()


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


def _file_storage(path: Path) -> RDBStorage:
    # As a quoted file: address, because '?' and '%' in a folder's name mean something in database addresses. The
    # second quoting is undone by SQLAlchemy, the first by SQLite.
    address = quote(f"file:{quote(str(path.resolve()))}", safe="/:")
    return RDBStorage(f"sqlite:///{address}?uri=true", engine_kwargs={"connect_args": {"timeout": 60}})


def _server_storage(url: str) -> RDBStorage:
    return RDBStorage(_driver_url(url), engine_kwargs={"pool_pre_ping": True})


def _driver_url(url: str) -> str:
    """The address with the Python package that mgnas's extras install, unless it names one.

    Raises:
        UserError: not a database's address, or the package is missing.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    kind = parsed.drivername.partition("+")[0] if parsed is not None else ""
    if kind not in _SERVERS:
        expected = "postgresql://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE"
        raise UserError(f"--study {without_password(url)}: expected {expected}")
    package, extra = _SERVERS[kind]
    if "+" not in parsed.drivername:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--study {kind}: needs the package {package}; pip install 'mgnas[{extra}]'")
        parsed = parsed.set(drivername=f"{kind}+{package}")
    return parsed.render_as_string(hide_password=False)
