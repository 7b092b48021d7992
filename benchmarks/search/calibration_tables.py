"""Tables for calibrations: networks of which one training is shown to a search, and others tell the truth.

A table is the name of a shipped one (digits, cifar10) or the file of NAS-Bench-Macro (nas_bench_macro.py).

In the shipped tables the networks near the front were trained three times, because their first training put them there.
So the first training is left out: the second one is shown, the third one is the truth. Networks that were trained once
were found to be far below the front; their one training serves as both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution

from mgnas import EHVISampler
from mgnas.search.history.table import SHIPPED, TabularBenchmark
from mgnas.search.optuna_schema import DIRECTIONS
from mgnas.search.samplers.features import architecture_features
from mgnas.search.samplers.outcome_transforms import LogErrorTransform

_IMAGES = {"digits": 503, "cifar10": 1_200}
"""Validation images of the shipped tables."""
_PUBLIC_IMAGES = 10_000
"""Test images of CIFAR-10, on which NAS-Bench-Macro measured."""


@dataclass(frozen=True)
class CalibrationTable:
    """Networks with their trainings.

    Args:
        name: of the table.
        x: features, n x d.
        cost: log10 weights, n.
        shown: accuracy of the training that a search sees, n.
        truth: mean accuracy of the other trainings, n.
        others: number of these, n; 0: there is no other training, and `truth` is `shown`.
        images: that accuracies were measured on.
    """

    name: str
    x: np.ndarray
    cost: np.ndarray
    shown: np.ndarray
    truth: np.ndarray
    others: np.ndarray
    images: int

    @classmethod
    def load(cls, source: str) -> CalibrationTable:
        """The table of that name, or in that file."""
        if source in _IMAGES:
            return cls.shipped(source)
        return cls.macro(Path(source))

    @classmethod
    def shipped(cls, name: str) -> CalibrationTable:
        networks = list(TabularBenchmark.load(SHIPPED / f"{name}.json.gz").by_id.values())
        repeated = np.array([len(rows) >= 3 for rows in networks])
        return cls(
            name,
            np.array([architecture_features(rows[0].config) for rows in networks]),
            np.log10([rows[0].weights for rows in networks]),
            np.array([rows[1 if many else 0].curve[-1] for rows, many in zip(networks, repeated, strict=True)]),
            np.array([rows[2 if many else 0].curve[-1] for rows, many in zip(networks, repeated, strict=True)]),
            repeated.astype(int),
            _IMAGES[name],
        )

    @classmethod
    def macro(cls, path: Path) -> CalibrationTable:
        """NAS-Bench-Macro: an identity before a block of the same resolution is the same network as one after it."""
        networks: dict[str, Any] = {}
        for code, entry in json.loads(path.read_text(encoding="utf-8")).items():
            for layer in (3, 6):
                if code[layer] == "0":
                    code = code[:layer] + code[layer + 1] + "0" + code[layer + 2 :]
            networks[code] = entry
        accuracies = np.array([entry["test_acc"] for entry in networks.values()]) / 100
        return cls(
            path.stem,
            np.array([[float(digit == value) for digit in code for value in "012"] for code in networks]),
            np.log10([entry["params"] for entry in networks.values()]),
            accuracies[:, 0],
            accuracies[:, 1:].mean(axis=1),
            np.full(len(networks), 2),
            _PUBLIC_IMAGES,
        )

    def study(self, seed: int) -> tuple[optuna.Study, EHVISampler]:
        """A new search of the table."""
        rows = CategoricalDistribution(tuple(range(len(self.cost))))
        sampler = EHVISampler(
            lambda params: float(10 ** self.cost[params["network"]]),
            {"network": rows},
            encode=lambda params: self.x[params["network"]],
            seed=seed,
            outcome_transform=LogErrorTransform(),
        )
        return optuna.create_study(directions=DIRECTIONS, sampler=sampler), sampler

    def train(self, study: optuna.Study) -> int:
        """Ask the study for a network and tell it the shown training; returns the network."""
        trial = study.ask({"network": CategoricalDistribution(tuple(range(len(self.cost))))})
        network = trial.params["network"]
        study.tell(trial, (float(self.shown[network]), float(10 ** self.cost[network])))
        return network
