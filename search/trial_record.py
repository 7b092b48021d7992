"""The record of one trial: the only form in which trials are known outside Ray and Optuna."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from ..space.candidate import Candidate

PREDICTION = "mgnas:prediction"
"""Key of an unfinished trial's system attributes in Optuna: [accuracy, standard deviation] that its curve points to."""

BELIEF = "mgnas:belief"
"""Key there by which a sampler says what it expects of a network before its training: [mean, standard deviation] of the
final accuracy on the scale of LogErrorTransform."""

REPEAT = "mgnas:repeat"
"""Key there by which a sampler says that it means a configuration to be trained once more, with another seed."""


class TrialState(enum.StrEnum):
    """Where a trial stands; only a COMPLETE one has a final accuracy and may enter a front.

    A PAUSED one rests on its checkpoint and may be RUNNING again.
    """

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass
class TrialRecord:
    """A candidate and what its training has shown.

    Args:
        number: counts from 0 within a search.
        candidate: what is trained; its weights are known before the start.
        seed: of this training.
        state: where it stands.
        curve: validation accuracy after each epoch, as a fraction.
        reason: why it failed; empty if it did not.
        seconds: training time so far, summed over its epochs.
        finished: when it ended, in seconds after the search began (its interruptions left out); None before.
        sampler_notes: what the sampler wants to find again on the trial, such as NSGA-II's generation.
        decisions: when and why it was paused and taken up again, in words.
    """

    number: int
    candidate: Candidate
    seed: int
    state: TrialState = TrialState.RUNNING
    curve: list[float] = field(default_factory=list)
    reason: str = ""
    seconds: float = 0.0
    finished: float | None = None
    sampler_notes: dict[str, Any] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)

    @property
    def weights(self) -> int:
        return self.candidate.weights

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy after the last epoch; None unless the trial is complete."""
        return self.curve[-1] if self.state is TrialState.COMPLETE else None
