"""Replays of many searches in processes of their own, and strategies by name."""

import pytest
from toy_table import META, all_trained_but_two, strategy, trained

from mgnas.errors import UserError
from mgnas.search.history.table import TabularBenchmark
from mgnas.search.simulation.replay_pool import STRATEGIES, ReplayOptions, ReplayPool, find_strategies, replay_all
from mgnas.search.simulation.simulator import simulate


def test_unknown_strategies_are_refused_with_the_known_ones(refusal):
    message = refusal(lambda: find_strategies(["random", "clever"]))
    assert "'clever'" in message
    assert "random, tpe, nsga2" in message
    assert list(find_strategies(["tpe", "random"])) == ["tpe", "random"]


def test_pausing_loses_no_trial_if_the_whole_table_may_be_trained():
    table = TabularBenchmark(META, tuple(trained(n, 0.3 + n / 40) for n in range(20)))
    replay = simulate(table, STRATEGIES["ehvi+pausing"](table, table.space(), 0))
    assert {completion.architecture for completion in replay.completions} == set(table.by_id)
    assert (replay.trials, replay.paused) == (20, 0)


def test_a_pool_gives_what_one_process_gives():
    """Of two tables and two strategies; numbers in the pool's processes may not depend on how many there are."""
    wide = TabularBenchmark(META, tuple(trained(n, 0.3 + n / 40) for n in range(20)))
    small = TabularBenchmark(META, (trained(0, 0.3), trained(4, 0.6, 0), trained(4, 0.9, 1)))
    finished = []
    found = replay_all(
        [wide, small],
        find_strategies(["tpe", "random"]),
        seeds=range(2),
        options=ReplayOptions(workers=2, until=40),
        jobs=2,
        progress=lambda: finished.append(1),
    )
    assert len(finished) == 8
    for table, replays in zip([wide, small], found, strict=True):
        assert list(replays) == ["tpe", "random"]
        for name, of_seeds in replays.items():
            assert of_seeds == [simulate(table, strategy(table, name, seed), 2, seed, until=40) for seed in range(2)]


def test_a_pool_replays_one_after_the_other_until_enough():
    table = TabularBenchmark(META, tuple(trained(n, 0.3 + n / 40) for n in range(6)))
    options = ReplayOptions(enough=all_trained_but_two)
    with ReplayPool([table], jobs=1) as pool:
        found = [pool.submit(0, STRATEGIES["random"], seed, options).result() for seed in (0, 1)]
    expected = [
        simulate(table, strategy(table, seed=seed), 1, seed, enough=all_trained_but_two(table)) for seed in (0, 1)
    ]
    assert found == expected
    assert [len(replay.completions) for replay in found] == [4, 4]


def test_a_table_without_a_space_is_refused_before_anything_starts():
    table = TabularBenchmark({"name": "bare"}, (trained(0, 0.3),))
    with pytest.raises(UserError, match="bare: meta needs space"):
        replay_all([table], find_strategies(["random"]), seeds=[0])
