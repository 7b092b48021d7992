"""Which trials rest, and which are taken up again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.curves import CurveModel, Prediction
from mgnas.search.stopping import (
    MultiObjectiveASHA,
    ParetoPausing,
    StoppingRule,
    best_rival,
    make_stopping,
    ranked,
)
from mgnas.search.trial_record import TrialRecord, TrialState

EPOCHS = 9


@pytest.fixture
def make(wide_space):
    """weights in about thousands (as smoothing steps), curve, state -> record with the next number."""
    numbers = iter(range(1000))

    def build(size: int, curve, state=TrialState.RUNNING) -> TrialRecord:
        values = {"base_channels": "8-16", "channel_scaling": size, "smoothing_steps": 2, "sharing": "AB"}
        return TrialRecord(next(numbers), wide_space.candidate(values), 0, state, list(curve))

    return build


class Expects(CurveModel):
    """A curve model that says what it is told to."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__(EPOCHS)
        self.says = Prediction(mean, std)

    def predict(self, curve):
        return self.says


def test_the_rival_is_the_best_complete_trial_that_is_no_heavier(make):
    done = TrialState.COMPLETE
    light, equal, heavy = make(1, [0.8], done), make(2, [0.7], done), make(3, [0.9], done)
    unfinished, failed = make(1, [0.99], TrialState.PAUSED), make(1, [0.99], TrialState.FAILED)
    records = [light, equal, heavy, unfinished, failed]
    assert best_rival(make(2, [0.5]), records) is light
    assert best_rival(make(3, [0.5]), records) is heavy
    assert best_rival(make(1, [0.5]), [heavy]) is None


@pytest.mark.parametrize(
    ("std", "rests"),
    [
        pytest.param(0.049, True, id="upper-quantile-below"),
        pytest.param(0.051, False, id="upper-quantile-above"),
    ],
)
def test_a_trial_rests_where_two_deviations_do_not_reach_what_a_smaller_one_has(make, std, rests):
    rule = ParetoPausing(Expects(0.80, std))
    rival = make(1, [0.9], TrialState.COMPLETE)
    reason = rule.pause(make(2, [0.5]), [rival])
    assert (reason is not None) is rests
    if rests:
        assert reason == (f"80.00 % +- 4.90 expected; trial {rival.number} has 90.00 % with {rival.weights:,} weights")


def test_a_small_network_never_rests_for_being_worse_than_a_large_one(make):
    rule = ParetoPausing(Expects(0.1, 0.001))
    assert rule.pause(make(1, [0.1]), [make(2, [0.99], TrialState.COMPLETE)]) is None


def test_without_a_prediction_nothing_rests(make):
    rule = ParetoPausing(CurveModel(EPOCHS))
    assert rule.pause(make(2, [0.0]), [make(1, [0.9], TrialState.COMPLETE)]) is None


def test_the_paused_trial_farthest_ahead_is_taken_up_again(make):
    rule = ParetoPausing(Expects(0.80, 0.03))
    behind, rivals = (
        make(3, [0.5], TrialState.PAUSED),
        [
            make(1, [0.70], TrialState.COMPLETE),
            make(3, [0.87], TrialState.COMPLETE),
        ],
    )
    ahead = make(2, [0.5], TrialState.PAUSED)
    assert rule.resume([behind, *rivals], last=False) is None
    record, reason = rule.resume([behind, ahead, *rivals], last=False)
    assert record is ahead
    assert reason == "80.00 % +- 3.00 expected now"


def test_at_the_end_trials_have_three_deviations(make):
    rule = ParetoPausing(Expects(0.80, 0.03))
    resting = make(3, [0.5], TrialState.PAUSED)
    rival = make(1, [0.87], TrialState.COMPLETE)
    assert rule.resume([resting, rival], last=False) is None
    assert rule.resume([resting, rival], last=True)[0] is resting
    assert rule.resume([resting, make(1, [0.91], TrialState.COMPLETE)], last=True) is None


# --------------------------------------------------------------------------------------------------- successive halving


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


def test_asha_promotes_a_resting_trial_when_there_is_room(make):
    rule = MultiObjectiveASHA(EPOCHS)
    best, second = make(2, [0.5, 0.6]), make(2, [0.45], TrialState.PAUSED)
    others = [make(3, [0.1 * i], TrialState.PAUSED) for i in range(3)]
    assert rule.resume([best, second, *others], last=False) is None
    record, reason = rule.resume([best, second, *others, make(3, [0.05], TrialState.PAUSED)], last=False)
    assert record is second
    assert reason == "among the best 2 after epoch 1 now"


@pytest.mark.parametrize(("name", "kind"), [("pareto", ParetoPausing), ("mo-asha", MultiObjectiveASHA)])
def test_rules_by_name(name, kind):
    assert isinstance(make_stopping(name, EPOCHS), kind)
    assert issubclass(kind, StoppingRule)
    assert make_stopping(name, epochs=1) is None, "one epoch leaves nothing to save"
    assert make_stopping("none", EPOCHS) is None
