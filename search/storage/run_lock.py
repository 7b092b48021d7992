"""The lock of a run directory: at most one process searches there, and a process that dies frees it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import warnings
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from mgnas.errors import UserError
from mgnas.files import read_json, write_text

# Version 0.1.0 wrote these names.
_LOCK, _HOLDER = "driver.lock", "driver.json"


class RunLock:
    """The right to search in a run directory; a context manager that its holder may enter again.

    The lock is filelock's: it belongs to the process, so it is free as soon as its holder has been killed. On a network
    disk without file locks filelock falls back to a file that names the holder. driver.json names the holder for
    messages alone.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / _LOCK, timeout=0, thread_local=False)

    def __enter__(self) -> RunLock:
        """Take the lock.

        Raises:
            UserError: another process holds it, or the folder cannot be written.
        """
        already_held = self._lock.is_locked
        self._acquire()
        if not already_held:
            holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": round(time.time())}
            try:
                write_text(self._folder / _HOLDER, json.dumps(holder) + "\n")
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._lock.lock_counter == 1:
            # The file is only for messages, and the disk may be what has ended the search.
            with contextlib.suppress(OSError):
                (self._folder / _HOLDER).unlink(missing_ok=True)
        self._lock.release()

    def _acquire(self) -> None:
        try:
            with warnings.catch_warnings():  # filelock warns that it falls back, which its user can do nothing about.
                warnings.simplefilter("ignore")
                self._lock.acquire()
        except Timeout:
            holder = holder_of(self._folder)
            who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
            raise UserError(
                f"{self._folder}: {who} is searching here already; wait for it, or stop it with Ctrl-C"
            ) from None
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be written ({error.strerror}); a search needs that") from None


def holder_of(folder: Path) -> dict[str, str | int] | None:
    """The process that searches in a run directory, as driver.json names it.

    It does not touch the lock, so a search that starts at the same time is not refused. Whether a process of another
    host is alive cannot be seen from here; it counts as alive.

    Returns:
        host, pid and since (seconds since 1970); None: no process is named, or it has died.
    """
    try:
        holder = read_json(folder / _HOLDER)
        host, pid = str(holder["host"]), int(holder["pid"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    if host == socket.gethostname() and not _is_alive(pid):
        return None
    return {"host": host, "pid": pid, "since": holder.get("since", 0)}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # A process of another user.
        return True
    return True
