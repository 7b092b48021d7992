"""Tables of made-up networks, and replays on them, for tests of scores."""

import math

from mgnas.models import ArchitectureConfig
from mgnas.reports.simulation.scoring import HypervolumeScorer
from mgnas.search.history.table import TableRow, TabularBenchmark
from mgnas.search.simulation.simulator import Completion, Replay

EPOCHS = 3


def network(number: int) -> ArchitectureConfig:
    return ArchitectureConfig(family="mgnet", base_channels=(4 + number,))


def table(*points: tuple, **meta) -> TabularBenchmark:
    """(weights, final accuracy of each seed) of the networks 0, 1, ..."""
    rows = [
        TableRow(network(number), weights, seed, (0.1, 0.2, accuracy), 1.0)
        for number, (weights, *accuracies) in enumerate(points)
        for seed, accuracy in enumerate(accuracies)
    ]
    return TabularBenchmark({"name": "toy"} | meta, tuple(rows))


def toy_table(**meta) -> TabularBenchmark:
    """Measured from its corner, 1000 weights at 50 %, the front of the first two networks dominates 0.1 + 0.4 = 0.5."""
    return table((10, 0.6), (100, 0.9), (1000, 0.5), (100, 0.7), **meta)


def scored(of: TabularBenchmark) -> HypervolumeScorer:
    """A scorer that measures from the corner of the heaviest network and the lowest mean accuracy."""
    return HypervolumeScorer(of, (math.log10(max(row.weights for row in of.rows)), min(of.mean_accuracies().values())))


def replay(*numbers: int, every: int = EPOCHS, total: int | None = None) -> Replay:
    """Completes the networks of these numbers, one after every `every` epochs."""
    completions = tuple(
        Completion(float(position), position * every, position - 1, network(number).id)
        for position, number in enumerate(numbers, start=1)
    )
    total = total or len(numbers) * every
    return Replay(completions, total, float(len(numbers)), len(numbers), 0, 0)
