"""Pausing within a search: what is handed out again, what counts, and what a sampler is told meanwhile."""

import optuna
import pytest

from mgnas.search.samplers.factory import make_sampler
from mgnas.search.samplers.model_based import ModelBasedSampler
from mgnas.search.strategy.learning_curves import Prediction
from mgnas.search.strategy.pausing import PausingRule
from mgnas.search.strategy.strategy import Decision, Strategy
from mgnas.search.trial_record import GaussianPrediction, TrialState


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


def test_a_paused_trial_is_not_complete_and_goes_on_after_its_curve(strategy_with):
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
    assert not strategy.finished, "two are paused and one runs"
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


class Modelling(optuna.samplers.RandomSampler, ModelBasedSampler):
    """Notes what it is told before each ask, and expects the number of the proposal."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.told: list[dict[int, GaussianPrediction]] = []

    def set_predictions(self, study, predictions):
        self.told.append(dict(predictions))

    def expectation(self, study, number):
        return GaussianPrediction(float(number), 1.0)


def test_a_sampler_with_a_model_is_told_what_the_curves_of_unfinished_trials_predict(wide_space):
    sampler, rule = Modelling(), Pauses(0)
    strategy = Strategy(wide_space, sampler, 4, pausing_rule=rule)
    paused, running = strategy.ask(), strategy.ask()
    train(strategy, paused)
    strategy.report(running.number, [0.5])
    strategy.ask()
    assert sampler.told[:2] == [{}, {}], "nothing is known before the first epoch"
    said = GaussianPrediction(Prediction(0.0, 0.1).mean, Prediction(0.0, 0.1).std)
    assert sampler.told[2] == {0: said, 1: said}
    strategy.report(running.number, [0.5, 0.6])
    strategy.complete(running.number)
    strategy.ask()
    assert sampler.told[3] == {0: said}


def test_a_curve_that_says_nothing_any_more_leaves_what_it_said_before(wide_space):
    sampler, rule = Modelling(), Pauses()
    strategy = Strategy(wide_space, sampler, 4, pausing_rule=rule)
    strategy.report(strategy.ask().number, [0.5])
    strategy.ask()
    rule.curve_likelihood = lambda record: None
    strategy.ask()
    assert sampler.told[1] == sampler.told[2] != {}


def test_predictions_go_by_the_numbers_of_the_samplers_study(small_space):
    """Every proposal after the first is replaced, which leaves a failed trial in that study."""

    class SamePoint(Modelling):
        def sample_independent(self, study, trial, name, distribution):
            return point[name]

    point = next(small_space.enumerate()).params
    sampler = SamePoint()
    strategy = Strategy(small_space, sampler, 4, pausing_rule=Pauses())
    records = [strategy.ask() for _ in range(2)]
    for record in records:
        strategy.report(record.number, [0.5])
    strategy.ask()
    trials = strategy._study.get_trials()
    assert [trials[number].params for number in sampler.told[-1]] == [record.candidate.params for record in records]
    assert [record.expected.mean for record in strategy.records] == [0, 1, 3], "of the proposal, not of its stand-in"


def test_a_plain_sampler_is_told_nothing(strategy_with):
    strategy = strategy_with(Pauses(0))
    first = strategy.ask()
    train(strategy, first)
    assert strategy.ask().expected is None
    assert all(not trial.system_attrs for trial in strategy._study.get_trials())


def test_a_resumed_search_keeps_its_paused_trials(strategy_with):
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
