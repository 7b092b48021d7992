"""Other tools in the same replays as mgnas, for comparison only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from mgnas.models.errors import ConfigError
from mgnas.search.replays import StrategyFactory
from mgnas.search.samplers import make_sampler
from mgnas.search.strategy import DIRECTIONS, Decision
from mgnas.search.table import Table
from mgnas.search.trial_record import TrialRecord, TrialState
from mgnas.space.search_space import SearchSpace

RAW_TRIALS = 4
"""A sampler as it is may propose so many times as many trials as there are architectures."""


class RawSearch:
    """An Optuna sampler as it is: what it proposes is trained, a repeated proposal once more at full cost.

    A proposal that is invalid or not in the table cannot be replayed. It gets the training of the nearest one that is
    (fewest changed parameters, of these one at random), under its own parameters: as if that were its network.

    Args:
        space: with finitely many points.
        sampler: for two objectives.
        trials: proposals in all.
        seed: of the choice between equally near ones and, plus the trial's number, of each training.
    """

    def __init__(self, space: SearchSpace, sampler: BaseSampler, trials: int, seed: int = 0) -> None:
        self.space, self.trials, self.seed = space, trials, seed
        self.records: list[TrialRecord] = []
        self._rng = np.random.default_rng(seed)
        self._distributions = {parameter.name: parameter.distribution for parameter in space.parameters}
        self._study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)

    def ask(self) -> TrialRecord | None:
        """The next proposal; None when there were enough."""
        if len(self.records) >= self.trials:
            return None
        values = self._study.ask(self._distributions).params
        number = len(self.records)
        self.records.append(TrialRecord(number, self.space.candidate(self._nearest(values)), self.seed + number))
        return self.records[-1]

    def report(self, number: int, curve: Sequence[float], seconds: float = 0.0) -> Decision:
        """Take note; every trial runs to its end, since Optuna's pruners refuse several objectives."""
        record = self.records[number]
        record.curve, record.seconds = list(curve), seconds
        return Decision.CONTINUE

    def complete(self, number: int) -> None:
        """The trial has run all its epochs."""
        record = self.records[number]
        record.state = TrialState.COMPLETE
        self._study.tell(number, (record.accuracy, float(record.weights)))

    def _nearest(self, values: dict) -> dict:
        labels, points = _valid_points(self.space)
        wanted = np.array([places[values[name]] for name, places in labels.items()])
        changed = (points != wanted).sum(axis=1)
        nearest = points[self._rng.choice(np.flatnonzero(changed == changed.min()))]
        return {name: list(places)[at] for (name, places), at in zip(labels.items(), nearest, strict=True)}


@lru_cache(maxsize=4)
def _valid_points(space: SearchSpace) -> tuple[dict[str, dict], np.ndarray]:
    """Per parameter label -> place on its grid, and all valid points as places, points x parameters."""
    labels = {p.name: {label: place for place, label in enumerate(p.grid)} for p in space.parameters}
    points = []
    for values in space.all_values():
        try:
            space.candidate(values)
        except ConfigError:
            continue
        points.append([places[values[name]] for name, places in labels.items()])
    return labels, np.array(points)


def raw(sampler: str, table: Table, space: SearchSpace, seed: int) -> RawSearch:
    """That sampler as it is."""
    return RawSearch(space, make_sampler(sampler, seed, space), RAW_TRIALS * len(table.by_id), seed)


PEERS: dict[str, StrategyFactory] = {f"{name}-raw": partial(raw, name) for name in ("random", "tpe", "nsga2", "gp")}
