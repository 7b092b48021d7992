"""The searches that search_efficiency.py compares: mgnas with parts left out, and its peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from peers import PEERS

from mgnas.search.history.past_trainings import TaskEvaluations, shipped_tables
from mgnas.search.history.table import TabularBenchmark
from mgnas.search.samplers.candidate_pool import CandidatePool, Point
from mgnas.search.samplers.ehvi import EHVISampler
from mgnas.search.samplers.gaussian_process import AccuracyModel
from mgnas.search.samplers.outcome_transforms import LogErrorTransform
from mgnas.search.samplers.study_snapshot import StudySnapshot
from mgnas.search.samplers.transfer_prior import TransferPrior
from mgnas.search.simulation.replay_pool import STRATEGIES, StrategyFactory
from mgnas.search.strategy.learning_curves import Prediction
from mgnas.search.strategy.pausing import ParetoPausing, make_pausing_rule
from mgnas.search.strategy.strategy import Strategy
from mgnas.space.search_space import SearchSpace

BASE = "ehvi, other prior"
"""What mgnas does by default; all others are compared with it."""
_NODES = 7
_REPEATING = ("nsga2 as it is", "random as it is", "syne tune evolution as it is")
_SLOW = ("gp as it is", "syne tune mo-asha as it is")


@dataclass(frozen=True)
class Compared:
    """A search of the comparison.

    Args:
        factory: makes it.
        workers: simulated.
        seeds: at most so many searches; fewer where asks take seconds.
        trainings: whole ones after which it is cut off; None: never.
    """

    factory: StrategyFactory
    workers: int = 1
    seeds: int = 40
    trainings: int | None = None


@lru_cache
def _other(name: str) -> tuple[TaskEvaluations, TransferPrior]:
    """The trainings of another shipped table than that of this name, and their model; once in a process."""
    trainings = TaskEvaluations.load(next(other for other in shipped_tables() if other != name))
    return trainings, trainings.prior()


def ehvi(
    table: TabularBenchmark,
    space: SearchSpace,
    seed: int,
    *,
    sampler: Callable[..., EHVISampler] = EHVISampler,
    prior: bool = True,
    shuffled: bool = False,
    stopping: str = "none",
    evidence: bool = True,
    repeats: int = 1,
) -> Strategy:
    """mgnas's search with the other table as prior, or with one of its parts changed.

    Args:
        sampler: in the place of mgnas's.
        prior: whether there is one.
        shuffled: whether the prior's accuracies are permuted among its architectures.
        stopping: as in a config.
        evidence: whether the sampler is told what unfinished curves let expect.
        repeats: trainings that an architecture may have.
    """
    trainings, known = _other(table.name)
    known = known.shuffled(seed) if shuffled else known
    rule = make_pausing_rule(stopping, space.training.epochs, trainings.curves if prior else ())
    if isinstance(rule, ParetoPausing) and not evidence:
        rule = _Silent(rule.model)
    chosen = sampler(
        None,
        pool=CandidatePool(space, seed),
        prior=known if prior else None,
        seed=seed,
        scale=LogErrorTransform(),
        repeats=repeats,
    )
    trials = repeats * len(table.by_id) + 1  # More than there are: in the end everything is trained.
    return Strategy(space, chosen, trials, seed=seed, stopping=rule)


class _Silent(ParetoPausing):
    """Pauses, but keeps what unfinished curves say to itself."""

    def curve_likelihood(self, record) -> Prediction | None:
        return None


class ModelledCost(EHVISampler):
    """Does not know what a network weighs before its training: the weights are modelled as well.

    A second Gaussian process models log10 of the weights; the expectation over it is taken by Gauss-Hermite quadrature.
    """

    def _scores(
        self, front, rows: np.ndarray, mean: np.ndarray, std: np.ndarray, snapshot: StudySnapshot
    ) -> np.ndarray:
        known = np.stack([point.features for point in snapshot.observed])
        model = AccuracyModel()
        model.fit(known, np.array([point.log_cost for point in snapshot.observed]), np.zeros(len(known)))
        cost, doubt = model.predict(self._pool.features[rows])
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        scores = [front.improvement(mean, std, cost + node * doubt) for node in nodes]
        return weights / weights.sum() @ np.array(scores)


class Repeating(EHVISampler):
    """May propose what was trained already, as samplers do that know of no repeats."""

    def _taken(self, snapshot: StudySnapshot) -> set[str]:
        return snapshot.failed | {point.id for point in snapshot.pending}

    def _spread(self, snapshot: StudySnapshot) -> Point | None:
        return self._pool.points[self._rng.integers(len(self._pool.points))]


def noisy_ehvi(table: TabularBenchmark, space: SearchSpace, seed: int):
    """BoTorch's qLogNEHVI."""
    from noisy_ehvi import NoisyEHVISearch

    return NoisyEHVISearch(table, space, seed)


COMPARED: dict[str, Compared] = {
    BASE: Compared(ehvi),
    "ehvi": Compared(partial(ehvi, prior=False)),
    "ehvi, shuffled prior": Compared(partial(ehvi, shuffled=True)),
    "ehvi, other prior, 8 workers": Compared(ehvi, workers=8),
    "ehvi, 8 workers": Compared(partial(ehvi, prior=False), workers=8, seeds=20),
    "ehvi, other prior, pausing": Compared(partial(ehvi, stopping="pareto")),
    "ehvi, pausing": Compared(partial(ehvi, prior=False, stopping="pareto")),
    "ehvi, other prior, pausing, silent curves": Compared(partial(ehvi, stopping="pareto", evidence=False), seeds=20),
    "ehvi, other prior, mo-asha": Compared(partial(ehvi, stopping="mo-asha"), seeds=20),
    "ehvi, other prior, 3 repeats": Compared(partial(ehvi, repeats=3), seeds=20),
    "ehvi, other prior, modelled cost": Compared(partial(ehvi, sampler=ModelledCost), seeds=20),
    "ehvi, modelled cost": Compared(partial(ehvi, sampler=ModelledCost, prior=False), seeds=20),
    "ehvi, other prior, with repetitions": Compared(
        partial(ehvi, sampler=Repeating, repeats=1000), seeds=20, trainings=320
    ),
    "random": Compared(STRATEGIES["random"]),
    "tpe": Compared(STRATEGIES["tpe"]),
    "nsga2": Compared(STRATEGIES["nsga2"]),
    "gp": Compared(STRATEGIES["gp"], seeds=20, trainings=60),
    "botorch qLogNEHVI": Compared(noisy_ehvi, seeds=20, trainings=60),
    "tpe as it is": Compared(PEERS["tpe as it is"], trainings=320),
    **{name: Compared(PEERS[name], seeds=20, trainings=320) for name in _REPEATING if name in PEERS},
    **{name: Compared(PEERS[name], seeds=10, trainings=60) for name in _SLOW if name in PEERS},
}
"""Optuna's samplers stand behind mgnas's no-repeat layer, or as they are, where a repeated proposal costs again."""
