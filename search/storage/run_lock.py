"""One driver per run directory: who holds it is written down, and whoever dies lets go of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from mgnas.errors import UserError
from mgnas.files import write_text

_LOCK, _HOLDER = "driver.lock", "driver.json"


class RunLock:
    """The right to search in a run directory; a context manager that may be entered again by its holder.

    The operating system's file lock decides, so the lock of a process that was killed is free at once. The file
    beside it says who holds it, for messages alone.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: BaseFileLock | None = None
        self._depth = 0

    def __enter__(self) -> RunLock:
        """Take the run.

        Raises:
            UserError: another process has it, or the folder cannot be written.
        """
        if not self._depth:
            self._lock = self._acquired()
            holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": round(time.time())}
            try:
                write_text(self._folder / _HOLDER, json.dumps(holder) + "\n")
            except BaseException:
                self._lock.release()
                raise
        self._depth += 1
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._depth -= 1
        if not self._depth:
            # The file is only for messages, and the disk may be what has ended the search.
            with contextlib.suppress(OSError):
                (self._folder / _HOLDER).unlink(missing_ok=True)
            self._lock.release()

    def _acquired(self) -> BaseFileLock:
        path = self._folder / _LOCK
        try:
            lock: BaseFileLock = FileLock(path, timeout=0)
            try:
                lock.acquire()
            except NotImplementedError:  # A network disk without locks; this kind is a file with the holder in it.
                lock = SoftFileLock(path, timeout=0)
                lock.acquire()
        except Timeout:
            holder = holder_of(self._folder)
            who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
            raise UserError(
                f"{self._folder}: {who} is searching here already; wait for it, or stop it with Ctrl-C"
            ) from None
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be written ({error.strerror}); a search needs that") from None
        return lock


def holder_of(folder: Path) -> dict[str, str | int] | None:
    """Who says that it searches there: host, pid and since (seconds since 1970); None: nobody, or it has died.

    Whether a process of another host lives cannot be seen from here; it is believed.
    """
    try:
        holder = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
        host, pid = str(holder["host"]), int(holder["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if host == socket.gethostname() and not _alive(pid):
        return None
    return {"host": host, "pid": pid, "since": holder.get("since", 0)}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
