import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.models.config import ArchitectureConfig
from mgnas.reports.analysis.pareto import (
    hypervolume,
    hypervolume_over_trials,
    objectives,
    pareto_front,
    reference_weights,
)
from mgnas.search.trial_record import TrialRecord, TrialState
from mgnas.space.candidate import Candidate, TrainingSettings


def trial(number, channels, accuracy, state=TrialState.COMPLETE):
    architecture = ArchitectureConfig(family="mgnet", base_channels=(channels,))
    candidate = Candidate(architecture, TrainingSettings(), 8, {"base_channels": channels})
    return TrialRecord(number, candidate, 0, state, [accuracy], finished=float(number))


def test_front_holds_what_nothing_else_beats(run):
    assert [record.candidate.params["base_channels"] for record in pareto_front(run.load())] == ["4", "8", "16", "32"]


def test_running_and_failed_trials_enter_no_front():
    better = [trial(1, 4, 1.0, TrialState.RUNNING), trial(2, 4, 1.0, TrialState.FAILED)]
    first = trial(0, 8, 0.5)
    assert pareto_front([first, *better]) == [first]
    assert pareto_front(better) == []


def test_of_equal_trials_the_first_is_kept():
    twins = [trial(0, 8, 0.5), trial(1, 8, 0.5)]
    assert pareto_front(twins) == twins[:1]


@given(st.lists(st.tuples(st.sampled_from([4, 8, 12, 16]), st.sampled_from([0.5, 0.6, 0.7])), min_size=1, max_size=12))
def test_front_equals_the_pairwise_definition(pairs):
    trials = [trial(i, channels, accuracy) for i, (channels, accuracy) in enumerate(pairs)]

    def beaten(a):
        return any(
            (b.weights <= a.weights and b.accuracy >= a.accuracy)
            and ((b.weights, b.accuracy) != (a.weights, a.accuracy) or b.number < a.number)
            for b in trials
        )

    expected = sorted((a for a in trials if not beaten(a)), key=lambda record: record.weights)
    assert pareto_front(trials) == expected


def test_objectives_are_log_weights_and_error():
    record = trial(0, 8, 0.75)
    assert objectives([record]).tolist() == [[pytest.approx(math.log10(record.weights)), 0.25]]


def test_hypervolume_of_one_trial_is_a_rectangle():
    record = trial(0, 8, 0.5)
    assert hypervolume([record], 100 * record.weights) == pytest.approx(2 * 0.5)


def test_hypervolume_of_a_staircase():
    small, large = trial(0, 4, 0.5), trial(1, 16, 0.8)
    decades = math.log10(large.weights / small.weights)
    # Up to the larger network 0.5 high, then 0.8 for one more decade.
    assert hypervolume([small, large], 10 * large.weights) == pytest.approx(0.5 * decades + 0.8)


def test_hypervolume_without_complete_trials_is_zero():
    assert hypervolume([], 1000) == 0.0
    assert hypervolume([trial(0, 4, 0.9, TrialState.RUNNING)], 10**6) == 0.0


def test_hypervolume_grows_in_the_order_of_finishing(run):
    values = hypervolume_over_trials(run.load(), 10**6)
    assert len(values) == 5
    assert values == sorted(values)
    assert values[-1] == pytest.approx(hypervolume(run.load(), 10**6))


def test_reference_is_the_budget_or_the_heaviest_trial():
    records = [trial(0, 4, 0.5), trial(1, 16, 0.8)]
    assert reference_weights(records, 5000) == 5000
    assert reference_weights(records, None) == records[1].weights
    assert reference_weights([], None) == 1
