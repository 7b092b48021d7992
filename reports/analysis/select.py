"""Choosing one network: what keeps the constraints, which of these is preferred, and what its neighbours would cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mgnas.errors import UserError

from ...search.trial_record import TrialRecord
from ..deploy.latency import LatencyMeter
from .expected_accuracy import Expected, expected_accuracies
from .pareto import complete, pareto_front

Preference = Literal["knee", "accuracy", "weights", "expected"]


@dataclass(frozen=True)
class Constraints:
    """What the network must keep; None: anything.

    Args:
        max_weights: trainable parameters.
        max_macs: multiply-accumulates per image.
        min_accuracy: validation accuracy, as a fraction.
        max_size: bytes of the exported weights.
        max_latency: milliseconds on this machine for 1 image.
        max_latency_32: milliseconds on this machine for 32 images.
    """

    max_weights: int | None = None
    max_macs: int | None = None
    min_accuracy: float | None = None
    max_size: int | None = None
    max_latency: float | None = None
    max_latency_32: float | None = None


@dataclass(frozen=True)
class Choice:
    """A chosen trial and why.

    Args:
        record: the trial.
        front: of all trials that keep the constraints, by ascending weights; the chosen one among them.
        why: in words.
        expected: what another training is expected to give, by trial number; empty unless that was asked for.
    """

    record: TrialRecord
    front: list[TrialRecord]
    why: str
    expected: dict[int, Expected]

    def neighbours(self) -> list[tuple[TrialRecord, str]]:
        """The next lighter and the next heavier network of the front, and what they would cost or give."""
        place = self.front.index(self.record)
        around = [self.front[i] for i in (place - 1, place + 1) if 0 <= i < len(self.front)]
        return [(other, exchange(self.record, other)) for other in around]


def exchange(chosen: TrialRecord, other: TrialRecord) -> str:
    """What taking the other network instead would change: `-1,200 weights (-31 %), -0.35 points of accuracy`."""
    weights, points = other.weights - chosen.weights, 100 * (other.accuracy - chosen.accuracy)
    share = 100 * weights / chosen.weights
    return f"{weights:+,} weights ({share:+.0f} %), {points:+.2f} points of accuracy"


def select(
    records: Sequence[TrialRecord],
    constraints: Constraints = Constraints(),
    prefer: Preference = "knee",
    meter: LatencyMeter | None = None,
) -> Choice:
    """The complete trial that keeps the constraints and is preferred.

    Without limits other than weights and accuracy that is one of the run's front; MACs, latencies and sizes may rule
    out parts of it, and what they leave has a front of its own.

    Args:
        records: all trials of a run.
        constraints: what to keep.
        prefer: `accuracy`: the most accurate. `weights`: the lightest. `knee`: where more weights stop paying, the
            point farthest above the line between the ends of the run's front (accuracy against log weights).
            `expected`: the one of which another training is expected to be best; the others take each trial's accuracy
            for its word.
        meter: measures latencies and sizes.

    Raises:
        UserError: no trial is complete, or none keeps the constraints.
    """
    front = pareto_front(records)
    if not front:
        raise UserError("no trial of this run is complete yet; continue it with `mgnas resume`")
    meter = meter or LatencyMeter()
    allowed = _affordable(complete(records), front, constraints)
    expected = expected_accuracies(records) if prefer == "expected" else {}

    def score(record: TrialRecord) -> tuple[float, float]:
        if prefer == "expected":
            return expected[record.number].accuracy, -record.weights
        if prefer == "weights":
            return -record.weights, record.accuracy
        return (record.accuracy if prefer == "accuracy" else height_above_chord(record, front)), -record.weights

    chosen = _first_that_keeps(sorted(allowed, key=score, reverse=True), constraints, meter)
    kept = _front_around(chosen, allowed, constraints, meter)
    return Choice(chosen, kept, _why(chosen, front, prefer, len(allowed), expected), expected)


def _affordable(finished: list[TrialRecord], front: list[TrialRecord], constraints: Constraints) -> list[TrialRecord]:
    """The trials that keep what is known without measuring.

    Raises:
        UserError: none does; it names the limit and the best that there is.
    """
    light = [r for r in finished if constraints.max_weights is None or r.weights <= constraints.max_weights]
    if not light:
        smallest = f"the smallest of the {len(front)} on the front has {front[0].weights:,}"
        raise UserError(f"--max-weights: no network has at most {constraints.max_weights:,} weights; {smallest}")
    cheap = [r for r in light if constraints.max_macs is None or r.candidate.macs <= constraints.max_macs]
    if not cheap:
        least = min(record.candidate.macs for record in light)
        raise UserError(f"--max-macs: no network has at most {constraints.max_macs:,} MACs; the least is {least:,}")
    good = [r for r in cheap if constraints.min_accuracy is None or r.accuracy >= constraints.min_accuracy]
    if not good:
        limits = {"weights": constraints.max_weights, "MACs": constraints.max_macs}
        given = " and ".join(f"{limit:,} {name}" for name, limit in limits.items() if limit is not None)
        best = f"the best{f' within {given}' if given else ''} has {max(record.accuracy for record in cheap):.4f}"
        raise UserError(f"--min-accuracy: no network reaches {constraints.min_accuracy:g}; {best}")
    return good


def _measures(constraints: Constraints) -> list[tuple[str, float, str, Callable[[LatencyMeter, TrialRecord], float]]]:
    """Option, limit, unit and measurement of every constraint that only a measurement can check; cheap ones first."""
    return [
        (option, limit, unit, measure)
        for option, limit, unit, measure in (
            ("--max-size", constraints.max_size, "bytes", lambda m, r: m.size(r.candidate)),
            ("--max-latency", constraints.max_latency, "ms", lambda m, r: m.latencies(r.candidate)[1]),
            ("--max-latency-32", constraints.max_latency_32, "ms", lambda m, r: m.latencies(r.candidate)[32]),
        )
        if limit is not None
    ]


def _first_that_keeps(ordered: list[TrialRecord], constraints: Constraints, meter: LatencyMeter) -> TrialRecord:
    """The first trial that keeps what must be measured; no more are measured than needed.

    Raises:
        UserError: none does.
    """
    least: dict[str, float] = {}
    for record in ordered:
        for option, limit, _, measure in _measures(constraints):
            amount = measure(meter, record)
            least[option] = min(amount, least.get(option, math.inf))
            if amount > limit:
                break
        else:
            return record
    # What keeps one limit is checked against the next, so the first that nothing keeps is the one that rules all out.
    option, limit, unit = next(
        (option, limit, unit) for option, limit, unit, _ in _measures(constraints) if least[option] > limit
    )
    found = f"the least of those that keep the other limits is {least[option]:,.4g}"
    raise UserError(f"{option}: no network keeps {limit:,g} {unit}; {found}")


def _front_around(
    chosen: TrialRecord, allowed: list[TrialRecord], constraints: Constraints, meter: LatencyMeter
) -> list[TrialRecord]:
    """The front of what keeps all constraints, with the chosen trial in it.

    Only trials that would be on the front are measured: whoever breaks a limit makes room for the next.
    """
    left = list(allowed)
    while True:
        front = pareto_front(left)
        broken = [
            record
            for record in front
            if any(measure(meter, record) > limit for _, limit, _, measure in _measures(constraints))
        ]
        if not broken:
            break
        left = [record for record in left if record not in broken]
    return sorted(front if chosen in front else [*front, chosen], key=lambda record: record.weights)


def height_above_chord(record: TrialRecord, front: Sequence[TrialRecord]) -> float:
    """How far a trial lies above the line between the front's ends, both axes scaled to 0..1.

    Axes are log weights and accuracy; `front` is sorted by weights. Zero for a front of one point.
    """
    first, last = front[0], front[-1]
    if first.weights == last.weights:
        return 0.0
    along = math.log(record.weights / first.weights) / math.log(last.weights / first.weights)
    up = (record.accuracy - first.accuracy) / (last.accuracy - first.accuracy)
    return up - along


def _why(
    chosen: TrialRecord, front: list[TrialRecord], prefer: Preference, count: int, expected: dict[int, Expected]
) -> str:
    among = f"of the {count} trials that keep the limits" if count > 1 else "the only one that keeps the limits"
    if prefer == "expected":
        return f"expected: the best to expect {among}: {expected[chosen.number].in_words()}"
    if prefer == "accuracy":
        return f"accuracy: the most accurate {among}"
    if prefer == "weights":
        return f"weights: the lightest {among}"
    height = 100 * height_above_chord(chosen, front)
    return f"knee: {among}, the one farthest above the line between the front's ends ({height:.0f} % of its height)"
