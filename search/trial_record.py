"""The record of one trial: the only form in which trials are known outside Ray and Optuna."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..models.config import ArchitectureConfig
from ..space.candidate import Candidate


class TrialState(enum.StrEnum):
    """Where a trial stands; only a COMPLETE one has a final accuracy and may enter a front.

    A PAUSED one has left its worker, keeps its checkpoint, and may become RUNNING again.
    """

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True)
class GaussianPrediction:
    """Mean and standard deviation of a value that is not known yet, on the scale that its user documents."""

    mean: float
    std: float


@dataclass(frozen=True)
class ExpectedGain:
    """What further trials are expected to bring.

    Args:
        trials: number of the further trials.
        share: by which they increase the hypervolume of the trials before them.
    """

    trials: int
    share: float

    def in_words(self) -> str:
        """`20 more trials: about +0.8 % expected`."""
        plural = "s" if self.trials > 1 else ""
        return f"{self.trials} more trial{plural}: about {100 * self.share:+.2g} % expected"


@dataclass(frozen=True)
class CompletedTrial:
    """A trial that has run all its epochs, as reports and users of the Python interface see it.

    Args:
        number: counts from 0 within a search.
        candidate: what was trained.
        seed: of the training.
        curve: validation accuracy after each epoch, as fractions; not empty.
        seconds: training time, summed over the epochs.
        finished: when it ended, in seconds after the search began; None: an early version did not store it.
        decisions: when and why it was paused and resumed, in words.
        balanced_accuracy: after the last epoch, on the validation images: the mean over the classes of the share that
            is classified correctly; None: an early version did not measure it.
    """

    number: int
    candidate: Candidate
    seed: int
    curve: tuple[float, ...]
    seconds: float
    finished: float | None
    decisions: tuple[str, ...] = ()
    balanced_accuracy: float | None = None

    @property
    def architecture(self) -> ArchitectureConfig:
        return self.candidate.architecture

    @property
    def weights(self) -> int:
        """Trainable parameters."""
        return self.candidate.weights

    @property
    def macs(self) -> int:
        """Multiply-accumulates per image."""
        return self.candidate.macs

    @property
    def accuracy(self) -> float:
        """Validation accuracy after the last epoch, as a fraction."""
        return self.curve[-1]


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
        decisions: when and why it was paused and resumed, in words.
        expected: the final accuracy that the sampler expected before the training, on the scale of LogErrorTransform;
            None: the sampler has no model.
        balanced_accuracy: after the last epoch (see CompletedTrial).
        gain: what further trials were expected to bring when this one had ended; None: the search did not ask.
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
    expected: GaussianPrediction | None = None
    balanced_accuracy: float | None = None
    gain: ExpectedGain | None = None

    @property
    def weights(self) -> int:
        return self.candidate.weights

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy after the last epoch; None unless the trial is complete."""
        return self.curve[-1] if self.state is TrialState.COMPLETE else None

    @property
    def completed(self) -> CompletedTrial | None:
        """The trial in its final form; None unless it is complete."""
        if self.state is not TrialState.COMPLETE:
            return None
        return CompletedTrial(
            self.number,
            self.candidate,
            self.seed,
            tuple(self.curve),
            self.seconds,
            self.finished,
            tuple(self.decisions),
            self.balanced_accuracy,
        )


def completed_trials(records: Iterable[TrialRecord]) -> list[CompletedTrial]:
    """Those of the records that are complete, in their order; half-trained and failed ones have no accuracy."""
    return [trial for record in records if (trial := record.completed) is not None]


def last_gain(records: Sequence[TrialRecord]) -> ExpectedGain | None:
    """The latest answer to what further trials are expected to bring; None: there is none."""
    known = [record for record in records if record.gain is not None]
    return max(known, key=lambda record: (record.finished or 0.0, record.number)).gain if known else None
