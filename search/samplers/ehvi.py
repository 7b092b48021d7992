"""An Optuna sampler for accuracy against a cost that is known before evaluation: exact EHVI with one Gaussian process.

EHVISampler is Optuna's side: directions, search spaces, threads, copies. How a point is chosen: proposer.py.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from ...space.parameter import Distribution
from ..trial_record import GaussianPrediction
from .candidate_pool import CandidatePool, DistributionPool, Pool
from .gp_hyperparameters import ModelFitError
from .model_based import ModelBasedSampler
from .outcome_transforms import IdentityTransform, LogErrorTransform, OutcomeTransform
from .proposer import Proposer
from .transfer_prior import TransferPrior

_MIN_TRUST = 0.3
"""A prior is not used if it predicts its own trainings with a smaller correlation."""

_logger = logging.getLogger(__name__)


@dataclass
class _StudyState:
    """What is kept of the study that was asked last.

    Args:
        study: the study.
        common: the parameters that its complete trials have in common.
        predictions: as `set_predictions` was given them.
        expected: trial number -> the accuracy expected when it was proposed, on the model's scale.
        proposer: chooses its points; None before the search space is known.
    """

    study: weakref.ref[Study]
    common: IntersectionSearchSpace = field(default_factory=IntersectionSearchSpace)
    predictions: Mapping[int, GaussianPrediction] = field(default_factory=dict)
    expected: dict[int, GaussianPrediction] = field(default_factory=dict)
    proposer: Proposer | None = None


class EHVISampler(ModelBasedSampler):
    """Proposes the candidate with the largest expected hypervolume improvement (EHVI).

    For any Optuna study of two objectives: the first is maximised, unknown before a trial and perhaps noisy, such as an
    accuracy; the second is minimised and can be computed from the parameters beforehand, such as a number of weights:

        import optuna
        from mgnas import EHVISampler

        def weights(params):
            return 9 * params["width"] ** 2 * params["depth"]

        def objective(trial):
            width = trial.suggest_int("width", 1, 64)
            depth = trial.suggest_int("depth", 1, 8)
            return train(width, depth), weights({"width": width, "depth": depth})

        sampler = EHVISampler(weights, seed=0)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        study.optimize(objective, n_trials=60)
        print(study.best_trials)

    The cost function is called with the same parameter values that the trial gets. Costs count on a log10 scale: the
    hypervolume is measured in units of the first objective x decades of cost.

    The first proposals are an initial design: a random point, then points spread over costs and features. With a prior
    they fill up the front that the prior predicts instead, because the scale of the accuracies, and so the model's
    uncertainty, are still unknown.
    After that the first objective is modelled by a Gaussian process. The front that is to be improved consists of the
    model's posterior means; of raw accuracies the luckiest would be the threshold. What may improve it is the next
    observation, noise included, because a part of what the model takes for noise is what the features do not tell of a
    network. A running trial stands in the front one standard deviation below its mean, so that proposals asked for in a
    row differ, but do not rely on each other's success. No point is proposed twice, nor one whose trial has failed.

    Args:
        cost: parameter values -> the second objective, greater than 0. May be None if `pool` is given, which knows the
            costs.
        search_space: name -> distribution. None: the parameters that all complete trials of the study have in common;
            the first trials are then random.
        encode: parameter values -> features of about 0..1 for the model, d; None: ranges scaled, choices one-hot.
        pool: the candidates to choose from, in place of `cost`, `search_space` and `encode`.
        prior: knowledge of another data set; needs a `CandidatePool`.
        startup: trials started before the model proposes, if there is no prior.
        seed: of all random choices.
        outcome_transform: the scale on which the first objective is modelled. LogErrorTransform() is for accuracies as
            fractions; None: its own scale.
        reference: (first objective, cost) that the hypervolume is measured from. None, for one of them or both: the
            lowest posterior mean so far and the largest cost in the pool. A candidate that costs as much as the
            reference is proposed only by the initial design.

    Raises:
        ValueError: neither cost nor pool, or a prior without a CandidatePool. When proposing: directions other than
            ["maximize", "minimize"], a cost that is not greater than 0, or a distribution that is no Int-, Float- or
            CategoricalDistribution.
    """

    proposer_class: type[Proposer] = Proposer
    """Chooses the points of a study; a subclass may choose otherwise."""

    def __init__(
        self,
        cost: Callable[[dict[str, Any]], float] | None = None,
        search_space: Mapping[str, BaseDistribution] | None = None,
        *,
        encode: Callable[[dict[str, Any]], np.ndarray] | None = None,
        pool: Pool | None = None,
        prior: TransferPrior | None = None,
        startup: int = 6,
        seed: int | None = None,
        outcome_transform: OutcomeTransform | None = None,
        reference: tuple[float | None, float | None] | None = None,
    ) -> None:
        if cost is None and pool is None:
            raise ValueError("give cost, a function of the parameter values, or a pool, which knows the costs")
        if prior is not None and not isinstance(pool, CandidatePool):
            raise ValueError("a prior predicts architectures: give a CandidatePool with it")
        if prior is not None and prior.trust < _MIN_TRUST:
            _logger.warning("the prior cannot predict its own trainings (correlation %.2f): left out", prior.trust)
            prior = None
        self._cost, self._encode, self._seed = cost, encode, seed
        self._pool, self._search_space = pool, search_space
        self._prior, self._startup, self._reference = prior, startup, reference
        self._outcome_transform = outcome_transform or IdentityTransform()
        self._rng = np.random.default_rng(seed)
        self._independent = RandomSampler(seed)
        self._lock = threading.Lock()
        self._state: _StudyState | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but the lock and what is known of the study, which a copy reads anew."""
        return {name: value for name, value in vars(self).items() if name != "_lock"} | {"_state": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()

    def reseed_rng(self) -> None:
        """Forget the seed; Optuna asks for this in each of several parallel workers."""
        self._seed, self._rng = None, np.random.default_rng()
        self._independent.reseed_rng()
        if self._pool is not None:
            self._pool.rng = np.random.default_rng()
        if self._state is not None and self._state.proposer is not None:
            self._state.proposer.reseed(self._rng)

    def set_predictions(self, study: Study, predictions: Mapping[int, GaussianPrediction]) -> None:
        with self._lock:
            self._enter(study).predictions = dict(predictions)

    def expectation(self, study: Study, number: int) -> GaussianPrediction | None:
        with self._lock:
            known = isinstance(self._outcome_transform, LogErrorTransform)
            return self._enter(study).expected.get(number) if known else None

    def expected_gain(self, study: Study, trials: int) -> float | None:
        with self._lock:
            state = self._enter(study)
            if state.proposer is None:
                return None
            try:
                return state.proposer.expected_gain(study.get_trials(deepcopy=False), state.predictions, trials)
            except ModelFitError as error:
                _logger.debug("the expected gain is not known: %s", error)
                return None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if study.directions != [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]:
            names = [direction.name.lower() for direction in study.directions]
            raise ValueError(f"EHVISampler needs the directions ['maximize', 'minimize'], the study has {names}")
        if self._pool is not None:
            return {**self._pool.distributions}
        if self._search_space is not None:
            return {**self._search_space}
        with self._lock:
            return self._enter(study).common.calculate(study)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal; {} if nothing unseen is left, or if `enqueue_trial` fixed the parameters."""
        if not search_space or "fixed_params" in trial.system_attrs:
            return {}
        with self._lock:
            state = self._enter(study)
            proposer = self._proposer(state, search_space)
            proposal = proposer.propose(study.get_trials(deepcopy=False), trial.number, state.predictions)
            if proposal is None:
                return {}
            if proposal.expected is not None:
                state.expected[trial.number] = proposal.expected
            return dict(proposal.point.params)

    def _enter(self, study: Study) -> _StudyState:
        """What is kept of this study; that of another study is forgotten."""
        # NOTE: A study's name is unique in its storage only, so the study object itself is remembered.
        if self._state is None or self._state.study() is not study:
            self._state = _StudyState(weakref.ref(study))
        return self._state

    def _proposer(self, state: _StudyState, search_space: dict[str, BaseDistribution]) -> Proposer:
        """The proposer of a study; a new one if the search space, perhaps an inferred one, has changed."""
        if state.proposer is None or state.proposer.pool.distributions != search_space:
            state.proposer = self.proposer_class(
                self._pool or self._distribution_pool(search_space),
                self._rng,
                self._prior,
                self._startup,
                self._outcome_transform,
                self._reference,
            )
        return state.proposer

    def _distribution_pool(self, search_space: dict[str, BaseDistribution]) -> Pool:
        assert self._cost is not None, "checked when the sampler was made"
        return DistributionPool(_supported(search_space), self._cost, self._encode, self._seed)


def _supported(search_space: Mapping[str, BaseDistribution]) -> dict[str, Distribution]:
    """The same search space.

    Raises:
        ValueError: a distribution of another kind than Optuna's three.
    """
    supported: dict[str, Distribution] = {}
    for name, distribution in search_space.items():
        if not isinstance(distribution, IntDistribution | FloatDistribution | CategoricalDistribution):
            kind = type(distribution).__name__
            raise ValueError(f"{name}: EHVISampler needs an Int-, Float- or CategoricalDistribution, got {kind}")
        supported[name] = distribution
    return supported
