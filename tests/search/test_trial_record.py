"""What is known of a trial in each of its states."""

import pytest

from mgnas.search.trial_record import ExpectedGain, TrialRecord, TrialState, completed_trials


@pytest.fixture
def record_in(small_space):
    """state -> a record with a curve of two epochs in it."""
    candidate = next(small_space.enumerate())
    known = {"seconds": 2.0, "finished": 9.0, "balanced_accuracy": 0.4}
    return lambda state, number=0: TrialRecord(number, candidate, 7, state, [0.5, 0.6], **known)


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.PAUSED, TrialState.FAILED])
def test_only_a_complete_trial_has_an_accuracy(record_in, state):
    assert (record_in(state).accuracy, record_in(state).completed) == (None, None)
    assert record_in(TrialState.COMPLETE).accuracy == 0.6


def test_a_completed_trial_has_what_its_record_has(record_in):
    record = record_in(TrialState.COMPLETE)
    trial = record.completed
    assert (trial.number, trial.seed, trial.curve, trial.accuracy) == (0, 7, (0.5, 0.6), 0.6)
    assert (trial.seconds, trial.finished, trial.balanced_accuracy) == (2.0, 9.0, 0.4)
    assert (trial.architecture, trial.weights, trial.macs) == (
        record.candidate.architecture,
        record.weights,
        record.candidate.macs,
    )


def test_a_completed_trial_does_not_change_with_its_record(record_in):
    record = record_in(TrialState.COMPLETE)
    trial = record.completed
    record.curve.append(0.9)
    record.decisions.append("epoch 3: noted")
    assert (trial.curve, trial.decisions) == ((0.5, 0.6), ())


def test_completed_trials_keep_their_order(record_in):
    states = [TrialState.COMPLETE, TrialState.FAILED, TrialState.COMPLETE, TrialState.RUNNING, TrialState.PAUSED]
    records = [record_in(state, number) for number, state in enumerate(states)]
    assert [trial.number for trial in completed_trials(reversed(records))] == [2, 0]


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (ExpectedGain(20, 0.008), "20 more trials: about +0.8 % expected"),
        (ExpectedGain(1, 0.125), "1 more trial: about +12 % expected"),
        (ExpectedGain(5, 0.0), "5 more trials: about +0 % expected"),
    ],
)
def test_an_expected_gain_in_words(gain, words):
    assert gain.in_words() == words
