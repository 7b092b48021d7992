"""Pausing within a search: what is handed out again, what counts, and what a sampler is told meanwhile."""

import optuna
import pytest

from mgnas.search.optuna_schema import PREDICTION, REPEAT
from mgnas.search.samplers.factory import make_sampler
from mgnas.search.strategy.learning_curves import Prediction
from mgnas.search.strategy.pausing import PausingRule
from mgnas.search.strategy.strategy import Decision, Strategy
from mgnas.search.trial_record import TrialState


class Pauses(PausingRule):
    """Pauses the trials of some numbers after their first epoch, until it is told to let one go."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = set(numbers)
        self.let_go: set[int] = set()
        self.ended: list[int] = []

    def complete(self, record):
        self.ended.append(record.number)

    def curve_likelihood(self, record):
        return Prediction(0.0, 0.1) if record.curve else None

    def pause(self, record, records):
        return "told to" if record.number in self.numbers and len(record.curve) == 1 else None

    def resume(self, records, last, spare):
        for record in records:
            if record.state is TrialState.PAUSED and (record.number in self.let_go or last):
                return record, "at the end" if last else "let go"
        return None


@pytest.fixture
def strategy_with(wide_space):
    """rule, trials -> a strategy of random candidates with two epochs each."""

    def make(rule, trials: int = 4, records=()) -> Strategy:
        return Strategy(wide_space, make_sampler("random", 0, wide_space), trials, 0, records, rule)

    return make


def train(strategy, record) -> Decision:
    for epoch in range(len(record.curve), 2):
        decision = strategy.report(record.number, [0.5, 0.6][: epoch + 1])
        if decision is not Decision.CONTINUE:
            return decision
    strategy.complete(record.number)
    return Decision.STOP


def test_a_paused_trial_is_not_complete_and_goes_on_behind_its_curve(strategy_with):
    rule = Pauses(0)
    strategy = strategy_with(rule)
    first = strategy.ask()
    assert train(strategy, first) is Decision.PAUSE
    assert (first.state, first.accuracy, first.curve) == (TrialState.PAUSED, None, [0.5])
    assert first.decisions == ["epoch 1: paused, told to"]
    assert strategy.ask() is not first
    rule.let_go.add(0)
    assert strategy.ask() is first
    assert first.state is TrialState.RUNNING
    assert first.decisions[-1] == "epoch 1: resumed, let go"
    train(strategy, first)
    assert (first.state, first.accuracy, first.reason) == (TrialState.COMPLETE, 0.6, "")
    assert rule.ended == [0]


def test_at_the_end_paused_trials_are_handed_out_once_more(strategy_with):
    strategy = strategy_with(Pauses(0, 1), trials=3)
    records = [strategy.ask() for _ in range(3)]
    for record in records[:2]:
        train(strategy, record)
    assert not strategy.finished, "two rest and one runs"
    assert [strategy.ask(), strategy.ask()] == records[:2]
    assert strategy.ask() is None
    assert not strategy.finished, "a running one may still pause"
    for record in records:
        train(strategy, record)
    assert strategy.finished
    assert all(record.state is TrialState.COMPLETE for record in strategy.records)


def test_a_pause_in_the_last_epoch_makes_no_sense(strategy_with):
    class Always(Pauses):
        def pause(self, record, records):
            return "always"

    strategy = strategy_with(Always())
    record = strategy.ask()
    assert strategy.report(record.number, [0.5, 0.6]) is Decision.CONTINUE


def test_without_a_rule_the_search_is_finished_when_all_are_handed_out(strategy_with):
    strategy = strategy_with(None, trials=1)
    assert not strategy.finished
    strategy.ask()
    assert strategy.finished


def test_the_sampler_learns_what_is_expected_of_unfinished_trials(strategy_with):
    strategy = strategy_with(Pauses(0))
    first = strategy.ask()
    train(strategy, first)
    strategy.ask()
    trials = strategy._study.get_trials()
    told = [trial for trial in trials if PREDICTION in trial.system_attrs]
    expected = Prediction(0.0, 0.1)
    assert [trial.system_attrs[PREDICTION] for trial in told] == [[expected.mean, expected.std]]
    assert told[0].state is optuna.trial.TrialState.RUNNING
    assert told[0].params == first.candidate.params


def test_a_resumed_search_keeps_who_rests(strategy_with):
    strategy = strategy_with(Pauses(0))
    done, paused = strategy.ask(), None
    train(strategy, done)
    strategy.records[0].decisions.append("epoch 1: for the sake of it")
    again = Pauses()
    later = strategy_with(again, records=strategy.records)
    paused = later.records[0]
    assert paused.state is TrialState.PAUSED
    assert later.ask().number == 1
    again.let_go.add(0)
    assert later.ask() is paused


def test_a_sampler_may_ask_for_a_repetition_and_only_it(wide_space):
    """The same point every time: without the mark it is replaced by a new one, with it it is trained again."""
    point = {"base_channels": "8-16", "channel_scaling": 1, "smoothing_steps": 2, "sharing": "AB"}

    marks = iter([False, False, True])

    class Repeats(optuna.samplers.RandomSampler):
        def infer_relative_search_space(self, study, trial):
            if next(marks):
                study._storage.set_trial_system_attr(trial._trial_id, REPEAT, True)
            return {}

        def sample_independent(self, study, trial, name, distribution):
            return point[name]

    strategy = Strategy(wide_space, Repeats(), 10)
    first, other, again = records = [strategy.ask() for _ in range(3)]
    for record in records:
        strategy.report(record.number, [0.5, 0.5])
        strategy.complete(record.number)
    assert first.candidate.params == again.candidate.params == point
    assert other.candidate.id != first.candidate.id
    assert len({record.seed for record in records}) == 3
    complete = [trial for trial in strategy._study.get_trials() if trial.state is optuna.trial.TrialState.COMPLETE]
    assert [trial.params == point for trial in complete] == [True, False, True]
