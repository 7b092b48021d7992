"""How far a running search has come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ..trial_record import TrialRecord, TrialState


@dataclass
class SearchProgress:
    """A running search in the form that a display needs; updated in place.

    Args:
        n_trials: how many trials the search is to have.
        records: all trials so far.
        workers: how many trials may run at the same time.
        elapsed_before: seconds of searching before this session.
        started: time.monotonic() when this session began.
    """

    n_trials: int
    records: list[TrialRecord]
    workers: int
    elapsed_before: float
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds of searching, without the interruptions."""
        return self.elapsed_before + time.monotonic() - self.started

    def count(self, state: TrialState) -> int:
        """How many trials are in this state."""
        return sum(record.state is state for record in self.records)

    @property
    def seconds_left(self) -> float | None:
        """Expected from the mean duration of the complete trials; None before the first one is complete."""
        durations = [record.seconds for record in self.records if record.state is TrialState.COMPLETE]
        if not durations:
            return None
        mean = sum(durations) / len(durations)
        running = [record for record in self.records if record.state is TrialState.RUNNING]
        work = (self.n_trials - len(self.records)) * mean + sum(max(mean - record.seconds, 0) for record in running)
        return work / self.workers
