import pytest
from strategy_runs import finish, run

from mgnas.search.config import Until
from mgnas.search.samplers.factory import make_sampler
from mgnas.search.strategy.enough import gains_so_far, is_enough
from mgnas.search.strategy.strategy import Strategy
from mgnas.search.trial_record import ExpectedGain, TrialState, last_gain

UNTIL = Until(gain="1%", trials=5)


def gains(*shares, trials=5):
    return [ExpectedGain(trials, share) for share in shares]


@pytest.mark.parametrize(
    ("told", "enough"),
    [
        ((), False),
        ((0.001, 0.001), False),
        ((0.02, 0.005, 0.004), True),
        ((0.005, 0.004, 0.03), False),
        ((0.9, 0.009, 0.009, 0.009), True),
    ],
)
def test_three_estimates_decide_by_their_mean(told, enough):
    assert is_enough(gains(*told), UNTIL) is enough


def test_estimates_for_another_number_of_trials_do_not_count():
    assert not is_enough(gains(0.0, 0.0) + gains(0.0, trials=20), UNTIL)


def search(space, until, records=(), n_trials=200, seed=0):
    return Strategy(space, make_sampler("ehvi", seed, space), n_trials, records=records, until=until)


def test_a_search_ends_when_little_is_expected(wide_space):
    strategy = search(wide_space, Until(gain="5%", trials=5))
    records = run(strategy)
    assert 10 < len(records) < 200
    assert strategy.finished
    assert strategy.enough
    assert sum(gain.share for gain in gains_so_far(records)[-3:]) / 3 < 0.05
    # A stricter user goes on with the same trials; what was expected of five trials still counts.
    assert search(wide_space, Until(gain="5%", trials=5), records).finished
    assert not search(wide_space, Until(gain=1e-9, trials=5), records).finished
    assert not search(wide_space, None, records).finished


def test_a_running_trial_may_end_with_a_surprise(wide_space):
    strategy = search(wide_space, UNTIL)
    first = strategy.ask()
    strategy._gains = gains(0.0, 0.0, 0.0)
    assert strategy.finished
    assert strategy.ask() is None
    finish(strategy, first)
    strategy._gains += gains(0.9)
    assert not strategy.finished
    assert strategy.ask() is not None


def test_asking_for_the_gain_changes_no_proposal(wide_space):
    plain, asked = (search(wide_space, None, n_trials=16) for _ in range(2))
    for _ in range(16):
        one, other = plain.ask(), asked.ask()
        assert one.candidate == other.candidate
        for strategy, record in ((plain, one), (asked, other)):
            finish(strategy, record)
        asked.expected_gain(5)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_sampler_without_a_model_expects_nothing(wide_space, sampler):
    strategy = Strategy(wide_space, make_sampler(sampler, 0, wide_space), 5)
    run(strategy)
    assert strategy.expected_gain(20) is None


def test_nothing_is_expected_before_the_model_has_learned(wide_space):
    strategy = search(wide_space, None)
    assert strategy.expected_gain(20) is None
    for _ in range(3):
        finish(strategy, strategy.ask())
    assert strategy.expected_gain(20) is None


def test_pending_trials_are_taken_for_ended_ones(wide_space):
    strategy = search(wide_space, None)
    for _ in range(12):
        finish(strategy, strategy.ask())
    alone = strategy.expected_gain(1).share
    waiting = [strategy.ask() for _ in range(6)]
    assert all(record.state is TrialState.RUNNING for record in waiting)
    assert strategy.expected_gain(1).share < alone


def test_gains_stand_in_the_order_in_which_trials_ended(wide_space):
    strategy = search(wide_space, None)
    records = [strategy.ask() for _ in range(3)]
    for record, finished, share in zip(records, (3.0, 1.0, 2.0), (0.3, 0.1, 0.2), strict=True):
        record.finished, record.gain = finished, ExpectedGain(5, share)
    assert [gain.share for gain in gains_so_far(records)] == [0.1, 0.2, 0.3]
    assert last_gain(records).share == 0.3
    assert last_gain([]) is None
