"""benchmarks/peers.py: samplers as they are, which may repeat themselves."""

import importlib.util
from pathlib import Path

import optuna
import pytest

from mgnas.models import ArchitectureConfig, count_weights
from mgnas.search.simulate import simulate
from mgnas.search.table import Table, TableRow

spec = importlib.util.spec_from_file_location("peers", Path(__file__).parents[2] / "benchmarks" / "peers.py")
peers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(peers)

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

META = {
    "name": "toy",
    "space": {
        "fixed": {"family": "mgnet"},
        "parameters": {"base_channels": [[4], [6], [8]], "sharing": ["A", "AB"], "smoothing_steps": [2, 3, 4]},
    },
    "training": {"epochs": 2},
    "shape": [10, 1, 8],
}


def trained(channels: int, sharing: str, steps: int, accuracy: float, seed: int = 0) -> TableRow:
    config = ArchitectureConfig(
        family="mgnet", base_channels=(channels,), sharing=sharing, smoothing_steps=steps, in_channels=1
    )
    return TableRow(config, count_weights(config), seed, (accuracy / 2, accuracy), 3.0)


@pytest.fixture
def table() -> Table:
    return Table(META, (trained(4, "A", 2, 0.5), trained(4, "A", 2, 0.7, 1), trained(8, "AB", 4, 0.9)))


def always(**values):
    return optuna.samplers.PartialFixedSampler(values, optuna.samplers.RandomSampler(seed=0))


def test_repeated_proposals_cost_again_and_see_the_next_training(table):
    sampler = always(base_channels="4", sharing="A", smoothing_steps=2)
    search = peers.RawSearch(table.space(), sampler, trials=3)
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
    search = peers.RawSearch(table.space(), always(**proposal), trials=1)
    record = search.ask()
    assert record.candidate.id == table.rows[nearest].config.id
    assert search._study.trials[0].params == proposal


@pytest.mark.parametrize("name", ["random-raw", "tpe-raw", "nsga2-raw"])
def test_samplers_as_they_are_end_at_their_budget(table, name):
    search = peers.PEERS[name](table, table.space(), 0)
    replay = simulate(table, search, workers=3, until=13)
    assert replay.epochs == 13
    assert {done.architecture for done in replay.completions} <= set(table.by_id)
    whole = simulate(table, peers.PEERS[name](table, table.space(), 0))
    assert whole.trials == peers.RAW_TRIALS * len(table.by_id)
