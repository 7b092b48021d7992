"""Other tools in the same replays as mgnas, for comparison only, without mgnas's no-repeat layer.

Syne Tune is optional: `pip install "mgnas[benchmark]"`.
"""

from __future__ import annotations

import abc
import importlib.util
import itertools
import random
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler

from mgnas.errors import ConfigError
from mgnas.search.history.table import TabularBenchmark
from mgnas.search.optuna_schema import DIRECTIONS
from mgnas.search.samplers.factory import make_sampler
from mgnas.search.simulation.replay_pool import StrategyFactory
from mgnas.search.strategy.strategy import Decision
from mgnas.search.trial_record import CompletedTrial, TrialRecord, TrialState
from mgnas.space.parameter import Distribution, Parameter
from mgnas.space.search_space import SearchSpace

SYNE_TUNE = importlib.util.find_spec("syne_tune") is not None
"""Whether it is installed."""
_METRICS = ["error", "weights"]
_EPOCH = "epoch"


class RawSearch(abc.ABC):
    """A tool without any layer around it: every proposal is trained, a repeated one once more at full cost.

    A proposal that is invalid or not in the table cannot be replayed. It gets the training of the nearest point of the
    table (fewest changed parameters, of these one at random); the tool is told of it under the proposed parameters.

    Args:
        space: with finitely many points.
        n_trials: number of proposals.
        seed: of the choice between equally near points and, plus the trial's number, of each training.
    """

    def __init__(self, space: SearchSpace, n_trials: int, seed: int = 0) -> None:
        self.space, self.n_trials, self.seed = space, n_trials, seed
        self.records: list[TrialRecord] = []
        self._rng = np.random.default_rng(seed)

    @abc.abstractmethod
    def _propose(self, number: int) -> dict:
        """The parameter values of the next trial."""

    def _epoch(self, record: TrialRecord) -> Decision:
        """What becomes of a trial after an epoch that was not its last; Optuna's pruners refuse several objectives."""
        return Decision.CONTINUE

    @abc.abstractmethod
    def _tell(self, trial: CompletedTrial) -> None:
        """A trial is complete."""

    def ask(self) -> TrialRecord | None:
        """The next trial; None if there were enough."""
        if len(self.records) >= self.n_trials:
            return None
        number = len(self.records)
        candidate = self.space.candidate(self._nearest(self._propose(number)))
        self.records.append(TrialRecord(number, candidate, self.seed + number))
        return self.records[-1]

    def report(self, number: int, curve: Sequence[float], seconds: float = 0.0) -> Decision:
        record = self.records[number]
        record.curve, record.seconds = list(curve), seconds
        return Decision.CONTINUE if len(curve) >= self.space.training.epochs else self._epoch(record)

    def complete(self, number: int) -> None:
        """The trial has run all its epochs."""
        record = self.records[number]
        record.state = TrialState.COMPLETE
        if (trial := record.completed) is not None:
            self._tell(trial)

    def _nearest(self, values: dict) -> dict:
        indices, points = _valid_points(self.space)
        wanted = np.array([index_of[values[name]] for name, index_of in indices.items()])
        changed = (points != wanted).sum(axis=1)
        nearest = points[self._rng.choice(np.flatnonzero(changed == changed.min()))]
        return {name: list(index_of)[index] for (name, index_of), index in zip(indices.items(), nearest, strict=True)}


@lru_cache(maxsize=4)
def _valid_points(space: SearchSpace) -> tuple[dict[str, dict], np.ndarray]:
    """Per parameter: label -> index on its grid; and all valid points as indices, points x parameters."""
    grids = {parameter.name: _grid(parameter) for parameter in space.parameters}
    indices = {name: {label: index for index, label in enumerate(grid)} for name, grid in grids.items()}
    points = []
    for combination in itertools.product(*grids.values()):
        values = dict(zip(grids, combination, strict=True))
        try:
            space.candidate(values)
        except ConfigError:
            continue
        points.append([index_of[values[name]] for name, index_of in indices.items()])
    return indices, np.array(points)


def _grid(parameter: Parameter) -> tuple:
    if parameter.grid is None:
        raise ValueError(f"{parameter.name} is continuous; a table has finitely many points")
    return parameter.grid


class RawOptuna(RawSearch):
    """An Optuna sampler without any layer around it.

    Args:
        sampler: for two objectives.
        space, n_trials, seed: as for every RawSearch.
    """

    def __init__(self, space: SearchSpace, sampler: BaseSampler, n_trials: int, seed: int = 0) -> None:
        super().__init__(space, n_trials, seed)
        self._distributions: dict[str, BaseDistribution] = {p.name: p.distribution for p in space.parameters}
        self._study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)

    def _propose(self, number: int) -> dict:
        return self._study.ask(self._distributions).params

    def _tell(self, trial: CompletedTrial) -> None:
        self._study.tell(trial.number, (trial.accuracy, float(trial.weights)))


def _syne_tune_space(space: SearchSpace) -> dict:
    """The parameters in the form of Syne Tune's documentation: integer ranges, and choices.

    Choices are named by strings, since Syne Tune wants those of a parameter to be of one type.
    """
    from syne_tune.config_space import choice, randint  # pyright: ignore[reportMissingImports] - optional

    def converted(d: Distribution):
        return choice(list(map(str, d.choices))) if isinstance(d, CategoricalDistribution) else randint(d.low, d.high)

    return {parameter.name: converted(parameter.distribution) for parameter in space.parameters}


def _seed_globally(seed: int) -> None:
    """Syne Tune also draws from the global generators."""
    random.seed(seed)
    np.random.seed(seed)


def _labels(space: SearchSpace, config: dict) -> dict:
    """The labels that Syne Tune's proposal stands for."""
    return {
        parameter.name: next(label for label in _grid(parameter) if str(label) == str(config[parameter.name]))
        for parameter in space.parameters
    }


class SyneTuneEvolution(RawSearch):
    """Syne Tune's multi-objective regularised evolution, with a population that is reached within these searches."""

    def __init__(self, space: SearchSpace, n_trials: int, seed: int = 0) -> None:
        from syne_tune.optimizer.schedulers.multiobjective import (  # pyright: ignore[reportMissingImports] - optional
            MultiObjectiveRegularizedEvolution,
        )

        super().__init__(space, n_trials, seed)
        _seed_globally(seed)
        # NOTE: 20, as for NSGA-II; the default is 100, a third of the table at random.
        settings = {"population_size": 20, "sample_size": 5, "random_seed": seed}
        self._searcher = MultiObjectiveRegularizedEvolution(_syne_tune_space(space), **settings)
        self._proposed: list[dict] = []

    def _propose(self, number: int) -> dict:
        self._proposed.append(self._searcher.suggest())
        return _labels(self.space, self._proposed[-1])

    def _tell(self, trial: CompletedTrial) -> None:
        metrics = [1 - trial.accuracy, float(trial.weights)]
        self._searcher.on_trial_complete(str(trial.number), self._proposed[trial.number], metrics)


class SyneTuneASHA(RawSearch):
    """Syne Tune's MO-ASHA with its defaults: random proposals, stopped at rungs after 1, 3, 9 epochs."""

    def __init__(self, space: SearchSpace, n_trials: int, seed: int = 0) -> None:
        from syne_tune.optimizer.schedulers.multiobjective.moasha import (  # pyright: ignore[reportMissingImports] - optional
            MOASHA,
        )

        super().__init__(space, n_trials, seed)
        _seed_globally(seed)
        settings = {"time_attr": _EPOCH, "max_t": space.training.epochs, "random_seed": seed}
        self._scheduler = MOASHA(_syne_tune_space(space), _METRICS, **settings)
        self._trials: list = []

    def _propose(self, number: int) -> dict:
        from datetime import datetime

        from syne_tune.backend.trial_status import Trial  # pyright: ignore[reportMissingImports] - optional

        config = self._scheduler.suggest().config
        self._trials.append(Trial(number, config, datetime.fromtimestamp(0)))
        self._scheduler.on_trial_add(self._trials[number])
        return _labels(self.space, config)

    def _epoch(self, record: TrialRecord) -> Decision:
        from syne_tune.optimizer.scheduler import SchedulerDecision  # pyright: ignore[reportMissingImports] - optional

        decision = self._scheduler.on_trial_result(self._trials[record.number], self._result(record))
        return Decision.STOP if decision == SchedulerDecision.STOP else Decision.CONTINUE

    def _tell(self, trial: CompletedTrial) -> None:
        self._scheduler.on_trial_complete(self._trials[trial.number], self._result(trial))

    @staticmethod
    def _result(trial: TrialRecord | CompletedTrial) -> dict:
        return {_EPOCH: len(trial.curve), "error": 1 - trial.curve[-1], "weights": float(trial.weights)}


def raw(sampler: str, table: TabularBenchmark, space: SearchSpace, seed: int) -> RawSearch:
    """The sampler of Optuna with this name, for as many proposals as there are architectures."""
    return RawOptuna(space, make_sampler(sampler, seed, space), len(table.by_id), seed)


def syne_tune(
    search: Callable[..., RawSearch],
    trials_per_architecture: int,
    table: TabularBenchmark,
    space: SearchSpace,
    seed: int,
) -> RawSearch:
    """One of Syne Tune's searches."""
    return search(space, trials_per_architecture * len(table.by_id), seed)


PEERS: dict[str, StrategyFactory] = {
    "tpe as it is": partial(raw, "tpe"),
    "nsga2 as it is": partial(raw, "nsga2"),
    "gp as it is": partial(raw, "gp"),
    "random as it is": partial(raw, "random"),
    "syne tune evolution as it is": partial(syne_tune, SyneTuneEvolution, 1),
    # Most of its trials end after an epoch.
    "syne tune mo-asha as it is": partial(syne_tune, SyneTuneASHA, 8),
}


def is_installed(search: str) -> bool:
    """Whether the package that this search of the comparison needs is installed."""
    return SYNE_TUNE or not search.startswith("syne tune")
