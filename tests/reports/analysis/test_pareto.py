import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.models.config import ArchitectureConfig
from mgnas.reports.analysis.pareto import (
    hypervolume,
    hypervolume_over_trials,
    leading_fronts,
    nondominated,
    objectives,
    pareto_front,
    reference_weights,
)
from mgnas.search.trial_record import CompletedTrial, TrialRecord, TrialState, completed_trials
from mgnas.space.candidate import Candidate, TrainingSettings


def candidate(channels):
    architecture = ArchitectureConfig(family="mgnet", base_channels=(channels,))
    return Candidate(architecture, TrainingSettings(), 8, {"base_channels": channels})


def trial(number, channels, accuracy):
    return CompletedTrial(number, candidate(channels), 0, (accuracy,), 1.0, float(number))


def test_front_holds_what_nothing_else_beats(run):
    assert [trial.candidate.params["base_channels"] for trial in pareto_front(run.load())] == ["4", "8", "16", "32"]


@pytest.mark.parametrize("state", [state for state in TrialState if state is not TrialState.COMPLETE])
def test_only_complete_trials_enter_a_front(state):
    complete = TrialRecord(0, candidate(8), 0, TrialState.COMPLETE, [0.5])
    better = TrialRecord(1, candidate(4), 0, state, [1.0])
    assert pareto_front([complete, better]) == [complete.completed]
    assert pareto_front([better]) == []


def test_of_equal_trials_the_first_is_kept():
    twins = [trial(0, 8, 0.5), trial(1, 8, 0.5)]
    assert nondominated(twins) == twins[:1]


def test_further_fronts_are_added_until_there_are_enough_networks():
    # The front is 3; without it 1 and 2 are one, and of these 1 has the same network as 0.
    trials = [trial(0, 8, 0.5), trial(1, 8, 0.6), trial(2, 12, 0.7), trial(3, 4, 0.8)]
    numbers = {count: [t.number for t in leading_fronts(trials, count)] for count in (1, 2, 3, 4)}
    assert numbers == {1: [3], 2: [3, 1, 2], 3: [3, 1, 2], 4: [3, 1, 2, 0]}
    assert leading_fronts([], 4) == []


@given(st.lists(st.tuples(st.sampled_from([4, 8, 12, 16]), st.sampled_from([0.5, 0.6, 0.7])), min_size=1, max_size=12))
def test_front_equals_the_pairwise_definition(pairs):
    trials = [trial(i, channels, accuracy) for i, (channels, accuracy) in enumerate(pairs)]

    def beaten(a):
        return any(
            (b.weights <= a.weights and b.accuracy >= a.accuracy)
            and ((b.weights, b.accuracy) != (a.weights, a.accuracy) or b.number < a.number)
            for b in trials
        )

    expected = sorted((a for a in trials if not beaten(a)), key=lambda trial: trial.weights)
    assert nondominated(trials) == expected


def test_objectives_are_log_weights_and_error():
    only = trial(0, 8, 0.75)
    assert objectives([only]).tolist() == [[pytest.approx(math.log10(only.weights)), 0.25]]


def test_hypervolume_of_one_trial_is_a_rectangle():
    only = trial(0, 8, 0.5)
    assert hypervolume([only], 100 * only.weights) == pytest.approx(2 * 0.5)
    assert hypervolume([only], 100 * only.weights, 0.4) == pytest.approx(2 * 0.1)


def test_hypervolume_of_a_staircase():
    small, large = trial(0, 4, 0.5), trial(1, 16, 0.8)
    decades = math.log10(large.weights / small.weights)
    # Up to the larger network 0.5 high, then 0.8 for one more decade.
    assert hypervolume([small, large], 10 * large.weights) == pytest.approx(0.5 * decades + 0.8)


def test_hypervolume_without_trials_is_zero():
    assert hypervolume([], 1000) == 0.0


def test_hypervolume_grows_in_the_order_of_finishing(run):
    trials = completed_trials(run.load())
    values = hypervolume_over_trials(trials[::-1], 10**6)
    assert values == [pytest.approx(hypervolume(trials[:count], 10**6)) for count in range(1, 6)]
    assert values == sorted(values)


def test_reference_is_the_budget_or_the_heaviest_trial():
    records = [TrialRecord(0, candidate(4), 0), TrialRecord(1, candidate(16), 0)]
    assert reference_weights(records, 5000) == 5000
    assert reference_weights(records, None) == records[1].weights
    assert reference_weights([], None) == 1
