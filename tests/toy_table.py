"""A table of 20 tiny networks whose trainings a test chooses, and searches on it."""

from mgnas.models import ArchitectureConfig, count_weights
from mgnas.search.history.table import TableRow, TabularBenchmark
from mgnas.search.samplers.factory import make_sampler
from mgnas.search.strategy.pausing import PausingRule
from mgnas.search.strategy.strategy import Strategy

EPOCHS = 3
META = {
    "name": "toy",
    "space": {
        "fixed": {"family": "mgnet"},
        "parameters": {
            "base_channels": [[4], [6], [8], [4, 8], [8, 8]],
            "sharing": ["A", "AB"],
            "smoothing_steps": {"low": 1, "high": 4},
        },
    },
    "training": {"epochs": EPOCHS},
    "shape": [10, 1, 8],
}
# Weights do not depend on the steps if both operators are shared, so some of these weigh the same.
NETWORKS = [
    ArchitectureConfig(
        family="mgnet", base_channels=channels, sharing=sharing, smoothing_steps=steps, in_channels=1, num_classes=10
    )
    for channels in ((4,), (6,), (8,), (4, 8), (8, 8))
    for sharing, steps in (("AB", 1), ("AB", 3), ("A", 3), ("A", 4))
]


def trained(network: int, accuracy: float, seed: int = 0, seconds: float = 3.0) -> TableRow:
    """A training of NETWORKS[network] whose curve rises to the accuracy in equal steps."""
    config = NETWORKS[network]
    curve = tuple(accuracy * (epoch + 1) / EPOCHS for epoch in range(EPOCHS))
    return TableRow(config, count_weights(config), seed, curve, seconds)


def strategy(
    table: TabularBenchmark, sampler: str = "random", seed: int = 0, pausing_rule: PausingRule | None = None
) -> Strategy:
    """A search that may train every architecture of the table once."""
    space = table.space()
    return Strategy(
        space, make_sampler(sampler, seed, space), n_trials=len(table.by_id), seed=seed, pausing_rule=pausing_rule
    )


def all_trained_but_two(table: TabularBenchmark):
    """An `enough` of `simulate`: two architectures are left. Here, so that processes of a pool can import it."""
    left = set(table.by_id)

    def enough(architecture: str) -> bool:
        left.discard(architecture)
        return len(left) <= 2

    return enough
