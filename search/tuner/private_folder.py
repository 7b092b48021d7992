"""A folder that nobody else may enter, for the sockets and the scratch files of Ray."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mgnas.errors import UserError
from mgnas.scratch import scratch_folder

_PREFIX = "mgnas-r-"
_MAX_LENGTH = 40
"""Of the folder's path in bytes. The longest socket below it has 67 more, and a socket's path at most 107."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A context with a new folder of mode 0700, which is removed at the end, or when the next one is made.

    Raises:
        UserError: there is no place for it.
    """
    with contextlib.ExitStack() as stack:
        yield _made(stack)


def _made(stack: contextlib.ExitStack) -> Path:
    """A new folder in the first usable place. Its name must be short, so a long TMPDIR is of no use."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm")):
        if len(os.fsencode(parent)) + 1 + len(_PREFIX) + 8 > _MAX_LENGTH:
            continue
        with contextlib.suppress(OSError):
            return stack.enter_context(scratch_folder(Path(parent), _PREFIX))
    problem = f"no folder with a path short enough for Ray's sockets can be written, such as {tempfile.gettempdir()}"
    raise UserError(f"{problem}; set TMPDIR to one of at most {_MAX_LENGTH - 9 - len(_PREFIX)} characters")
