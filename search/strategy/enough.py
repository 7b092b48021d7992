"""When a search has found enough: `search.until`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from ..config import Until
from ..trial_record import ExpectedGain, TrialRecord

_AVERAGED = 3
"""Latest estimates whose mean decides; a single one is off by a fifth, because it is an average over a few rollouts."""


def gains_so_far(records: Iterable[TrialRecord]) -> list[ExpectedGain]:
    """What further trials were expected to bring, in the order in which the trials ended."""
    ended = sorted(records, key=lambda record: (record.finished or 0.0, record.number))
    return [record.gain for record in ended if record.gain is not None]


def is_enough(gains: Sequence[ExpectedGain], until: Until) -> bool:
    """Whether further trials are expected to bring less than the user wants.

    Estimates for another number of trials, from before the setting was changed, do not count.
    """
    latest = [gain.share for gain in gains if gain.trials == until.trials][-_AVERAGED:]
    return len(latest) == _AVERAGED and fmean(latest) < until.gain
