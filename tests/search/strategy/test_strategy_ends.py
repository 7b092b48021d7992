"""How trials end: complete, failed, and that what comes after the end changes nothing."""

import copy
import math

import pytest
from optuna.trial import TrialState as OptunaState
from strategy_runs import finish, ids, results, run, told

from mgnas.search.samplers.factory import make_sampler
from mgnas.search.strategy.strategy import Decision, Strategy
from mgnas.search.trial_record import TrialState


@pytest.fixture
def strategy(wide_space):
    return Strategy(wide_space, make_sampler("random", 0, wide_space), n_trials=20)


def assert_failed(strategy, record, reason):
    assert (record.state, record.reason, record.accuracy) == (TrialState.FAILED, reason, None)
    assert told(strategy)[OptunaState.COMPLETE] == []
    assert told(strategy)[OptunaState.RUNNING] == []


def test_a_report_is_noted(strategy):
    record = strategy.ask()
    assert strategy.report(0, (0.25,), seconds=1.5) is Decision.CONTINUE
    assert (record.curve, record.seconds, record.state) == ([0.25], 1.5, TrialState.RUNNING)
    strategy.report(0, (0.25, 0.5), seconds=3.0)
    strategy.complete(0)
    assert (record.curve, record.seconds, record.accuracy) == ([0.25, 0.5], 3.0, 0.5)
    assert told(strategy)[OptunaState.COMPLETE] == [(0.5, float(record.weights))]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_curve_that_is_not_finite_fails_the_trial(strategy, value):
    record = strategy.ask()
    strategy.report(0, [0.5])
    assert strategy.report(0, [0.5, value]) is Decision.STOP
    assert_failed(strategy, record, f"the accuracy became {value} in epoch 2")
    assert record.curve == [0.5]


def test_a_nan_in_the_middle_of_a_curve_fails_the_trial_and_is_named(strategy):
    record = strategy.ask()
    assert strategy.report(0, [math.nan, 0.5]) is Decision.STOP
    assert_failed(strategy, record, "the accuracy became nan in epoch 1")


@pytest.mark.parametrize("curve", [[], [0.5]])
def test_a_trial_that_ends_early_has_failed(strategy, curve):
    record = strategy.ask()
    strategy.report(0, curve)
    strategy.complete(0)
    assert_failed(strategy, record, f"ended after {len(curve)} of 2 epochs")


def test_a_failed_trial_is_not_tried_again(strategy):
    record = strategy.ask()
    strategy.fail(0, "the worker died")
    assert_failed(strategy, record, "the worker died")
    assert record.candidate.id not in ids(run(strategy))


def test_the_first_reason_of_a_failure_stays(strategy):
    record = strategy.ask()
    strategy.fail(0, "first")
    strategy.fail(0, "second")
    assert_failed(strategy, record, "first")


def test_a_failure_after_the_end_changes_nothing(strategy):
    record = strategy.ask()
    finish(strategy, record)
    before = copy.deepcopy(record)
    strategy.fail(0, "the worker died")
    assert record == before
    assert told(strategy)[OptunaState.COMPLETE] == results([record])


def test_a_failed_trial_that_reports_all_its_epochs_stays_without_a_result(strategy):
    record = strategy.ask()
    strategy.fail(0, "the worker died")
    strategy.report(0, [0.5, 0.9])
    strategy.complete(0)
    assert_failed(strategy, record, "the worker died")


def test_a_trial_that_failed_after_its_last_epoch_stays_without_a_result(strategy):
    record = strategy.ask()
    strategy.report(0, [0.5, 0.9])
    strategy.fail(0, "the worker died")
    strategy.complete(0)
    assert_failed(strategy, record, "the worker died")


def test_a_report_after_the_end_changes_nothing(strategy):
    record = strategy.ask()
    finish(strategy, record)
    before = copy.deepcopy(record)
    strategy.report(0, [0.1, 0.999], seconds=9.0)
    assert record == before


def test_completing_twice_is_completing_once(strategy):
    record = strategy.ask()
    finish(strategy, record)
    strategy.complete(0)
    assert told(strategy)[OptunaState.COMPLETE] == results([record])
