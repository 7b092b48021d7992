"""What is handed out, what the sampler learns, and that nothing is trained twice."""

import copy
import math

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState as OptunaState

from mgnas.search.samplers.factory import SAMPLERS, make_sampler
from mgnas.search.strategy.strategy import Decision, Strategy
from mgnas.search.trial_record import TrialState

# NOTE: The Gaussian process takes a tenth of a second for a proposal, behind its ten random ones.
samplers = pytest.mark.parametrize("sampler", SAMPLERS)
ignore_experimental = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
quick_samplers = pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])


def accuracy(record) -> float:
    """Some number in [0, 1) that is the same for the same network."""
    return record.weights % 97 / 97


def finish(strategy, record) -> None:
    strategy.report(record.number, [accuracy(record) / 2, accuracy(record)])
    strategy.complete(record.number)


def run(strategy, most: int = 10_000) -> list:
    """Ask and complete, one after the other, until there is no more; the records in order."""
    records = []
    while len(records) < most and (record := strategy.ask()) is not None:
        finish(strategy, record)
        records.append(record)
    return records


def ids(records) -> list[str]:
    return [record.candidate.id for record in records]


def told(strategy) -> dict[OptunaState, list]:
    """What the sampler's own study holds: state -> the values of its trials."""
    states = {state: [] for state in OptunaState}
    for trial in strategy._study.get_trials():
        states[trial.state].append(tuple(trial.values or ()))
    return states


def results(records) -> list[tuple[float, float]]:
    complete = [record for record in records if record.state is TrialState.COMPLETE]
    return sorted((record.accuracy, float(record.weights)) for record in complete)


def always(values):
    """A sampler that proposes the same point every time."""
    return optuna.samplers.PartialFixedSampler(values, optuna.samplers.RandomSampler(seed=0))


# --------------------------------------------------------------------------------------------------- what is handed out


@samplers
def test_a_small_space_is_exhausted_and_nothing_comes_twice(small_space, sampler):
    strategy = Strategy(small_space, make_sampler(sampler, 0, small_space), trials=1000)
    records = run(strategy)
    assert sorted(ids(records)) == sorted(candidate.id for candidate in small_space.enumerate())
    assert len(records) == 17
    assert strategy.exhausted
    assert strategy.ask() is None
    assert told(strategy)[OptunaState.RUNNING] == []
    assert sorted(told(strategy)[OptunaState.COMPLETE]) == results(records)


@samplers
def test_every_candidate_is_valid_and_within_the_limits(small_space, sampler):
    for record in run(Strategy(small_space, make_sampler(sampler, 1, small_space), trials=12)):
        assert small_space.candidate(record.candidate.params) == record.candidate
        assert record.weights <= 1500


@samplers
def test_a_search_ends_at_its_trials(wide_space, sampler):
    strategy = Strategy(wide_space, make_sampler(sampler, 0, wide_space), trials=13, seed=100)
    records = run(strategy)
    assert [record.number for record in records] == list(range(13))
    assert [record.seed for record in records] == list(range(100, 113))
    assert strategy.records == records
    assert not strategy.exhausted


@samplers
def test_trials_that_run_at_the_same_time_differ(small_space, sampler):
    strategy = Strategy(small_space, make_sampler(sampler, 0, small_space), trials=1000)
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
    first, again = (Strategy(wide_space, make_sampler(sampler, 5, wide_space), trials=14, seed=5) for _ in range(2))
    other = Strategy(wide_space, make_sampler(sampler, 6, wide_space), trials=14, seed=6)
    found = ids(run(first))
    assert found == ids(run(again))
    assert found != ids(run(other))


@samplers
def test_a_continuous_setting_is_searched(make_space, sampler):
    parameters = {"learning_rate": {"low": 0.01, "high": 0.1, "log": True}, "smoothing_steps": [1, 2]}
    space = make_space(parameters, fixed={"family": "mgnet", "base_channels": [4]})
    records = run(Strategy(space, make_sampler(sampler, 0, space), trials=13))
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
    first, *others = run(Strategy(wide_space, always(centre), trials=9))
    assert first.candidate.params == centre
    for record in others:
        changed = [(name, label) for name, label in record.candidate.params.items() if label != centre[name]]
        assert len(changed) == 1
        assert changed[0][1] in near[changed[0][0]]


@ignore_experimental
def test_a_sampler_that_repeats_itself_still_exhausts_the_space(small_space):
    point = next(small_space.enumerate()).params
    assert len(run(Strategy(small_space, always(point), trials=1000))) == 17


@ignore_experimental
def test_an_invalid_proposal_is_replaced(small_space):
    # 4 channels a group do not divide 6.
    invalid = {"family": "mgiad", "base_channels": "6", "smoothing_steps": 1, "sharing": "A", "group_size": 4}
    (record,) = run(Strategy(small_space, always(invalid), trials=1))
    assert small_space.candidate(record.candidate.params) == record.candidate


# ---------------------------------------------------------------------------------------------- what the sampler learns


def test_the_objectives_are_accuracy_up_and_weights_down(small_space):
    study = Strategy(small_space, make_sampler("tpe", 0, small_space), trials=1)._study
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize(("sampler", "start"), [("tpe", 10), ("gp", 10), ("nsga2", 20)])
def test_results_steer_the_proposals_behind_the_random_start(wide_space, sampler, start):
    def search(sign: int) -> list[str]:
        strategy = Strategy(wide_space, make_sampler(sampler, 0, wide_space), trials=start + 4)
        while (record := strategy.ask()) is not None:
            strategy.report(record.number, [0.5, 0.5 + sign * accuracy(record) / 2])
            strategy.complete(record.number)
        return ids(strategy.records)

    up, down = search(1), search(-1)
    assert up[:start] == down[:start]
    assert up[start:] != down[start:]


def test_results_do_not_steer_the_random_sampler(wide_space):
    trained = Strategy(wide_space, make_sampler("random", 0, wide_space), trials=30)
    failing = Strategy(wide_space, make_sampler("random", 0, wide_space), trials=30)
    run(trained)
    while (record := failing.ask()) is not None:
        failing.fail(record.number, "no reason")
    assert ids(trained.records) == ids(failing.records)


def test_replaced_proposals_count_in_the_generations_of_nsga2(make_space):
    space = make_space({"smoothing_steps": {"low": 1, "high": 70}}, fixed={"family": "mgnet", "base_channels": [4]})
    sampler = make_sampler("nsga2", 0)
    strategy = Strategy(space, sampler, trials=60)
    run(strategy)
    trials = strategy._study.get_trials()
    complete = [trial for trial in trials if trial.state is OptunaState.COMPLETE]
    assert len(trials) > 80  # many proposals were replaced
    # One worker, 20 a generation.
    generations = [sampler.get_trial_generation(strategy._study, trial) for trial in complete]
    assert generations == [0] * 20 + [1] * 20 + [2] * 20


@samplers
def test_failed_and_half_trained_trials_have_no_result(wide_space, sampler):
    strategy = Strategy(wide_space, make_sampler(sampler, 0, wide_space), trials=12)
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


# ------------------------------------------------------------------------------------------------------- how trials end


@pytest.fixture
def strategy(wide_space):
    return Strategy(wide_space, make_sampler("random", 0, wide_space), trials=20)


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


def test_a_trial_that_failed_behind_its_last_epoch_stays_without_a_result(strategy):
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


# --------------------------------------------------------------------------------------------------------------- resume


def interrupted(space, sampler: str, trials: int = 15) -> list:
    """The records of a search that was cut short: 0 and 3 complete, 1 failed, 2, 4 and 5 running."""
    strategy = Strategy(space, make_sampler(sampler, 0, space), trials=trials, seed=40)
    records = [strategy.ask() for _ in range(6)]
    finish(strategy, records[0])
    strategy.fail(records[1].number, "the worker died")
    strategy.report(records[2].number, [0.3], seconds=2.0)
    finish(strategy, records[3])
    return copy.deepcopy(records)


@samplers
def test_a_resumed_search_goes_on_with_its_running_trials_and_then_new_ones(wide_space, sampler):
    before = interrupted(wide_space, sampler)
    strategy = Strategy(
        wide_space, make_sampler(sampler, 0, wide_space), trials=15, seed=40, records=copy.deepcopy(before)
    )
    assert strategy.records == before
    again = [strategy.ask() for _ in range(3)]
    assert again == [before[2], before[4], before[5]]
    for record in again:
        finish(strategy, record)
    new = run(strategy)
    assert [record.number for record in new] == list(range(6, 15))
    assert [record.seed for record in new] == list(range(46, 55))
    assert len(set(ids(strategy.records))) == 15
    assert sorted(told(strategy)[OptunaState.COMPLETE]) == results(strategy.records)
    assert told(strategy)[OptunaState.RUNNING] == []


@samplers
def test_a_resumed_search_exhausts_what_is_left(small_space, sampler):
    before = interrupted(small_space, sampler)
    strategy = Strategy(small_space, make_sampler(sampler, 0, small_space), trials=1000, records=before)
    run(strategy)
    assert sorted(ids(strategy.records)) == sorted(candidate.id for candidate in small_space.enumerate())


@quick_samplers
def test_a_resumed_search_with_fewer_trials_ends_behind_the_running_ones(wide_space, sampler):
    strategy = Strategy(
        wide_space, make_sampler(sampler, 0, wide_space), trials=4, seed=40, records=interrupted(wide_space, sampler)
    )
    assert [record.number for record in run(strategy)] == [2, 4, 5]
    assert not strategy.exhausted


def test_a_finished_search_asks_for_nothing_when_resumed(wide_space):
    first = Strategy(wide_space, make_sampler("tpe", 0, wide_space), trials=12)
    run(first)
    assert Strategy(wide_space, make_sampler("tpe", 0, wide_space), trials=12, records=first.records).ask() is None


def test_a_resumed_search_learns_from_its_first_part(wide_space):
    first = Strategy(wide_space, make_sampler("tpe", 0, wide_space), trials=12)
    run(first)
    worse = copy.deepcopy(first.records)
    for record in worse:
        record.curve = [0.5, 1 - record.curve[-1]]
    up, down = (
        ids(run(Strategy(wide_space, make_sampler("tpe", 1, wide_space), trials=18, records=records)))
        for records in (first.records, worse)
    )
    assert up != down


# -------------------------------------------------------------------------------------------------- any order of events

events = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "report", "complete", "complete", "fail", "nan", "restart"]),
        st.integers(0, 20),
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(
    sampler=st.sampled_from([name for name in SAMPLERS if name != "gp"]),
    seed=st.integers(0, 1000),
    trials=st.integers(1, 20),
    events=events,
)
def test_any_order_of_events_keeps_the_books(small_space, sampler, seed, trials, events):
    everything = {candidate.id for candidate in small_space.enumerate()}
    strategy = Strategy(small_space, make_sampler(sampler, seed, small_space), trials, seed)
    held: list[int] = []  # trials that a worker has
    waiting: list[int] = []  # trials whose worker a restart has taken away
    expected: list[tuple[str, TrialState, list[float]]] = []

    for event, choice in events:
        chosen = held[choice % len(held)] if held else None
        if event == "ask":
            record = strategy.ask()
            if waiting:
                assert record.number == waiting.pop(0)
                assert record.candidate.id == expected[record.number][0]
            elif len(expected) >= min(trials, len(everything)):
                assert record is None
                continue
            else:
                assert record.number == len(expected)
                assert record.candidate.id in everything - {candidate for candidate, _, _ in expected}
                expected.append((record.candidate.id, TrialState.RUNNING, []))
            assert record.seed == seed + record.number
            held.append(record.number)
        elif event == "restart":
            waiting = sorted(waiting + held)
            held = []
            records = copy.deepcopy(strategy.records)
            strategy = Strategy(small_space, make_sampler(sampler, seed, small_space), trials, seed, records)
        elif chosen is not None:
            candidate, _, curve = expected[chosen]
            if event == "report" and len(curve) < 2:
                curve = [*curve, choice / 20]
                assert strategy.report(chosen, curve) is Decision.CONTINUE
                expected[chosen] = (candidate, TrialState.RUNNING, curve)
                continue
            if event == "complete":
                strategy.complete(chosen)
            elif event == "fail":
                strategy.fail(chosen, "the worker died")
            elif event == "nan":
                assert strategy.report(chosen, [*curve, math.nan]) is Decision.STOP
            else:
                continue
            ended = TrialState.COMPLETE if event == "complete" and len(curve) == 2 else TrialState.FAILED
            expected[chosen] = (candidate, ended, curve)
            held.remove(chosen)

        found = [(record.candidate.id, record.state, record.curve) for record in strategy.records]
        assert found == expected
        for record in strategy.records:
            assert record.accuracy == (record.curve[1] if record.state is TrialState.COMPLETE else None)
        states = told(strategy)
        assert sorted(states[OptunaState.COMPLETE]) == results(strategy.records)
        assert len(states[OptunaState.RUNNING]) == len(held) + len(waiting)
