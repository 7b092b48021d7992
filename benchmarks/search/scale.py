"""How fast the strategy answers when a thousand workers ask: the strategy alone, with simulated trainings.

    python benchmarks/search/scale.py [--sampler ehvi] [--workers 1000] [--trials 20000]

The space is that of spaces/cifar10.yaml, which has 7,918 different networks. The learning rate and the weight decay
are searched as well, so that something new is left after thousands of trials. Accuracies come from a formula of the
architecture's features plus noise. The duration of a training comes from its MACs, so that workers ask one by one in no
particular order. The processor time of one thread inside ask, report and complete is counted. `--sampler` takes several
names.
"""

from __future__ import annotations

import argparse
import heapq
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from mgnas.search.config import SearchConfig
from mgnas.search.samplers.factory import SAMPLERS, make_sampler
from mgnas.search.samplers.features import architecture_features
from mgnas.search.strategy.strategy import Strategy
from mgnas.search.trial_record import TrialRecord
from mgnas.space.search_space import SearchSpace

CONFIG = Path(__file__).parent / "spaces" / "cifar10.yaml"
_NOISE = 0.005
"""Standard deviation of the accuracy between trainings."""
_RECIPE = {
    "learning_rate": {"low": 0.02, "high": 0.3, "log": True},
    "weight_decay": {"low": 1e-5, "high": 1e-2, "log": True},
}


def cifar10_space(**parameters: Any) -> SearchSpace:
    """The space of spaces/cifar10.yaml, with further parameters."""
    config = SearchConfig.load(CONFIG)
    space = {**config.space, "parameters": {**config.space["parameters"], **parameters}}
    return SearchSpace(space, config.training, num_classes=10, in_channels=3, image_size=32)


class SimulatedTrainings:
    """What trainings would bring: accuracies by a random linear combination of the features, and noise."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._weights: np.ndarray | None = None

    def accuracy(self, record: TrialRecord) -> float:
        features = architecture_features(record.candidate.architecture)
        if self._weights is None:
            self._weights = self._rng.normal(0.5, 1.0, len(features))
        error = 0.5 * np.exp(-0.4 * abs(float(self._weights @ features)))
        return float(np.clip(1 - error + self._rng.normal(0, _NOISE), 0, 1))

    def duration(self, record: TrialRecord) -> float:
        return float(record.candidate.macs * self._rng.uniform(0.8, 1.2))


def measure(
    space: SearchSpace, name: str, workers: int, n_trials: int, part: int
) -> list[tuple[int, float, float, float]]:
    """Seconds of processor time per ask, and of report and complete together, in each part of a search.

    Args:
        space: to search in.
        name: of the sampler.
        workers: simulated.
        n_trials: of the whole search.
        part: number of trials in a part.

    Returns:
        (trials so far, mean of the asks, largest one, mean of report and complete) of each part.
    """
    strategy = Strategy(space, make_sampler(name, 0, space), n_trials)
    trainings = SimulatedTrainings()
    running: list[tuple[float, int]] = []
    rows, asks = [], []
    others, now, asked = 0.0, 0.0, 0

    def ask() -> bool:
        nonlocal asked
        before = time.process_time()
        record = strategy.ask()
        asks.append(time.process_time() - before)
        if record is not None:
            asked += 1
            heapq.heappush(running, (now + trainings.duration(record), record.number))
        return record is not None

    for _ in range(workers):
        ask()
    while running:
        now, number = heapq.heappop(running)
        record = strategy.records[number]
        curve = [trainings.accuracy(record)] * space.training.epochs
        before = time.process_time()
        strategy.report(number, curve)
        strategy.complete(number)
        others += time.process_time() - before
        if ask() and asked % part == 0:
            rows.append((asked, float(np.mean(asks)), max(asks), others / part))
            print(
                f"{name:8} {asked:7,} trials: {rows[-1][1] * 1e3:8.2f} ms an ask, at most "
                f"{rows[-1][2]:.2f} s; {rows[-1][3] * 1e3:.2f} ms a report with its end",
                flush=True,
            )
            asks, others = [], 0.0
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sampler", nargs="+", choices=SAMPLERS, default=["ehvi", "random"])
    parser.add_argument("--workers", type=int, default=1000, help="simulated")
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--part", type=int, default=2_000, help="trials after which a line is printed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = cifar10_space(**_RECIPE)
    for name in options.sampler:
        rows = measure(space, name, options.workers, options.trials, options.part)
        mean = np.mean([row[1] for row in rows])
        print(f"{name}: {1 / mean:,.0f} asks a second over all, {1 / rows[-1][1]:,.0f} at the end")


if __name__ == "__main__":
    main()
