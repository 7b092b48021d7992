import pytest

from mgnas.reports.analysis.failures import nothing_complete
from mgnas.search.trial_record import TrialRecord, TrialState
from mgnas.space.candidate import Candidate, TrainingSettings


@pytest.fixture
def failed(tiny):
    """Reasons -> trials that failed for them."""

    def make(*reasons):
        candidate = Candidate(tiny(), TrainingSettings(), 8, {})
        return [
            TrialRecord(number, candidate, number, TrialState.FAILED, reason=reason)
            for number, reason in enumerate(reasons)
        ]

    return make


def test_diverged_trials_name_the_learning_rate_whatever_the_epoch(failed):
    message = nothing_complete(failed("the loss became nan in epoch 1", "the loss became nan in epoch 2"))
    assert message == (
        "no trial of this run is complete: all 2 trials failed, all because the loss became nan in epoch 1; "
        "lower training.learning_rate, or its range in the space, and start a new search"
    )


@pytest.mark.parametrize(
    ("reason", "setting"),
    [
        ("out of memory: MgNet at batch size 512 does not fit", "training.batch_size"),
        ("over its time limit of 5 s (1 epoch)", "resources.time_limit"),
        ("photos/cat/1.png: is missing", "change what the reason names"),
    ],
)
def test_each_reason_has_its_setting(failed, reason, setting):
    message = nothing_complete(failed(reason))
    assert f"its only trial failed: {reason}; " in message
    assert setting in message


def test_the_most_frequent_reason_is_told(failed):
    message = nothing_complete(
        failed("disk full", "the loss became nan in epoch 1", "the loss became inf in epoch 3", "")
    )
    assert "all 4 trials failed, 1 of them because disk full" in message
    message = nothing_complete(failed("disk full", "out of memory: a", "out of memory: a"))
    assert "2 of them because out of memory: a; lower training.batch_size" in message


def test_a_run_that_can_go_on_is_to_be_resumed(failed):
    trials = failed("the loss became nan in epoch 1", "")
    trials[1].state = TrialState.PAUSED
    for records in ([], trials):
        assert nothing_complete(records) == "no trial of this run is complete yet; continue it with `mgnas resume`"
