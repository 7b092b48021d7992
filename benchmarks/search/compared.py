"""The searches that search_efficiency.py compares: mgnas with one part changed, and its peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from mo_asha import MultiObjectiveASHA
from peers import PEERS

from mgnas.search.history.past_trainings import TaskEvaluations, shipped_tables
from mgnas.search.history.table import TabularBenchmark
from mgnas.search.samplers.acquisition import Front
from mgnas.search.samplers.candidate_pool import CandidatePool, costs, stacked
from mgnas.search.samplers.ehvi import EHVISampler
from mgnas.search.samplers.gaussian_process import AccuracyModel
from mgnas.search.samplers.outcome_transforms import LogErrorTransform
from mgnas.search.samplers.proposer import Proposer
from mgnas.search.samplers.study_snapshot import StudySnapshot
from mgnas.search.samplers.transfer_prior import TransferPrior
from mgnas.search.simulation.replay_pool import STRATEGIES, StrategyFactory
from mgnas.search.simulation.simulator import Search
from mgnas.search.strategy.learning_curves import Prediction
from mgnas.search.strategy.pausing import ParetoPausing, make_pausing_rule
from mgnas.search.strategy.strategy import Strategy
from mgnas.search.trial_record import TrialRecord
from mgnas.space.search_space import SearchSpace

BASE = "ehvi, other prior"
"""What mgnas does if a prior is named; all others are compared with it."""
WITHOUT_ADDED = "ehvi, other prior without what was added"
"""The prior of the networks that the other table had at first."""
_NODES = 7
_REPEATING = ("nsga2 as it is", "random as it is", "syne tune evolution as it is")
_SLOW = ("gp as it is", "syne tune mo-asha as it is")


@dataclass(frozen=True)
class Compared:
    """A search of the comparison.

    Args:
        factory: makes it.
        workers: simulated.
        seeds: number of searches at most; smaller if asks take seconds.
        trainings: number of whole trainings after which it is cut off; None: never.
    """

    factory: StrategyFactory
    workers: int = 1
    seeds: int = 40
    trainings: int | None = None


@lru_cache
def _other(name: str, added: bool) -> tuple[TaskEvaluations, TransferPrior]:
    """The trainings of another shipped table than the one of this name, and their model; once in a process.

    `added`: whether what was added to the other table counts as well.
    """
    other, path = next(item for item in shipped_tables().items() if item[0] != name.removesuffix("+added"))
    table = TabularBenchmark.load(path)
    past = TaskEvaluations.from_table(table if added else replace(table, added=None), other)
    return past, past.prior()


def ehvi(
    table: TabularBenchmark,
    space: SearchSpace,
    seed: int,
    *,
    sampler: Callable[..., EHVISampler] = EHVISampler,
    prior: bool = True,
    added: bool = True,
    shuffled: bool = False,
    stopping: str = "none",
    silent_curves: bool = False,
) -> Strategy:
    """mgnas's search with the other table as prior, or with one of its parts changed.

    Args:
        table, space, seed: as for every StrategyFactory.
        sampler: in place of mgnas's.
        prior: whether there is one.
        added: whether it knows what was added to the other table.
        shuffled: whether the prior's accuracies are permuted among its architectures.
        stopping: as in a config, or "mo-asha".
        silent_curves: whether the sampler is not told what unfinished curves predict.
    """
    past, model = _other(table.name, added)
    model = model.shuffled(seed) if shuffled else model
    epochs = space.training.epochs
    if stopping == "mo-asha":
        rule = MultiObjectiveASHA(epochs)
    else:
        rule = make_pausing_rule(stopping, epochs, past.curves if prior else ())
    if isinstance(rule, ParetoPausing) and silent_curves:
        rule = SilentPausing(rule.model)
    chosen = sampler(
        pool=CandidatePool(space, seed),
        prior=model if prior else None,
        seed=seed,
        outcome_transform=LogErrorTransform(),
    )
    # One trial more than there are architectures, so that in the end all of them are trained.
    return Strategy(space, chosen, len(table.by_id) + 1, seed=seed, pausing_rule=rule)


class SilentPausing(ParetoPausing):
    """Pauses, but does not tell the sampler what unfinished curves predict."""

    def curve_likelihood(self, record: TrialRecord) -> Prediction | None:
        return None


class ModelledCostProposer(Proposer):
    """Models the weights as well, as if they were not known before the training.

    A second Gaussian process models log10 of the weights; the expectation over it is taken by Gauss-Hermite quadrature.
    """

    def scores(
        self, front: Front, rows: np.ndarray, mean: np.ndarray, std: np.ndarray, snapshot: StudySnapshot
    ) -> np.ndarray:
        observed = stacked(snapshot.observed)
        posterior = AccuracyModel().fit(observed, costs(snapshot.observed), np.zeros(len(observed)))
        cost, cost_std = posterior.predict(self.pool.features[rows])
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        scores = [front.improvement(mean, std, cost + node * cost_std) for node in nodes]
        return weights / weights.sum() @ np.array(scores)


class ModelledCost(EHVISampler):
    """EHVISampler with ModelledCostProposer."""

    proposer_class = ModelledCostProposer


def noisy_ehvi(table: TabularBenchmark, space: SearchSpace, seed: int) -> Search:
    """BoTorch's qLogNEHVI."""
    from noisy_ehvi import NoisyEHVISearch

    return NoisyEHVISearch(table, space, seed)


COMPARED: dict[str, Compared] = {
    BASE: Compared(ehvi),
    WITHOUT_ADDED: Compared(partial(ehvi, added=False)),
    "ehvi": Compared(partial(ehvi, prior=False)),
    "ehvi, shuffled prior": Compared(partial(ehvi, shuffled=True)),
    "ehvi, other prior, 8 workers": Compared(ehvi, workers=8),
    "ehvi, 8 workers": Compared(partial(ehvi, prior=False), workers=8, seeds=20),
    "ehvi, other prior, pausing": Compared(partial(ehvi, stopping="pareto")),
    "ehvi, pausing": Compared(partial(ehvi, prior=False, stopping="pareto")),
    "ehvi, other prior, pausing, silent curves": Compared(
        partial(ehvi, stopping="pareto", silent_curves=True), seeds=20
    ),
    "ehvi, other prior, mo-asha": Compared(partial(ehvi, stopping="mo-asha"), seeds=20),
    "ehvi, other prior, modelled cost": Compared(partial(ehvi, sampler=ModelledCost), seeds=20),
    "ehvi, modelled cost": Compared(partial(ehvi, sampler=ModelledCost, prior=False), seeds=20),
    "random": Compared(STRATEGIES["random"]),
    "tpe": Compared(STRATEGIES["tpe"]),
    "nsga2": Compared(STRATEGIES["nsga2"]),
    "gp": Compared(STRATEGIES["gp"], seeds=20, trainings=60),
    "botorch qLogNEHVI": Compared(noisy_ehvi, seeds=20, trainings=60),
    "tpe as it is": Compared(PEERS["tpe as it is"], trainings=320),
    **{name: Compared(PEERS[name], seeds=20, trainings=320) for name in _REPEATING},
    **{name: Compared(PEERS[name], seeds=10, trainings=60) for name in _SLOW},
}
"""Optuna's samplers stand here twice: with mgnas's no-repeat layer, and "as it is", when a repeated proposal costs
again."""
