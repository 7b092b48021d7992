"""The figures of a running search that a display shows."""

import time

import pytest

from mgnas.search.trial_record import TrialRecord, TrialState
from mgnas.search.tuner.progress import SearchProgress

RUNNING, PAUSED, COMPLETE, FAILED = TrialState


@pytest.fixture
def records(small_space):
    """(state, seconds) -> records of one candidate."""
    candidate = next(small_space.enumerate())
    return lambda *trials: [
        TrialRecord(number, candidate, number, state, seconds=seconds) for number, (state, seconds) in enumerate(trials)
    ]


def test_the_time_left_is_that_of_the_missing_trials_shared_by_the_workers(records):
    known = records((COMPLETE, 10.0), (COMPLETE, 30.0), (RUNNING, 5.0), (RUNNING, 90.0), (FAILED, 1.0), (PAUSED, 7.0))
    # 20 s a trial: 4 of 10 trials are missing, the first running one has 15 s to go, and the second is late.
    assert SearchProgress(10, known, 2, 0.0).seconds_left == (4 * 20 + 15 + 0) / 2


def test_no_time_is_expected_before_a_trial_is_complete(records):
    assert SearchProgress(10, records((RUNNING, 5.0), (FAILED, 5.0)), 2, 0.0).seconds_left is None


def test_the_clock_goes_on_from_the_earlier_sessions():
    progress = SearchProgress(1, [], 1, 100.0, started=time.monotonic() - 7)
    assert 107 <= progress.elapsed < 110


def test_trials_are_counted_by_their_state(records):
    progress = SearchProgress(9, records((COMPLETE, 1.0), (COMPLETE, 1.0), (FAILED, 1.0)), 1, 0.0)
    assert [progress.count(state) for state in (COMPLETE, FAILED, RUNNING, PAUSED)] == [2, 1, 0, 0]
