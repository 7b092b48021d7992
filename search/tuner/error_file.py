"""The file in which Ray Tune notes why a trial's worker process is gone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from mgnas.errors import first_line

_HEADING = re.compile(r"^Failure # \d+ \(occurred at .*$", re.MULTILINE)

_MACHINE_LOST = ("node has died", "node died", "node was", "node is dead", "preempt")
"""Parts of the sentences in which the versions of Ray say that a whole machine is gone."""


class WorkerLoss(NamedTuple):
    """Why a worker is gone.

    Args:
        reason: in one line.
        machine_lost: its whole machine is gone, which is not the trial's fault.
    """

    reason: str
    machine_lost: bool


def read_error_file(file: str | Path | None) -> WorkerLoss:
    """The newest entry of a trial's error file; a file that is missing, empty or garbled gives no more than it says."""
    text = ""
    if file is not None and Path(file).is_file():
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    lines = _HEADING.split(text)[-1].strip().splitlines()
    # After an exception in the worker's code Ray writes a traceback, whose last line says what happened. Ray's own
    # messages say it in their first line.
    line = lines[-1 if "ray::" in lines[0] else 0].strip() if lines else "no reason known"
    message = " ".join(lines).lower()
    return WorkerLoss(first_line(f"the worker died: {line}"), any(sign in message for sign in _MACHINE_LOST))
