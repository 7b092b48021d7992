"""benchmarks/search/scale.py and ask_time.py measure what they say."""

import sys
from pathlib import Path

import optuna
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "search"))
import ask_time
import scale


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_every_part_of_a_search_is_measured(capsys):
    rows = scale.measure(scale.cifar10_space(), "random", workers=5, n_trials=30, part=10)
    assert [row[0] for row in rows] == [10, 20, 30]
    assert all(0 < mean <= largest and others > 0 for _, mean, largest, others in rows)
    assert capsys.readouterr().out.count("ms an ask") == 3


def test_asks_that_learn_are_told_from_those_that_do_not():
    first, plain, learning = ask_time.measure(scale.cifar10_space(), 30, asks=2)
    assert first > 0
    assert (len(plain), len(learning)) == (4, 2)
