"""A folder that nobody else may enter, for the sockets and the scratch files of Ray."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mgnas.errors import UserError

_PREFIX = "mgnas-r-"
_LOCK = "lock"
_MAX_LENGTH = 40
"""Of the folder's path in bytes. The longest socket below it has 67 more, and a socket's path at most 107."""
_NEW = 60.0
"""Seconds for which a folder without a lock counts as one whose owner is just about to lock it."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A context with a new folder of mode 0700, which is removed at the end.

    Folders that processes of the same user left behind when they were killed are removed, too.

    Raises:
        UserError: there is no place for it.
    """
    folder = _make()
    lock = FileLock(folder / _LOCK, timeout=0, thread_local=False)
    try:
        with lock:
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make() -> Path:
    """A new folder in the first usable place. Its name must be short, so a long TMPDIR is of no use."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm")):
        if len(os.fsencode(parent)) + 1 + len(_PREFIX) + 8 > _MAX_LENGTH:
            continue
        with contextlib.suppress(OSError):
            _remove_abandoned(Path(parent))
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    problem = f"no folder with a path short enough for Ray's sockets can be written, such as {tempfile.gettempdir()}"
    raise UserError(f"{problem}; set TMPDIR to one of at most {_MAX_LENGTH - 9 - len(_PREFIX)} characters")


def _remove_abandoned(parent: Path) -> None:
    """Remove this user's folders that no living process has locked."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            if time.time() - status.st_mtime < _NEW:
                continue
            with FileLock(folder / _LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
