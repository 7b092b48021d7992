"""Choosing one network: which keep the constraints, which of them is preferred, and what its neighbours would cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mgnas.errors import UserError

from ...search.trial_record import CompletedTrial, TrialRecord, completed_trials
from ..deploy.latency.meter import LatencyMeter
from .constraints import UNLIMITED, Constraints
from .failures import nothing_complete
from .front_confidence import Expected, FrontConfidence, front_confidence
from .pareto import nondominated

Preference = Literal["knee", "accuracy", "weights", "expected"]


@dataclass(frozen=True)
class Choice:
    """A chosen trial and why.

    Args:
        record: the trial.
        front: of all trials that keep the constraints, by ascending weights; the chosen one is among them.
        why: in words.
        confidence: how sure the run's front is; None unless `expected` was preferred.
    """

    record: CompletedTrial
    front: list[CompletedTrial]
    why: str
    confidence: FrontConfidence | None

    @property
    def expected(self) -> Mapping[int, Expected]:
        """Trial number -> what another training is expected to give; empty unless that was preferred."""
        return {} if self.confidence is None else self.confidence.expected

    def neighbours(self) -> list[tuple[CompletedTrial, str]]:
        """The next lighter and the next heavier network of the front, and what they would cost or give."""
        index = self.front.index(self.record)
        neighbours = [self.front[i] for i in (index - 1, index + 1) if 0 <= i < len(self.front)]
        return [(other, exchange(self.record, other)) for other in neighbours]


def exchange(chosen: CompletedTrial, other: CompletedTrial) -> str:
    """What the other network would change: `-1,200 weights (-31 %), -0.35 points of accuracy`."""
    weights, points = other.weights - chosen.weights, 100 * (other.accuracy - chosen.accuracy)
    share = 100 * weights / chosen.weights
    return f"{weights:+,} weights ({share:+.0f} %), {points:+.2f} points of accuracy"


def select(
    records: Sequence[TrialRecord],
    constraints: Constraints = UNLIMITED,
    prefer: Preference = "knee",
    meter: LatencyMeter | None = None,
    images: int | None = None,
) -> Choice:
    """The complete trial that keeps the constraints and is preferred.

    If only weights and accuracy are limited, it is one of the run's front. Limits of MACs, latencies and sizes may rule
    out parts of that front; the trials that they leave have a front of their own.

    Args:
        records: all trials of a run.
        constraints: what to keep.
        prefer: `accuracy`: the most accurate. `weights`: the lightest. `knee`: where more weights stop paying, the
            point farthest above the line between the ends of the run's front (accuracy against log weights).
            `expected`: the one whose network is expected to be best if trained again; of equally good ones the one that
            is more probably on the front. The first three believe the accuracy that each trial reached.
        meter: measures latencies and sizes, or knows a device's.
        images: number of validation images, for `expected`; None: not known.

    Raises:
        UserError: no trial is complete, or none keeps the constraints.
    """
    trials = completed_trials(records)
    front = nondominated(trials)
    if not front:
        raise UserError(nothing_complete(records))
    meter = meter or LatencyMeter()
    allowed = _affordable(trials, front, constraints)
    confidence = front_confidence(trials, images) if prefer == "expected" else None
    expected = {} if confidence is None else confidence.expected
    chosen = _first_that_keeps(by_preference(allowed, front, prefer, expected), constraints, meter)
    kept = _front_around(chosen, allowed, constraints, meter)
    return Choice(chosen, kept, _why(chosen, front, prefer, len(allowed), expected), confidence)


def by_preference(
    trials: Sequence[CompletedTrial],
    front: Sequence[CompletedTrial],
    prefer: Preference,
    expected: Mapping[int, Expected],
) -> list[CompletedTrial]:
    """The trials, the preferred one first.

    Args:
        trials: some or all of a run.
        front: of the whole run, by ascending weights.
        prefer: as for `select`.
        expected: of these trials by number; only read if `prefer` is `expected`.
    """

    def score(trial: CompletedTrial) -> tuple[float, float]:
        if prefer == "weights":
            return -trial.weights, trial.accuracy
        if prefer == "accuracy":
            return trial.accuracy, -trial.weights
        if prefer == "expected":
            return expected[trial.number].accuracy, expected[trial.number].on_front
        return height_above_chord(trial, front), -trial.weights

    return sorted(trials, key=score, reverse=True)


def _affordable(
    trials: Sequence[CompletedTrial], front: Sequence[CompletedTrial], constraints: Constraints
) -> list[CompletedTrial]:
    """The trials that keep the limits of weights, MACs, memory and accuracy, which need no measurement.

    Raises:
        UserError: none does; it names the limit and the best value that there is.
    """
    light = [t for t in trials if constraints.max_weights is None or t.weights <= constraints.max_weights]
    if not light:
        smallest = f"the smallest of the {len(front)} on the front has {front[0].weights:,}"
        raise UserError(f"--max-weights: no network has at most {constraints.max_weights:,} weights; {smallest}")
    cheap = [t for t in light if constraints.max_macs is None or t.macs <= constraints.max_macs]
    if not cheap:
        fewest = min(trial.macs for trial in light)
        raise UserError(f"--max-macs: no network has at most {constraints.max_macs:,} MACs; the least is {fewest:,}")
    for option, limit, int8 in (
        ("--max-memory", constraints.max_memory, False),
        ("--max-memory-int8", constraints.max_memory_int8, True),
    ):
        if limit is not None:
            fewest = min(trial.candidate.activation_memory(int8) for trial in cheap)
            cheap = [trial for trial in cheap if trial.candidate.activation_memory(int8) <= limit]
            if not cheap:
                need = f"the least of those that keep the other limits is {fewest:,}"
                raise UserError(f"{option}: no network needs at most {limit:,} bytes for its activations; {need}")
    good = [t for t in cheap if constraints.min_accuracy is None or t.accuracy >= constraints.min_accuracy]
    if not good:
        limits = {
            "weights": constraints.max_weights,
            "MACs": constraints.max_macs,
            "bytes of activations": constraints.max_memory,
            "bytes of activations in int8": constraints.max_memory_int8,
        }
        given = " and ".join(f"{limit:,} {name}" for name, limit in limits.items() if limit is not None)
        best = f"the best{f' within {given}' if given else ''} has {max(trial.accuracy for trial in cheap):.4f}"
        raise UserError(f"--min-accuracy: no network reaches {constraints.min_accuracy:g}; {best}")
    return good


@dataclass(frozen=True)
class _MeasuredLimit:
    """A constraint that only a measurement can check."""

    option: str
    limit: float
    unit: str
    measure: Callable[[LatencyMeter, CompletedTrial], float]


def _measured_limits(constraints: Constraints) -> list[_MeasuredLimit]:
    """Those that are given, in ascending order of what the measurement costs."""
    return [
        _MeasuredLimit(option, limit, unit, measure)
        for option, limit, unit, measure in (
            ("--max-size", constraints.max_size, "bytes", lambda m, t: m.size(t.candidate)),
            ("--max-latency", constraints.max_latency, "ms", lambda m, t: m.latencies(t.candidate)[1]),
            ("--max-latency-32", constraints.max_latency_32, "ms", lambda m, t: m.latencies(t.candidate)[32]),
        )
        if limit is not None
    ]


def _first_that_keeps(
    ordered: Sequence[CompletedTrial], constraints: Constraints, meter: LatencyMeter
) -> CompletedTrial:
    """The first trial that keeps the measured limits; trials after it are not measured.

    Raises:
        UserError: none does.
    """
    limits = _measured_limits(constraints)
    smallest = {limit.option: math.inf for limit in limits}
    for trial in ordered:
        for limit in limits:
            amount = limit.measure(meter, trial)
            smallest[limit.option] = min(amount, smallest[limit.option])
            if amount > limit.limit:
                break
        else:
            return trial
    # Only trials that keep a limit are checked against the next one, so the first that none keeps rules out all.
    limit = next(limit for limit in limits if smallest[limit.option] > limit.limit)
    best = f"the least of those that keep the other limits is {smallest[limit.option]:,.4g}"
    raise UserError(f"{limit.option}: no network keeps {limit.limit:,g} {limit.unit}; {best}")


def _front_around(
    chosen: CompletedTrial, allowed: Sequence[CompletedTrial], constraints: Constraints, meter: LatencyMeter
) -> list[CompletedTrial]:
    """The front of the trials that keep all constraints, with the chosen trial in it.

    Only trials that would be on the front are measured. Each one that breaks a limit makes room for others.
    """
    limits, remaining = _measured_limits(constraints), list(allowed)
    while True:
        front = nondominated(remaining)
        broken = {trial.number for trial in front if any(limit.measure(meter, trial) > limit.limit for limit in limits)}
        if not broken:
            break
        remaining = [trial for trial in remaining if trial.number not in broken]
    return sorted(front if chosen in front else [*front, chosen], key=lambda trial: trial.weights)


def height_above_chord(trial: CompletedTrial, front: Sequence[CompletedTrial]) -> float:
    """How far a trial lies above the line between the front's ends, both axes scaled to 0..1.

    Axes are log weights and accuracy; `front` is sorted by weights. Zero for a front of one point.
    """
    first, last = front[0], front[-1]
    if first.weights == last.weights:
        return 0.0
    along = math.log(trial.weights / first.weights) / math.log(last.weights / first.weights)
    up = (trial.accuracy - first.accuracy) / (last.accuracy - first.accuracy)
    return up - along


def _why(
    chosen: CompletedTrial,
    front: Sequence[CompletedTrial],
    prefer: Preference,
    count: int,
    expected: Mapping[int, Expected],
) -> str:
    among = f"of the {count} trials that keep the limits" if count > 1 else "the only one that keeps the limits"
    if prefer == "expected":
        return f"expected: the best to expect {among}: {expected[chosen.number].in_words()}"
    if prefer == "accuracy":
        return f"accuracy: the most accurate {among}"
    if prefer == "weights":
        return f"weights: the lightest {among}"
    if len(front) < 3 and chosen in front:
        return f"knee: {among}, the lightest on the front, which is too short for a knee"
    height = 100 * height_above_chord(chosen, front)
    return f"knee: {among}, the one farthest above the line between the front's ends ({height:.0f} % of its height)"
