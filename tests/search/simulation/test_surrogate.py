"""A table extended to its whole space by a model: what was trained stays, what was not is predicted and called so."""

import math

import numpy as np
import pytest

from mgnas.models import ArchitectureConfig, count_weights
from mgnas.search.history.table import TableRow, TabularBenchmark
from mgnas.search.simulation.surrogate import seed_noise, surrogate_table

PARAMETERS = {
    "base_channels": [[4, 8], [8, 8], [8, 16]],
    "channel_scaling": [1, 2, 3],
    "sharing": ["A", "AB"],
    "smoothing_steps": {"low": 2, "high": 5},
}


def trained(config: ArchitectureConfig, accuracy: float, seed: int = 0) -> TableRow:
    return TableRow(config, count_weights(config), seed, (accuracy / 2, accuracy), 3.0)


def accuracy(config: ArchitectureConfig) -> float:
    """Smooth in the settings."""
    return 0.3 + 0.1 * math.log10(count_weights(config)) + 0.02 * config.steps[0]


@pytest.fixture(scope="module")
def whole() -> TabularBenchmark:
    """All architectures of the space, each once."""
    meta = {
        "name": "toy",
        "space": {"fixed": {"family": "mgnet"}, "parameters": PARAMETERS, "limits": {"max_weights": 20_000}},
        "training": {"epochs": 2},
        "shape": [10, 1, 8],
    }
    configs = [
        ArchitectureConfig(
            family="mgnet",
            base_channels=base,
            channel_scaling=scale,
            sharing=sharing,
            smoothing_steps=steps,
            in_channels=1,
        )
        for base in ((4, 8), (8, 8), (8, 16))
        for scale in (1, 2, 3)
        for sharing in ("A", "AB")
        for steps in range(2, 6)
    ]
    distinct = {config.id: config for config in configs if count_weights(config) <= 20_000}
    return TabularBenchmark(meta, tuple(trained(config, accuracy(config)) for config in distinct.values()))


@pytest.fixture(scope="module")
def part(whole) -> TabularBenchmark:
    """Every third of them."""
    return TabularBenchmark(whole.meta, whole.rows[::3])


def test_the_whole_space_is_there_and_what_was_trained_stays(whole, part):
    surrogate = surrogate_table(part)
    assert set(surrogate.by_id) == set(whole.by_id)
    assert surrogate.rows[: len(part.rows)] == part.rows
    assert len(surrogate.rows) == len(part.rows) + 3 * (len(whole.rows) - len(part.rows))
    assert {len(row.curve) for row in surrogate.rows} == {2}
    assert surrogate.space().training.epochs == 2


def test_it_is_called_a_surrogate(part):
    surrogate = surrogate_table(part)
    assert (surrogate.name, surrogate.meta["surrogate"]) == ("toy-surrogate", True)


def test_predictions_are_near_and_curves_are_of_the_nearest(whole, part):
    """Without noise, as no architecture was trained twice; every curve of the table doubles in its second epoch."""
    surrogate = surrogate_table(part)
    errors = [surrogate.mean_accuracies()[key] - truth for key, truth in whole.mean_accuracies().items()]
    assert np.sqrt(np.mean(np.square(errors))) < 0.02
    for row in surrogate.rows:
        assert row.curve[0] == pytest.approx(row.curve[1] / 2, abs=1e-6)
        assert row.weights == count_weights(row.config)


def test_noise_between_seeds_is_pooled():
    small, large = (ArchitectureConfig(family="mgnet", base_channels=(n,), in_channels=1) for n in (4, 8))
    rows = [trained(small, value, seed) for seed, value in enumerate([0.5, 0.7])]
    # Squares about the means: 2 x 0.01 with one degree of freedom; 0.0002 with two.
    rows += [trained(large, value, seed) for seed, value in enumerate([0.79, 0.80, 0.81])]
    assert seed_noise(TabularBenchmark({}, tuple(rows))) == pytest.approx(np.sqrt(0.0202 / 3))
    assert seed_noise(TabularBenchmark({}, (trained(small, 0.5),))) == 0.0


def test_a_seed_fixes_the_noise(part):
    noisy = TabularBenchmark(part.meta, (*part.rows, trained(part.rows[0].config, part.rows[0].curve[-1] - 0.05, 1)))
    first, again, other = (surrogate_table(noisy, seed).rows for seed in (0, 0, 1))
    assert first == again
    assert first != other
    finals = {row.config.id: set() for row in first}
    for row in first[len(noisy.rows) :]:
        finals[row.config.id].add(row.curve[-1])
    assert max(map(len, finals.values())) == 3


def test_a_table_of_everything_is_not_changed(whole):
    assert surrogate_table(whole).rows == whole.rows


def test_a_huge_space_has_no_surrogate(part, refusal):
    wide = {"channel_scaling": [number / 4 for number in range(1, 101)], "smoothing_steps": {"low": 1, "high": 100}}
    space = dict(part.meta["space"], parameters=PARAMETERS | wide)
    table = TabularBenchmark(dict(part.meta) | {"space": space}, part.rows)
    assert "at most 50,000 effective points" in refusal(lambda: surrogate_table(table))
