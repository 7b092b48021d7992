"""What is handed out, what the sampler learns, and that nothing is trained twice."""

import optuna
import pytest
from optuna.trial import TrialState as OptunaState
from strategy_runs import accuracy, finish, ids, results, run, samplers, told

from mgnas.errors import ConfigError
from mgnas.search.samplers.factory import make_sampler
from mgnas.search.strategy.strategy import Strategy
from mgnas.search.trial_record import TrialState

ignore_experimental = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def always(values):
    """A sampler that proposes the same point every time."""
    return optuna.samplers.PartialFixedSampler(values, optuna.samplers.RandomSampler(seed=0))


# --------------------------------------------------------------------------------------------------- what is handed out


@samplers
def test_a_small_space_is_exhausted_and_nothing_comes_twice(small_space, sampler):
    strategy = Strategy(small_space, make_sampler(sampler, 0, small_space), n_trials=1000)
    records = run(strategy)
    assert sorted(ids(records)) == sorted(candidate.id for candidate in small_space.enumerate())
    assert len(records) == 17
    assert strategy.exhausted
    assert strategy.ask() is None
    assert told(strategy)[OptunaState.RUNNING] == []
    assert sorted(told(strategy)[OptunaState.COMPLETE]) == results(records)


@samplers
def test_every_candidate_is_valid_and_within_the_limits(small_space, sampler):
    for record in run(Strategy(small_space, make_sampler(sampler, 1, small_space), n_trials=12)):
        assert small_space.candidate(record.candidate.params) == record.candidate
        assert record.weights <= 1500


@samplers
def test_a_search_ends_at_its_trials(wide_space, sampler):
    strategy = Strategy(wide_space, make_sampler(sampler, 0, wide_space), n_trials=13, seed=100)
    records = run(strategy)
    assert [record.number for record in records] == list(range(13))
    assert [record.seed for record in records] == list(range(100, 113))
    assert strategy.records == records
    assert not strategy.exhausted


@samplers
def test_trials_that_run_at_the_same_time_differ(small_space, sampler):
    strategy = Strategy(small_space, make_sampler(sampler, 0, small_space), n_trials=1000)
    records = [strategy.ask() for _ in range(17)]
    assert len(set(ids(records))) == 17
    assert strategy.ask() is None
    assert {record.state for record in records} == {TrialState.RUNNING}
    for record in reversed(records):
        finish(strategy, record)
    assert told(strategy)[OptunaState.RUNNING] == []
    assert sorted(told(strategy)[OptunaState.COMPLETE]) == results(records)


@samplers
def test_one_worker_and_a_seed_give_the_same_search(wide_space, sampler):
    first, again = (Strategy(wide_space, make_sampler(sampler, 5, wide_space), n_trials=14, seed=5) for _ in range(2))
    other = Strategy(wide_space, make_sampler(sampler, 6, wide_space), n_trials=14, seed=6)
    found = ids(run(first))
    assert found == ids(run(again))
    assert found != ids(run(other))


@samplers
def test_a_continuous_setting_is_searched(make_space, sampler):
    parameters = {"learning_rate": {"low": 0.01, "high": 0.1, "log": True}, "smoothing_steps": [1, 2]}
    space = make_space(parameters, fixed={"family": "mgnet", "base_channels": [4]})
    records = run(Strategy(space, make_sampler(sampler, 0, space), n_trials=13))
    assert len(set(ids(records))) == 13
    rates = [record.candidate.training.learning_rate for record in records]
    assert all(0.01 <= rate <= 0.1 for rate in rates)
    assert len(set(rates)) > 8


@ignore_experimental
def test_a_proposal_seen_before_is_replaced_by_a_neighbour(wide_space):
    centre = {"base_channels": "8-8", "channel_scaling": 4, "smoothing_steps": 5, "sharing": "AB"}
    near = {
        "base_channels": ("4-16", "8-16"),
        "channel_scaling": (3, 5),
        "smoothing_steps": (4, 6),
        "sharing": ("A", "none"),
    }
    first, *others = run(Strategy(wide_space, always(centre), n_trials=9))
    assert first.candidate.params == centre
    for record in others:
        changed = [(name, label) for name, label in record.candidate.params.items() if label != centre[name]]
        assert len(changed) == 1
        assert changed[0][1] in near[changed[0][0]]


@ignore_experimental
def test_a_sampler_that_repeats_itself_still_exhausts_the_space(small_space):
    point = next(small_space.enumerate()).params
    assert len(run(Strategy(small_space, always(point), n_trials=1000))) == 17


@ignore_experimental
def test_an_invalid_proposal_is_replaced(small_space):
    # 4 channels a group do not divide 6.
    invalid = {"family": "mgiad", "base_channels": "6", "smoothing_steps": 1, "sharing": "A", "group_size": 4}
    (record,) = run(Strategy(small_space, always(invalid), n_trials=1))
    assert small_space.candidate(record.candidate.params) == record.candidate


# ---------------------------------------------------------------------------------------------- what the sampler learns


def test_the_objectives_are_accuracy_up_and_weights_down(small_space):
    study = Strategy(small_space, make_sampler("tpe", 0, small_space), n_trials=1)._study
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize(("sampler", "start"), [("tpe", 10), ("gp", 10), ("nsga2", 20)])
def test_results_steer_the_proposals_after_the_random_start(wide_space, sampler, start):
    def search(sign: int) -> list[str]:
        strategy = Strategy(wide_space, make_sampler(sampler, 0, wide_space), n_trials=start + 4)
        while (record := strategy.ask()) is not None:
            strategy.report(record.number, [0.5, 0.5 + sign * accuracy(record) / 2])
            strategy.complete(record.number)
        return ids(strategy.records)

    up, down = search(1), search(-1)
    assert up[:start] == down[:start]
    assert up[start:] != down[start:]


def test_results_do_not_steer_the_random_sampler(wide_space):
    trained = Strategy(wide_space, make_sampler("random", 0, wide_space), n_trials=30)
    failing = Strategy(wide_space, make_sampler("random", 0, wide_space), n_trials=30)
    run(trained)
    while (record := failing.ask()) is not None:
        failing.fail(record.number, "no reason")
    assert ids(trained.records) == ids(failing.records)


def test_replaced_proposals_count_in_the_generations_of_nsga2(make_space):
    space = make_space({"smoothing_steps": {"low": 1, "high": 70}}, fixed={"family": "mgnet", "base_channels": [4]})
    sampler = make_sampler("nsga2", 0)
    strategy = Strategy(space, sampler, n_trials=60)
    run(strategy)
    trials = strategy._study.get_trials()
    complete = [trial for trial in trials if trial.state is OptunaState.COMPLETE]
    assert len(trials) > 80  # many proposals were replaced
    # One worker, 20 a generation.
    generations = [sampler.get_trial_generation(strategy._study, trial) for trial in complete]
    assert generations == [0] * 20 + [1] * 20 + [2] * 20


@samplers
def test_failed_and_half_trained_trials_have_no_result(wide_space, sampler):
    strategy = Strategy(wide_space, make_sampler(sampler, 0, wide_space), n_trials=12)
    records = [strategy.ask() for _ in range(4)]
    finish(strategy, records[0])
    strategy.report(records[1].number, [0.9, 0.9])
    strategy.fail(records[1].number, "the worker died")
    strategy.report(records[2].number, [0.8])
    assert [record.state for record in records] == [
        TrialState.COMPLETE,
        TrialState.FAILED,
        TrialState.RUNNING,
        TrialState.RUNNING,
    ]
    assert [record.accuracy for record in records] == [accuracy(records[0]), None, None, None]
    assert told(strategy)[OptunaState.COMPLETE] == results(records)
    assert len(told(strategy)[OptunaState.RUNNING]) == 2


# --------------------------------------------------------------------------------------------- what the user wants next

WANTED = {"family": "mgiad", "base_channels": [4], "smoothing_steps": 2, "sharing": "A", "group_size": 4}


@samplers
def test_wanted_parameters_are_handed_out_next(small_space, sampler):
    strategy = Strategy(small_space, make_sampler(sampler, 0, small_space), n_trials=1000)
    first, wanted = strategy.ask(), strategy.ask_for(WANTED)
    assert wanted is not None
    assert wanted.candidate.params == WANTED | {"base_channels": "4"}
    assert (wanted.number, wanted.seed, strategy.records) == (1, 1, [first, wanted])
    for record in (first, wanted):
        finish(strategy, record)
    run(strategy)
    assert len(set(ids(strategy.records))) == len(strategy.records) == 17
    assert sorted(told(strategy)[OptunaState.COMPLETE]) == results(strategy.records)


@samplers
def test_the_sampler_chooses_what_is_not_named(small_space, sampler):
    strategy = Strategy(small_space, make_sampler(sampler, 0, small_space), n_trials=1000)
    for _ in range(2):
        record = strategy.ask_for({"sharing": "A", "family": "mgnet"})
        assert (record.candidate.params["sharing"], record.candidate.params["family"]) == ("A", "mgnet")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sharing": "B"}, "sharing: expected one of A, AB, got 'B'"),
        ({"smoothing_steps": 3}, "smoothing_steps: expected one of 1, 2, got 3"),
        ({"smoothing_steps": True}, "smoothing_steps: expected one of 1, 2, got True"),
        ({"smoothing_step": 1}, "smoothing_step: unknown key; did you mean smoothing_steps?"),
        ({"fully_coupled_channels": 2}, "fully_coupled_channels: is fixed to 2 in this space; drop it here"),
        ({"base_channels": {"a": 1}}, "base_channels: a choice is a number, a word or a list of numbers"),
        ({}, "expected a mapping of parameters, got {}"),
        ([4], "expected a mapping of parameters, got [4]"),
        (None, "expected a mapping of parameters, got None"),
        (WANTED | {"group_size": 3}, "group_size: 3 does not divide"),
        (WANTED | {"base_channels": "6", "group_size": 4}, "group_size: 4 does not divide"),
    ],
)
def test_wanted_parameters_that_cannot_be_trained_are_refused_and_change_nothing(small_space, refusal, params, message):
    strategy = Strategy(small_space, make_sampler("random", 0), n_trials=1000)
    assert refusal(lambda: strategy.ask_for(params)).startswith(message)
    assert strategy.records == []
    assert len(run(strategy)) == 17


def test_a_wanted_network_that_was_trained_is_refused_by_its_number(small_space, refusal):
    strategy = Strategy(small_space, make_sampler("random", 0), n_trials=1000)
    strategy.ask()
    strategy.ask_for(WANTED)
    assert refusal(lambda: strategy.ask_for(WANTED)) == "is the network of trial 1 already"


def test_no_more_wanted_trials_than_the_search_has_and_interrupted_ones_first(small_space):
    strategy = Strategy(small_space, make_sampler("random", 0), n_trials=2)
    record = strategy.ask()
    resumed = Strategy(small_space, make_sampler("random", 0), n_trials=2, records=[record])
    assert resumed.ask_for(WANTED) is None
    assert resumed.ask() is record
    assert resumed.ask_for(WANTED).number == 1
    assert resumed.ask_for(WANTED | {"sharing": "AB"}) is None


def test_a_part_of_the_space_may_be_exhausted_while_the_rest_is_not(small_space):
    strategy = Strategy(small_space, make_sampler("random", 0), n_trials=1000)
    for _ in range(sum(candidate.params["family"] == "mgiad" for candidate in small_space.enumerate())):
        strategy.ask_for({"family": "mgiad"})
    with pytest.raises(ConfigError, match="leave no valid network that is new"):
        strategy.ask_for({"family": "mgiad"})
    assert not strategy.exhausted
    run(strategy)
    assert len(strategy.records) == 17
