"""From a config to the strategy that it describes."""

import pytest
from strategy_runs import run

from mgnas.search.history.table import TableRow, TabularBenchmark
from mgnas.search.samplers.ehvi import EHVISampler
from mgnas.search.strategy.factory import make_strategy
from mgnas.search.strategy.pausing import ParetoPausing


def strategy_of(config):
    return make_strategy(config, config.search_space())


@pytest.fixture
def table_file(tmp_path, wide_space):
    """Twenty architectures that are the better the wider they are."""
    candidates = [candidate for candidate in wide_space.enumerate() if candidate.params["smoothing_steps"] == 2][:20]
    rows = [
        TableRow(c.architecture, c.weights, 0, (0.2, 0.1 + 0.1 * c.params["channel_scaling"]), 1.0) for c in candidates
    ]
    TabularBenchmark({"name": "twenty"}, tuple(rows)).save(tmp_path / "twenty.json")
    return str(tmp_path / "twenty.json")


def test_the_search_section_names_its_parts(small_search, table_file):
    search = {"sampler": "ehvi", "trials": 3, "prior": table_file, "stopping": "pareto", "seed": 7}
    strategy = strategy_of(small_search(search=search))
    sampler = strategy._study.sampler
    assert isinstance(sampler, EHVISampler)
    assert sampler._prior.trust > 0.5
    assert isinstance(strategy._pausing_rule, ParetoPausing)
    assert strategy._pausing_rule.model.epochs == 2
    assert (strategy.n_trials, strategy.seed) == (3, 7)


@pytest.mark.parametrize(("name", "kind"), [("none", type(None)), ("pareto", ParetoPausing)])
def test_pausing_rules_by_name(small_search, name, kind):
    strategy = strategy_of(small_search(search={"sampler": "random", "stopping": name}))
    assert isinstance(strategy._pausing_rule, kind)


def test_the_default_is_ehvi_without_prior(small_search):
    sampler = strategy_of(small_search(search=None))._study.sampler
    assert isinstance(sampler, EHVISampler)
    assert sampler._prior is None


def test_trainings_of_different_length_cannot_be_compared(small_search, refusal):
    space = {"fixed": {"family": "mgnet", "base_channels": [4]}, "parameters": {"epochs": [2, 4]}}
    config = small_search(space=space, search={"stopping": "pareto"})
    message = refusal(lambda: strategy_of(config))
    assert message.startswith(f"{config.file}: search.stopping: pareto compares trainings of equal length")
    assert strategy_of(small_search(space=space, search={"stopping": "none"})).ask() is not None


def test_a_focused_search_trains_nothing_outside_its_weights_and_measures_in_its_box(small_search):
    config = small_search(search={"sampler": "ehvi", "trials": 50})
    weights = sorted(candidate.weights for candidate in config.search_space().enumerate())
    low, high = weights[0] + 1, weights[-1]
    focus = {"min_weights": low, "max_weights": high, "min_accuracy": 0.3}
    config = config.override(focus=focus)
    strategy = strategy_of(config)
    records = run(strategy)
    assert sorted(record.weights for record in records) == [count for count in weights if low <= count <= high]
    assert strategy._study.sampler._reference == (0.3, high)
    # A search that had trained something else before goes on.
    assert len(run(make_strategy(config, config.search_space(), records))) == 0
