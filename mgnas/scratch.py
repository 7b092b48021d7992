"""Scratch folders: they are removed with their context or, if the process was killed, by the next one of their kind."""

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

_LOCK = "lock"
_NEW = 60.0
"""Seconds for which a folder without a lock counts as one whose owner is just about to lock it."""


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A context with a new folder of mode 0700, which is removed at the end.

    Folders with this prefix that processes of the same user left in `parent` when they were killed are removed, too.

    Raises:
        OSError: it cannot be made, or an error of the context's body.
    """
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError, Timeout):
            _remove_if_abandoned(folder)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with FileLock(folder / _LOCK, timeout=0, thread_local=False):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder of this user that no living process has locked."""
    status, lock = folder.lstat(), folder / _LOCK
    is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not stat.S_ISDIR(status.st_mode) or not is_own or lock.is_symlink():
        return
    if lock.exists() or time.time() - status.st_mtime >= _NEW:
        with FileLock(lock, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
