import itertools

import pytest

from mgnas.errors import UserError
from mgnas.reports.analysis.front_confidence import BestWithin, Expected, FrontConfidence, front_confidence
from mgnas.search.trial_record import completed_trials


def test_luck_is_what_a_trial_has_above_its_neighbours(lucky_records):
    trials = completed_trials(lucky_records)
    expected = front_confidence(trials, None).expected
    assert list(expected) == [trial.number for trial in trials]
    for trial in trials:
        assert expected[trial.number].winners_curse == pytest.approx(trial.accuracy - expected[trial.number].accuracy)
    assert 0.015 < expected[12].winners_curse < 0.04
    assert max(expected, key=lambda number: expected[number].winners_curse) == 12
    # The noise is learned from that one trial: its std over 20 trials is 4 points / sqrt(20) = 0.9 points.
    assert 0.003 < expected[12].noise < 0.02


def test_few_trials_do_not_tell_luck(lucky_records):
    assert len(front_confidence(completed_trials(lucky_records[:8]), None).expected) == 8
    with pytest.raises(UserError, match="learned from at least 8 complete trials; this run has 7"):
        front_confidence(completed_trials(lucky_records[:7]), None)


def test_words_tell_good_luck_from_bad():
    good = "90.00 % +- 1.50 expected of another training; 2.00 points of the trial's own are good luck"
    assert Expected(0.90, 0.015, 0.02, 0.5, 0.0).in_words() == good
    assert Expected(0.90, 0.015, -0.02, 0.5, 0.0).in_words() == good.replace("good luck", "bad luck")


def test_the_lightest_network_is_on_the_front_for_sure_and_a_lucky_one_makes_its_neighbours_doubtful(lucky_records):
    confidence = front_confidence(completed_trials(lucky_records), None)
    part = {number: expected.on_front for number, expected in confidence.expected.items()}
    assert part[0] == 1.0
    assert all(0 <= value <= 1 for value in part.values())
    # Trials 13 to 15 reached less than trial 12 before them; luck left out, they are probably better.
    assert all(part[number] > 0.3 for number in (13, 14, 15))


def test_intervals_grow_with_the_budget_and_hold_the_accuracies_that_are_expected(lucky_records):
    trials = completed_trials(lucky_records)
    confidence = front_confidence(trials, None)
    steps = confidence.best_within
    assert [step.weights for step in steps] == sorted({step.weights for step in steps})
    assert all(a.low <= b.low and a.high <= b.high for a, b in itertools.pairwise(steps))
    assert confidence.within(trials[0].weights - 1) is None
    assert confidence.within(10**9) == steps[-1]
    heaviest = confidence.within(trials[19].weights)
    assert heaviest.low < confidence.expected[19].accuracy < heaviest.high


def test_what_decides_most_comes_first_and_what_decides_nothing_not_at_all(lucky_records):
    trials = completed_trials(lucky_records[:8])

    def one(information):
        return Expected(0.9, 0.01, 0.0, 0.5, information)

    told = dict(enumerate([0.0, 0.1, 0.3, 0.2, 0.0, 0.001, 0.0, 0.05]))
    confidence = FrontConfidence({number: one(value) for number, value in told.items()}, [])
    assert [trial.number for trial in confidence.doubtful(trials, 3)] == [2, 3, 1]
    assert [trial.number for trial in confidence.doubtful(trials, 9)] == [2, 3, 1, 7]


def test_confidence_in_words(lucky_records):
    (trial,) = completed_trials(lucky_records[:1])
    expected = {0: Expected(0.9, 0.01, 0.0, 0.834, 0.0)}
    words = FrontConfidence(expected, [BestWithin(1, 0.71, 0.7349)]).in_words(trial)
    weights = f"{trial.weights:,}"
    assert words == f"on the front with 83 %; the best of at most {weights} weights has 71.00 to 73.49 % (with 90 %)"
    assert FrontConfidence(expected, []).in_words(trial) == "on the front with 83 %"
