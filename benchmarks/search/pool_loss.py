"""What a search loses because it looks at a pool of a large space, not at all of it.

    python benchmarks/search/pool_loss.py [--config spaces/large.yaml] [--seeds 20] [--trials 60] [--out FILE]

Pairs of simulated searches: one with the pool as it comes, of two thousand candidates that are renewed at each ask; one
with a pool of all networks. Both see the same trainings. An accuracy follows the log of the weights, a random smooth
function of the features, and the noise of trainings. The score is the hypervolume of the accuracies without noise, as
a share of that of all networks. It is measured from the largest weights and from the lightest network's accuracy.

The table has the trainings to 90, 95 and 99 % of it, medians and quartiles, and the factor between them, the geometric
mean over seeds: above 1 it is a loss by the pool. Searches that do not get there count with one training more than they
had. Each pair is a line of --out; the same call goes on with those that are missing.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution

from mgnas.search.config import SearchConfig
from mgnas.search.optuna_schema import DIRECTIONS
from mgnas.search.samplers.candidate_pool import CandidatePool, Point
from mgnas.search.samplers.ehvi import EHVISampler
from mgnas.search.samplers.outcome_transforms import LogErrorTransform
from mgnas.search.samplers.outlook.rollouts import hypervolume
from mgnas.space.enumeration import distinct_networks
from mgnas.space.search_space import SearchSpace

CONFIG = Path(__file__).with_name("spaces") / "large.yaml"
SHARES = (0.9, 0.95, 0.99)

_WAVES = 200
"""Cosines that make up the random function."""
_LENGTHSCALE = 1.0
_SPREAD = 0.15
"""Standard deviation of the random function, as a log of the error."""
_NOISE = 0.04
"""The same of a training, about that of the trainings of one network on CIFAR-10."""


class WholePool(CandidatePool):
    """All networks of the space, however many they are.

    Args:
        space: to choose in.
        points: its networks, made once for all searches.
        seed: of the random draws.
    """

    def __init__(self, space: SearchSpace, points: list[Point], seed: int) -> None:
        super().__init__(space, seed)
        self._made = points

    def _all(self) -> Iterable[Point]:
        return self._made


class Truth:
    """Accuracies of all networks without noise, and the trainings.

    Args:
        points: all networks.
        seed: of the random function and of the noise.
    """

    def __init__(self, points: list[Point], seed: int) -> None:
        rng = np.random.default_rng(seed)
        x, cost = np.stack([point.features for point in points]), np.array([point.log_cost for point in points])
        frequencies = rng.standard_normal((_WAVES, x.shape[1])) / _LENGTHSCALE
        waves = np.sqrt(2 / _WAVES) * np.cos(x @ frequencies.T + rng.uniform(0, 2 * math.pi, _WAVES))
        log_error = math.log(0.3) - 0.35 * (cost - cost.min()) * math.log(10) / 2
        log_error += _SPREAD * waves @ rng.standard_normal(_WAVES)
        noise = np.exp(_NOISE * rng.standard_normal(len(points)))
        self.rows = {point.id: row for row, point in enumerate(points)}
        self.cost, self.accuracy = cost, 1 - np.exp(log_error)
        self.shown = 1 - np.minimum(np.exp(log_error) * noise, 1.0)

    def shares(self, rows: list[int]) -> list[float]:
        """Share of the hypervolume that the first 1, 2, ... of these networks have."""
        reference = float(self.accuracy[np.argmin(self.cost)])
        whole = hypervolume(self.cost, self.accuracy, self.cost.max(), reference)
        ends = range(1, len(rows) + 1)
        found = (hypervolume(self.cost[rows[:n]], self.accuracy[rows[:n]], self.cost.max(), reference) for n in ends)
        return [area / whole for area in found]


def search(pool: CandidatePool, truth: Truth, trials: int, seed: int) -> list[int]:
    """The networks of a search, in their order."""
    sampler = EHVISampler(pool=pool, seed=seed, outcome_transform=LogErrorTransform())
    study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
    fixed: dict[str, BaseDistribution] = dict(pool.distributions)
    rows: list[int] = []
    for _ in range(trials):
        trial = study.ask(fixed)
        point = pool.locate(trial.params)
        assert point is not None, "the sampler proposes valid networks"
        rows.append(truth.rows[point.id])
        study.tell(trial, (float(truth.shown[rows[-1]]), 10**point.log_cost))
    return rows


def first(shares: list[float], share: float) -> int:
    """Trainings until the share is reached; one more than there were if it is not."""
    return next((n for n, value in enumerate(shares, 1) if value >= share), len(shares) + 1)


def summary(pairs: list[dict[str, list[float]]]) -> list[str]:
    """The lines of the table."""
    lines = ["| share | pool | whole space | factor |", "|---|---|---|---|"]
    for share in SHARES:
        counts = np.array([[first(pair[name], share) for name in ("pool", "whole")] for pair in pairs])
        pool, whole = (
            "{1:.0f} ({0:.0f} to {2:.0f})".format(*np.quantile(column, [0.25, 0.5, 0.75], method="nearest"))
            for column in counts.T
        )
        logs = np.log(counts[:, 0] / counts[:, 1])
        error = logs.std(ddof=1) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
        lines.append(f"| {100 * share:.0f} % | {pool} | {whole} | {math.exp(logs.mean()):.2f} +- {error:.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("pool_loss.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = SearchConfig.load(options.config).search_space()
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    pairs = [json.loads(line) for line in lines]
    if len(pairs) < options.seeds:
        networks = distinct_networks(space)
        assert networks is not None, "the space needs networks that can be made as arrays"
        # NOTE: Private, because a product's pool of a large space is never filled with all of it.
        points = CandidatePool(space)._points(networks)
        print(f"{space.effective_points():,} points, {len(points):,} networks", flush=True)
        for seed in range(len(pairs), options.seeds):
            truth = Truth(points, seed)
            pools = {"pool": CandidatePool(space, seed), "whole": WholePool(space, points, seed)}
            pairs.append(
                {name: truth.shares(search(pool, truth, options.trials, seed)) for name, pool in pools.items()}
            )
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(pairs[-1]) + "\n")
            print(f"seed {seed}: {[[first(s, share) for share in SHARES] for s in pairs[-1].values()]}", flush=True)
    print("\n".join(summary(pairs[: options.seeds])))


if __name__ == "__main__":
    main()
