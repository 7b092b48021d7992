"""Searches that are resumed, and any order of events."""

import copy
import math

from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState as OptunaState
from strategy_runs import finish, ids, quick_samplers, results, run, samplers, told

from mgnas.search.samplers.factory import SAMPLERS, make_sampler
from mgnas.search.strategy.strategy import Decision, Strategy
from mgnas.search.trial_record import TrialState


def interrupted(space, sampler: str, n_trials: int = 15) -> list:
    """The records of a search that was cut short: 0 and 3 complete, 1 failed, 2, 4 and 5 running."""
    strategy = Strategy(space, make_sampler(sampler, 0, space), n_trials=n_trials, seed=40)
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
        wide_space, make_sampler(sampler, 0, wide_space), n_trials=15, seed=40, records=copy.deepcopy(before)
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
    strategy = Strategy(small_space, make_sampler(sampler, 0, small_space), n_trials=1000, records=before)
    run(strategy)
    assert sorted(ids(strategy.records)) == sorted(candidate.id for candidate in small_space.enumerate())


@quick_samplers
def test_a_resumed_search_with_fewer_trials_ends_after_the_running_ones(wide_space, sampler):
    strategy = Strategy(
        wide_space, make_sampler(sampler, 0, wide_space), n_trials=4, seed=40, records=interrupted(wide_space, sampler)
    )
    assert [record.number for record in run(strategy)] == [2, 4, 5]
    assert not strategy.exhausted


def test_a_finished_search_asks_for_nothing_when_resumed(wide_space):
    first = Strategy(wide_space, make_sampler("tpe", 0, wide_space), n_trials=12)
    run(first)
    assert Strategy(wide_space, make_sampler("tpe", 0, wide_space), n_trials=12, records=first.records).ask() is None


def test_a_resumed_search_learns_from_its_first_part(wide_space):
    first = Strategy(wide_space, make_sampler("tpe", 0, wide_space), n_trials=12)
    run(first)
    worse = copy.deepcopy(first.records)
    for record in worse:
        record.curve = [0.5, 1 - record.curve[-1]]
    up, down = (
        ids(run(Strategy(wide_space, make_sampler("tpe", 1, wide_space), n_trials=18, records=records)))
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
    n_trials=st.integers(1, 20),
    events=events,
)
def test_any_order_of_events_keeps_the_books(small_space, sampler, seed, n_trials, events):
    everything = {candidate.id for candidate in small_space.enumerate()}
    strategy = Strategy(small_space, make_sampler(sampler, seed, small_space), n_trials, seed)
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
            elif len(expected) >= min(n_trials, len(everything)):
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
            strategy = Strategy(small_space, make_sampler(sampler, seed, small_space), n_trials, seed, records)
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
