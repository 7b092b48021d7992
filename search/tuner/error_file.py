"""The file in which Ray Tune notes why a trial's worker process is gone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from mgnas.errors import first_line

_HEADING = re.compile(r"^Failure # \d+ \(occurred at .*$", re.MULTILINE)

_MACHINE_LOST = ("node has died", "node died", "node was", "node is dead", "preempt", "is unavailable")
"""Parts of the sentences in which the versions of Ray say that a whole machine is gone.

"The actor ... is unavailable" comes first if a machine is lost without a word: Ray notices only seconds later that the
machine is gone, not just the connection.
"""

_LOW_ON_MEMORY = "running low on memory"
"""A part of the sentence in which Ray says that its memory monitor killed the worker."""


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
    if not lines:
        return WorkerLoss("the worker died: no reason known", False)
    # NOTE: After a lack of memory Ray lists the command lines of the node's largest processes, which may say anything.
    low_on_memory = _LOW_ON_MEMORY in lines[0]
    # After an exception in the worker's code Ray writes a traceback, whose last line says what happened. Ray's own
    # messages say it in their first line.
    raised = "ray::" in lines[0]
    message = " ".join(lines).lower()
    machine_lost = not (raised or low_on_memory) and any(sign in message for sign in _MACHINE_LOST)
    return WorkerLoss(first_line(f"the worker died: {lines[-1 if raised else 0].strip()}"), machine_lost)
