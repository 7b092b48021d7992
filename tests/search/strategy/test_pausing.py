"""Which trials are paused, and which are resumed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.strategy.learning_curves import LOG_ERROR, CurveModel, Prediction
from mgnas.search.strategy.pausing import ParetoPausing, Rivals, make_pausing_rule
from mgnas.search.trial_record import GaussianPrediction, TrialRecord, TrialState

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
    """A curve model that says what it is told to: a mean accuracy, and the one a standard deviation above."""

    def __init__(self, mean: float, above: float) -> None:
        super().__init__(EPOCHS)
        z = LOG_ERROR.transform(np.array([mean, above]))
        self.says = Prediction(float(z[0]), float(z[1] - z[0]))

    def predict(self, curve, expected=None):
        return self.says


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 6)), max_size=12))
def test_the_rival_is_the_best_complete_trial_that_is_no_heavier(wide_space, drawn):
    rivals, records = Rivals(), []
    for number, (size, percent) in enumerate(drawn):
        values = {"base_channels": "8-16", "channel_scaling": size, "smoothing_steps": 2, "sharing": "AB"}
        state = TrialState.COMPLETE
        records.append(TrialRecord(number, wide_space.candidate(values), 0, state, [percent / 10]))
        rivals.add(records[-1].completed)
    for weights in (0, *(record.weights for record in records)):
        no_heavier = [record.accuracy for record in records if record.weights <= weights]
        best = rivals.best(weights)
        assert (best and best.accuracy) == max(no_heavier, default=None)
        assert best is None or best.weights <= weights


def test_of_equal_rivals_the_first_remains(make):
    rivals, first = Rivals(), make(1, [0.8], TrialState.COMPLETE).completed
    for trial in (first, make(1, [0.8], TrialState.COMPLETE).completed, make(2, [0.8], TrialState.COMPLETE).completed):
        rivals.add(trial)
    assert rivals.best(first.weights) is rivals.best(10**9) is first


@pytest.mark.parametrize(
    ("rival_has", "paused"),
    [
        # Errors with their offset of 0.01: 0.21 is expected, 0.14 one deviation above, 0.0933 two above, so 0.9167.
        pytest.param(0.917, True, id="upper-quantile-below"),
        pytest.param(0.916, False, id="upper-quantile-above"),
    ],
)
def test_a_trial_is_paused_if_two_deviations_do_not_reach_what_a_smaller_one_has(make, rival_has, paused):
    rule, rival = ParetoPausing(Expects(0.80, 0.87)), make(1, [rival_has], TrialState.COMPLETE).completed
    rule.complete(rival)
    reason = rule.pause(make(2, [0.5]), [])
    assert (reason is not None) is paused
    if paused:
        assert reason.startswith("80.00 % +- ")
        assert reason.endswith(f" expected; trial {rival.number} has 91.70 % with {rival.weights:,} weights")


def test_a_small_network_is_never_paused_for_being_worse_than_a_large_one(make):
    rule = ParetoPausing(Expects(0.1, 0.101))
    rule.complete(make(2, [0.99], TrialState.COMPLETE).completed)
    assert rule.pause(make(1, [0.1]), []) is None


def test_without_a_prediction_nothing_is_paused(make):
    rule = ParetoPausing(CurveModel(EPOCHS))
    rule.complete(make(1, [0.9], TrialState.COMPLETE).completed)
    assert rule.pause(make(2, [0.0]), []) is None


def test_the_paused_trial_farthest_ahead_is_resumed(make):
    rule = ParetoPausing(Expects(0.80, 0.83))
    behind, ahead = make(3, [0.5], TrialState.PAUSED), make(2, [0.5], TrialState.PAUSED)
    for size, accuracy in ((1, 0.70), (3, 0.87)):
        rule.complete(make(size, [accuracy], TrialState.COMPLETE).completed)
    assert rule.resume([behind], last=False, spare=False) is None
    record, reason = rule.resume([behind, ahead], last=False, spare=False)
    assert record is ahead
    assert reason.startswith("80.00 % +- ")
    assert reason.endswith(" expected now")


def test_what_the_sampler_expected_of_a_network_counts_too(make):
    """Ten curves that all end alike say little of this one; a sure expectation says it all."""
    model = CurveModel(3)
    for i in range(10):
        model.add([0.3, 0.4, 0.5 + 0.01 * (i % 2)])
    rule = ParetoPausing(model)
    rule.complete(make(1, [0.8], TrialState.COMPLETE).completed)
    hopeless, hopeful = make(2, [0.3]), make(3, [0.3])
    hopeful.expected = GaussianPrediction(float(LOG_ERROR.transform(0.85)), 0.001)
    assert rule.pause(hopeless, []) is not None
    assert rule.pause(hopeful, []) is None
    assert rule.predict(hopeful).mean == pytest.approx(0.85, abs=0.01)


def test_at_the_end_trials_have_three_deviations(make):
    rule = ParetoPausing(Expects(0.80, 0.83))
    paused = make(3, [0.5], TrialState.PAUSED)
    rule.complete(make(1, [0.87], TrialState.COMPLETE).completed)
    assert rule.resume([paused], last=False, spare=False) is None
    assert rule.resume([paused], last=True, spare=False)[0] is paused
    rule.complete(make(1, [0.91], TrialState.COMPLETE).completed)
    assert rule.resume([paused], last=True, spare=False) is None
    assert rule.resume([paused], last=True, spare=True) == (paused, "the space has nothing else to train")


def test_rules_by_name():
    assert isinstance(make_pausing_rule("pareto", EPOCHS), ParetoPausing)
    assert make_pausing_rule("pareto", epochs=1) is None, "one epoch leaves nothing to save"
    assert make_pausing_rule("none", EPOCHS) is None


def test_the_rule_learns_from_curves_on_other_data(make):
    """They rise twice as much as those of this search do."""
    shares = np.linspace(0, 1, EPOCHS)
    others = [(0.2 + 0.05 * i + 0.4 * shares).tolist() for i in range(10)]
    alone, helped = make_pausing_rule("pareto", EPOCHS), make_pausing_rule("pareto", EPOCHS, others)
    for rule in (alone, helped):
        for i in range(6):
            rule.complete(make(1, 0.3 + 0.05 * i + 0.2 * shares, TrialState.COMPLETE).completed)
    half = make(2, 0.4 + 0.2 * shares[:4])
    assert alone.predict(half) != helped.predict(half)
