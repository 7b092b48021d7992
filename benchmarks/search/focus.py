"""How many epochs a search with a focus needs for the front in its box, as a share of those without.

    python benchmarks/search/focus.py [digits cifar10] [--seeds 20] [--share 0.95]

The box reaches from the first to the third quartile of the log weights of the table's front, and upwards from the
accuracy at its lower end. Only networks inside count. Networks are scored by their mean accuracy over seeds.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import optuna
import torch

from mgnas.search.history.table import SHIPPED, TabularBenchmark
from mgnas.search.samplers.acquisition import gaps
from mgnas.search.samplers.factory import make_sampler
from mgnas.search.samplers.outlook.rollouts import hypervolume
from mgnas.search.simulation.simulator import simulate
from mgnas.search.strategy.strategy import Strategy
from mgnas.space.search_space import SearchSpace

_ROUNDING = 1e-12


class Box:
    """The box of a table, and the hypervolume in it."""

    def __init__(self, table: TabularBenchmark) -> None:
        self.accuracy = table.mean_accuracies()
        self.weights = {key: rows[0].weights for key, rows in table.by_id.items()}
        cost = np.log10([*self.weights.values()])
        accuracy = np.array([self.accuracy[key] for key in self.weights])
        front = np.sort(cost[gaps(cost, accuracy) == 0])
        self.min_weights, self.max_weights = (int(10 ** np.quantile(front, part)) for part in (0.25, 0.75))
        self.min_accuracy = float(accuracy[cost <= math.log10(self.min_weights)].max())
        self.total = self.hypervolume([*self.weights])

    def hypervolume(self, networks: list[str]) -> float:
        inside = [key for key in networks if self.min_weights <= self.weights[key] <= self.max_weights]
        cost = np.log10([self.weights[key] for key in inside])
        accuracy = np.array([self.accuracy[key] for key in inside])
        return hypervolume(cost, accuracy, math.log10(self.max_weights), self.min_accuracy)


def epochs_needed(table: TabularBenchmark, box: Box, seed: int, share: float, focused: bool) -> int:
    """Epochs until that share of the box's hypervolume is found."""
    whole, reference = table.space(), (box.min_accuracy, box.max_weights)
    space: SearchSpace = whole.within(box.min_weights, box.max_weights) if focused else whole
    trained: list[str] = []

    def enough(network: str) -> bool:
        trained.append(network)
        return box.hypervolume(trained) >= share * box.total - _ROUNDING

    sampler = make_sampler("ehvi", seed, space, None, reference if focused else None)
    return simulate(table, Strategy(space, sampler, len(table.by_id) + 1, seed), seed=seed, enough=enough).epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="*", default=["digits", "cifar10"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.95)
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in options.tables:
        table = TabularBenchmark.load(SHIPPED / f"{name}.json.gz")
        box = Box(table)
        needed = np.array(
            [
                [epochs_needed(table, box, seed, options.share, focused) for focused in (True, False)]
                for seed in range(options.seeds)
            ]
        )
        inside = f"{box.min_weights:,} to {box.max_weights:,} weights, above {100 * box.min_accuracy:.2f} %"
        focused, whole = np.median(needed, axis=0)
        ratio = np.exp(np.log(needed[:, 0] / needed[:, 1]).mean())
        print(f"{name}: {inside}: {focused:g} epochs, {whole:g} without focus; ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
