"""benchmarks/search/peers.py and noisy_ehvi.py: other tools, which may repeat themselves."""

import sys
from pathlib import Path

import optuna
import pytest

from mgnas.models import ArchitectureConfig, count_weights
from mgnas.search.history.table import TableRow, TabularBenchmark
from mgnas.search.simulation.simulator import simulate

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "search"))
import peers

EPOCHS = 2
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

META = {
    "name": "toy",
    "space": {
        "fixed": {"family": "mgnet"},
        "parameters": {"base_channels": [[4], [6], [8]], "sharing": ["A", "AB"], "smoothing_steps": [2, 3, 4]},
    },
    "training": {"epochs": EPOCHS},
    "shape": [10, 1, 8],
}


def trained(channels: int, sharing: str, steps: int, accuracy: float, seed: int = 0) -> TableRow:
    config = ArchitectureConfig(
        family="mgnet", base_channels=(channels,), sharing=sharing, smoothing_steps=steps, in_channels=1
    )
    return TableRow(config, count_weights(config), seed, (accuracy / 2, accuracy), 3.0)


@pytest.fixture
def table() -> TabularBenchmark:
    return TabularBenchmark(META, (trained(4, "A", 2, 0.5), trained(4, "A", 2, 0.7, 1), trained(8, "AB", 4, 0.9)))


def always(**values):
    return optuna.samplers.PartialFixedSampler(values, optuna.samplers.RandomSampler(seed=0))


def test_repeated_proposals_cost_again_and_see_the_next_training(table):
    sampler = always(base_channels="4", sharing="A", smoothing_steps=2)
    search = peers.RawOptuna(table.space(), sampler, n_trials=3)
    replay = simulate(table, search)
    assert [done.architecture for done in replay.completions] == [table.rows[0].config.id] * 3
    assert replay.epochs == 6
    accuracies = [record.accuracy for record in search.records]
    assert sorted(accuracies[:2]) == [0.5, 0.7]
    assert accuracies[2] == accuracies[0]
    assert [trial.values[0] for trial in search._study.trials] == accuracies


@pytest.mark.parametrize(
    ("proposal", "nearest"),
    [
        ({"base_channels": "4", "sharing": "AB", "smoothing_steps": 2}, 0),
        ({"base_channels": "6", "sharing": "AB", "smoothing_steps": 4}, 2),
        ({"base_channels": "8", "sharing": "A", "smoothing_steps": 4}, 2),
    ],
)
def test_what_the_table_lacks_is_replaced_by_the_nearest(table, proposal, nearest):
    search = peers.RawOptuna(table.space(), always(**proposal), n_trials=1)
    record = search.ask()
    assert record.candidate.id == table.rows[nearest].config.id
    assert search._study.trials[0].params == proposal


@pytest.mark.parametrize("name", ["random as it is", "tpe as it is", "nsga2 as it is", "syne tune evolution as it is"])
def test_tools_as_they_are_end_at_their_budget(table, name):
    if not peers.is_installed(name):
        pytest.skip("Syne Tune is not installed")
    search = peers.PEERS[name](table, table.space(), 0)
    replay = simulate(table, search, workers=2, until=3)
    assert replay.epochs == 3
    whole = simulate(table, peers.PEERS[name](table, table.space(), 0))
    assert whole.trials == len(table.by_id)
    assert whole.epochs == EPOCHS * whole.trials
    assert {done.architecture for done in whole.completions} <= set(table.by_id)


@pytest.mark.skipif(not peers.SYNE_TUNE, reason="Syne Tune is not installed")
class TestSyneTune:
    def test_evolution_breeds_from_what_was_good(self, table):
        search = peers.SyneTuneEvolution(table.space(), 40, seed=0)
        simulate(table, search)
        assert len(search._searcher.population) == 20
        assert {element.config["sharing"] for element in search._searcher.population} == {"A", "AB"}

    def test_asha_stops_most_trials_after_their_first_epoch(self, table):
        search = peers.SyneTuneASHA(table.space(), 30, seed=0)
        replay = simulate(table, search)
        assert replay.trials == 30
        assert 1 <= len(replay.completions) < 20
        assert replay.epochs == 30 + len(replay.completions)
        assert replay.pauses == 0

    def test_equal_seeds_give_equal_searches(self, table):
        for search in (peers.SyneTuneEvolution, peers.SyneTuneASHA):
            assert simulate(table, search(table.space(), 20, 3)) == simulate(table, search(table.space(), 20, 3))


@pytest.mark.slow
def test_noisy_ehvi_trains_everything_once():
    pytest.importorskip("botorch")
    noisy_ehvi = pytest.importorskip("noisy_ehvi")
    rows = tuple(
        trained(channels, sharing, steps, 0.4 + channels / 20 + steps / 50)
        for channels in (4, 6, 8)
        for sharing, steps in (("A", 2), ("A", 3), ("AB", 2), ("A", 4))
    )
    table = TabularBenchmark(META, rows)
    search = noisy_ehvi.NoisyEHVISearch(table, table.space(), 0)
    replay = simulate(table, search)
    assert sorted(done.architecture for done in replay.completions) == sorted(table.by_id)
