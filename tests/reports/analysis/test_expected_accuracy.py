import pytest

from mgnas.errors import UserError
from mgnas.reports.analysis.expected_accuracy import Expected, expected_accuracies
from mgnas.search.trial_record import completed_trials


def test_luck_is_what_a_trial_has_above_its_neighbours(lucky_records):
    trials = completed_trials(lucky_records)
    expected = expected_accuracies(trials)
    assert list(expected) == [trial.number for trial in trials]
    for trial in trials:
        assert expected[trial.number].winners_curse == pytest.approx(trial.accuracy - expected[trial.number].accuracy)
    assert 0.015 < expected[12].winners_curse < 0.04
    assert max(expected, key=lambda number: expected[number].winners_curse) == 12
    # The noise is learned from that one trial: its std over 20 trials is 4 points / sqrt(20) = 0.9 points.
    assert 0.003 < expected[12].noise < 0.02


def test_few_trials_do_not_tell_luck(lucky_records):
    assert len(expected_accuracies(completed_trials(lucky_records[:8]))) == 8
    with pytest.raises(UserError, match="learned from at least 8 complete trials; this run has 7"):
        expected_accuracies(completed_trials(lucky_records[:7]))


def test_words_tell_good_luck_from_bad():
    good = "90.00 % +- 1.50 expected of another training; 2.00 points of the trial's own are good luck"
    assert Expected(0.90, 0.015, 0.02).in_words() == good
    assert Expected(0.90, 0.015, -0.02).in_words() == good.replace("good luck", "bad luck")
