"""benchmarks/search/mo_asha.py: successive halving over both objectives."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.trial_record import TrialRecord, TrialState

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "search"))
from mo_asha import MultiObjectiveASHA, ranked

EPOCHS = 9


@pytest.fixture
def make(wide_space):
    """weights in about thousands (as channel scaling), curve, state -> record with the next number."""
    numbers = iter(range(1000))

    def build(size: int, curve, state=TrialState.RUNNING) -> TrialRecord:
        values = {"base_channels": "8-16", "channel_scaling": size, "smoothing_steps": 2, "sharing": "AB"}
        return TrialRecord(next(numbers), wide_space.candidate(values), 0, state, list(curve))

    return build


def test_ranks_are_fronts_and_within_a_front_crowding_distances():
    """Points 0, 1, 2, 4 are the first front: ends first, then 2, whose neighbours are farther apart; 3 is dominated."""
    points = np.array([[0.0, 10.0], [1.0, 8.0], [4.0, 2.0], [5.0, 9.0], [10.0, 0.0]])
    assert ranked(points) == [0, 4, 2, 1, 3]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_no_point_is_ranked_before_one_that_dominates_it(points):
    points = np.array(points, dtype=float)
    order = ranked(points)
    assert sorted(order) == list(range(len(points)))
    for place, later in enumerate(order):
        for earlier in order[:place]:
            dominates = (points[later] <= points[earlier]).all() and (points[later] < points[earlier]).any()
            assert not dominates


def test_asha_keeps_the_best_third_of_each_rung(make):
    rule = MultiObjectiveASHA(EPOCHS, first_rung=1, eta=3)
    assert rule.rungs == [1, 3]
    first = make(2, [0.5])
    assert rule.pause(first, [first]) is None, "the first to come is the best so far"
    worse = make(3, [0.4])
    reason = rule.pause(worse, [first, worse])
    assert reason == "not among the best 1 of 2 after epoch 1"
    assert rule.pause(make(3, [0.4, 0.4]), [first, worse]) is None, "epoch 2 is no rung"


def test_asha_promotes_a_paused_trial_when_there_is_room(make):
    rule = MultiObjectiveASHA(EPOCHS)
    best, second = make(2, [0.5, 0.6]), make(2, [0.45], TrialState.PAUSED)
    others = [make(3, [0.1 * i], TrialState.PAUSED) for i in range(3)]
    assert rule.resume([best, second, *others], last=False, spare=False) is None
    record, reason = rule.resume([best, second, *others, make(3, [0.05], TrialState.PAUSED)], last=False, spare=False)
    assert record is second
    assert reason == "among the best 2 after epoch 1 now"


def test_a_failed_trial_holds_no_place_in_a_rung(make):
    """Of two that have come, one failed: the other is the best of one."""
    rule = MultiObjectiveASHA(EPOCHS)
    failed, other = make(2, [0.5], TrialState.FAILED), make(3, [0.4])
    assert rule.pause(other, [failed, other]) is None
