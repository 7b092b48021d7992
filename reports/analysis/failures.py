"""Why no trial of a run is complete, and which setting to change."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence

from mgnas.errors import first_line

from ...search.trial_record import TrialRecord, TrialState

_REMEDIES = (
    ("the loss became", "lower training.learning_rate, or its range in the space"),
    ("out of memory", "lower training.batch_size or space.limits"),
    ("time limit", "raise resources.time_limit, or lower training.epochs"),
)
"""A part of a trial's reason -> what to do about it."""


def nothing_complete(records: Sequence[TrialRecord]) -> str:
    """One sentence about a run of which no trial is complete.

    Args:
        records: its trials. If all have failed the sentence gives the most frequent reason, in which numbers such as
            that of the epoch are not told apart.
    """
    if not records or any(record.state is not TrialState.FAILED for record in records):
        return "no trial of this run is complete yet; continue it with `mgnas resume`"
    reasons = collections.defaultdict(list)
    for record in records:
        reasons[re.sub(r"\d+", "0", first_line(record.reason))].append(first_line(record.reason))
    most = max(reasons.values(), key=len)
    share = "all" if len(most) == len(records) else f"{len(most)} of them"
    remedy = next((remedy for part, remedy in _REMEDIES if part in most[0]), "change what the reason names")
    failed = f"all {len(records)} trials failed" if len(records) > 1 else "its only trial failed"
    count = f", {share} because" if len(records) > 1 else ":"
    return f"no trial of this run is complete: {failed}{count} {most[0]}; {remedy}, and start a new search"


def in_a_sentence(message: str) -> str:
    """The message of an error as a sentence for the terminal."""
    return f"{message[0].upper()}{message[1:]}."
