"""Addresses of database servers: shown without their secrets, and trusted only if this user has named them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

_PLAIN = re.compile(
    r"(?P<scheme>[A-Za-z][\w+.-]*)://"
    r"(?:(?P<user>[^:/@?#]*)(?P<password>:[^@/?#]*)?@)?"
    r"(?P<place>(?:\[[0-9A-Fa-f:.]+\]|[^:@/?#\[\]]*)(?::\d+)?)"
    r"(?P<database>/[^@?#]*)?(?:\?(?P<query>[^@#]*))?"
)
"""An address that everybody reads in the same way: a password with / or @ in it, for example, is none."""
_HARMLESS = {"user", "host", "port", "dbname", "sslmode", "charset", "application_name", "connect_timeout"}
"""Keys after the question mark whose values may be shown."""


def without_password(url: str) -> str:
    """A database's address for messages and files.

    Of an address that can be read in two ways only the kind of the database is shown, and the host if it is certain.
    """
    plain = _PLAIN.fullmatch(url)
    if plain is None:
        scheme, separator, rest = url.partition("://")
        authority, remainder = re.match(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess] - it matches every text
        if not separator or not re.fullmatch(r"[A-Za-z][\w+.-]*", scheme):
            return "an address that cannot be read"
        if "@" in remainder or "@" not in authority:
            return f"{scheme}://***"
        return f"{scheme}://{authority.rpartition('@')[2].partition(':')[0]}"
    user, password, database = plain["user"], plain["password"], plain["database"] or ""
    credentials = "" if user is None else f"{user}{':***' if password else ''}@"
    query = "" if plain["query"] is None else "?" + "&".join(map(_masked, plain["query"].split("&")))
    return f"{plain['scheme']}://{credentials}{plain['place']}{database}{query}"


def has_password(url: str) -> bool:
    """Whether a database's address holds a secret; an address that cannot be read counts as one that does."""
    return without_password(url) != url


def without_secrets(text: str, url: str) -> str:
    """A message of a database's driver, which may repeat parts of the address, without the address' secrets."""
    secrets = {url: without_password(url)}
    with contextlib.suppress(ArgumentError, ValueError):
        parsed = make_url(url)
        values = [parsed.password, *(value for key, value in parsed.query.items() if key not in _HARMLESS)]
        secrets |= {str(value): "***" for value in values if value}
    for secret, shown in secrets.items():
        text = text.replace(secret, shown) if secret else text
    return text


def trust(run: str, url: str) -> None:
    """Remember that this user has named the server of a run, which is known by its id.

    It is remembered in the user's own folder and not in the run, which may come from somebody else. If that folder
    cannot be written, the user must name the server again.
    """
    file = _file()
    with contextlib.suppress(OSError):
        if is_trusted(run, url):
            return
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "a", encoding="ascii") as lines:
            lines.write(_digest(run, url) + "\n")


def is_trusted(run: str, url: str) -> bool:
    """Whether this user has named the server of a run before."""
    try:
        return _digest(run, url) in _file().read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False


def _masked(pair: str) -> str:
    key, separator, value = pair.partition("=")
    return pair if key in _HARMLESS or not value else f"{key}{separator}***"


def _digest(run: str, url: str) -> str:
    return hashlib.sha256(f"{run}\n{url}".encode(errors="surrogateescape")).hexdigest()


def _file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "mgnas" / "studies"
