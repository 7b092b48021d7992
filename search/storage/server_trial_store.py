"""The trials of a search on a database server, which many may read at the same time."""

from __future__ import annotations

import importlib.util

from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from mgnas.errors import UserError, first_line

from ...space.search_space import SearchSpace
from .server_address import without_password, without_secrets
from .trial_store import DAMAGE, TrialStore, create_study, root_cause

_SERVERS = {"postgresql": ("psycopg", "postgresql"), "mysql": ("pymysql", "mysql"), "mariadb": ("pymysql", "mysql")}
"""Kind of database -> (Python package that speaks to it, the extra of mgnas that installs the package)."""


class ServerTrialStore(TrialStore):
    """A study on a database server.

    Args:
        url: of the database, in SQLAlchemy's form.
        name: of the study on the server.
        space: gives the parameters' distributions, and candidates back from their values.

    Raises:
        UserError: the server does not answer, or has no such study.
    """

    def __init__(self, url: str, name: str, space: SearchSpace) -> None:
        label = f"study {name} on {without_password(url)}"
        try:
            super().__init__(_storage(url), name, space, label)
        except DAMAGE as error:
            reason = without_secrets(first_line(root_cause(error)), url)
            raise UserError(f"{label}: cannot be read ({reason}); name another address with --study") from None

    @staticmethod
    def create(url: str, name: str) -> None:
        """Make an empty study.

        Raises:
            UserError: the server does not answer, or has a study of that name.
        """
        try:
            create_study(_storage(url), name)
        except DAMAGE as error:
            reason = without_secrets(first_line(root_cause(error)), url)
            raise UserError(f"--study {without_password(url)}: cannot be used ({reason})") from None


def _storage(url: str) -> RDBStorage:
    return RDBStorage(_with_package(url), engine_kwargs={"pool_pre_ping": True})


def _with_package(url: str) -> str:
    """The address with the Python package that the extras of mgnas install, unless it names a package.

    Raises:
        UserError: not a database's address, or the package is missing.
    """
    expected = "expected postgresql://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE"
    problem = f"--study {without_password(url)}: {expected}"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UserError(problem) from None
    kind = parsed.drivername.partition("+")[0]
    if kind not in _SERVERS:
        raise UserError(problem)
    package, extra = _SERVERS[kind]
    if "+" not in parsed.drivername:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--study {kind}: needs the package {package}; pip install 'mgnas[{extra}]'")
        parsed = parsed.set(drivername=f"{kind}+{package}")
    return parsed.render_as_string(hide_password=False)
