"""A made-up problem whose front is known: networks of three kinds, with a width and a depth."""

import itertools
import math

import moocore
import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution

GRID = {
    "width": IntDistribution(1, 30),
    "depth": IntDistribution(1, 8),
    "kind": CategoricalDistribution(("plain", "shared", "grouped")),
}
FACTOR = {"plain": 9.0, "shared": 4.0, "grouped": 2.0}
QUALITY = {"plain": 1.0, "shared": 0.9, "grouped": 0.6}


def weights(params) -> float:
    return FACTOR[params["kind"]] * params["width"] ** 2 * params["depth"]


def accuracy(params) -> float:
    """Saturates in the width and has its best depth at 5."""
    strength = QUALITY[params["kind"]] * math.log(params["width"] + 1) * (1 - ((params["depth"] - 5) / 8) ** 2)
    return 0.9 - 0.6 * math.exp(-strength)


LARGEST = 9 * 30**2 * 8
ALL = [dict(zip(GRID, values, strict=True)) for values in itertools.product(range(1, 31), range(1, 9), FACTOR)]


def hypervolume(configs) -> float:
    points = np.array([(math.log10(weights(params)), 1 - accuracy(params)) for params in configs])
    return float(moocore.hypervolume(points, ref=(math.log10(LARGEST), 0.7)))


def new_study(sampler, directions=("maximize", "minimize")) -> optuna.Study:
    return optuna.create_study(directions=list(directions), sampler=sampler)


def run(study, n_trials: int, distributions=GRID, truth=accuracy, cost=weights) -> list[dict]:
    """Ask and tell in turns; the parameters of the trials."""
    asked = []
    for _ in range(n_trials):
        trial = study.ask(distributions)
        study.tell(trial, (truth(trial.params), cost(trial.params)))
        asked.append(trial.params)
    return asked


def distinct(configs) -> int:
    return len({tuple(sorted(params.items(), key=str)) for params in configs})


def needed(configs, share: float) -> int:
    """Trials until that share of the whole grid's hypervolume is reached."""
    goal = share * hypervolume(ALL)
    return next(n for n in range(1, len(configs) + 1) if hypervolume(configs[:n]) >= goal)
