"""Whether the networks that are said to be on the front with 80 % are there in 80 % of the cases.

    python benchmarks/search/front_calibration.py [digits cifar10 TABLE.json ...] [--trials 40 80] [--seeds 20]

Searches see one training of each network (calibration_tables.py). After a number of trials, the probability that a
network is on the front of the trials' networks is compared with the front by other trainings. These are noisy, too, so
the event is made the same on both sides: to each sample of the accuracies the noise of the other trainings is added.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import optuna
import torch
from calibration_tables import CalibrationTable

from mgnas.search.samplers.outcome_transforms import LogErrorTransform
from mgnas.search.samplers.outlook.front_posterior import FrontPosterior, on_front

_EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.01)


def compared(table: CalibrationTable, networks: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the networks that are near the front: the probability to be on it, and whether they are."""
    scale, cost, others = LogErrorTransform(), table.cost[networks], table.others[networks]
    posterior = FrontPosterior.of(table.x[networks], table.shown[networks], cost, table.images, seed)
    rows, rng = posterior.rows, np.random.default_rng(seed)
    deviation = np.where(others, posterior.noise / np.sqrt(np.maximum(others, 1)), 0.0)[rows]
    predicted = posterior.samples + deviation * rng.standard_normal(posterior.samples.shape)
    only = others[rows] == 0
    predicted[:, only] = scale.transform(table.shown[networks][rows][only])
    truth = scale.transform(table.truth[networks][rows])
    return on_front(predicted, cost[rows]).mean(axis=0), on_front(truth[None], cost[rows])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="*", default=["digits", "cifar10"])
    parser.add_argument("--trials", type=int, nargs="+", default=[40, 80])
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for source in options.tables:
        table, pairs = CalibrationTable.load(source), []
        for seed in range(options.seeds):
            study, _ = table.study(seed)
            networks = np.array([table.train(study) for _ in range(max(options.trials))])
            pairs += [compared(table, networks[:count], seed) for count in options.trials]
        said, are = (np.concatenate(part) for part in zip(*pairs, strict=True))
        print(f"{table.name}: {options.seeds} searches, after {options.trials} trials", flush=True)
        for low, high in itertools.pairwise(_EDGES):
            chosen = (said >= low) & (said < high)
            if chosen.any():
                text = f"said {100 * said[chosen].mean():5.1f} %, are {100 * are[chosen].mean():5.1f} %"
                print(
                    f"  {100 * low:3.0f} to {min(100 * high, 100):3.0f} %: {chosen.sum():5} networks, {text}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
