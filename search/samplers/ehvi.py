"""An Optuna sampler for accuracy against a cost that is known before evaluation: exact EHVI with one Gaussian process.

Usable in any study of two objectives, the first maximised and unknown, the second minimised and computable:

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=EHVISampler(cost=weights_of))

Costs enter on a log10 scale: the hypervolume is measured in accuracy x decades of cost.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from ..optuna_schema import EXPECTED, REPEAT
from .acquisition import Front, gaps
from .candidate_pool import CandidatePool, DistributionPool, Point, Pool, stacked
from .features import FEATURES
from .gaussian_process import AccuracyModel, ModelFitError
from .greedy_batch import greedy_batch
from .initial_design import initial_design
from .outcome_transforms import IdentityTransform, LogErrorTransform, OutcomeTransform
from .study_snapshot import StudyReader, StudySnapshot
from .transfer_prior import TransferPrior

_FEWEST, _FEWEST_IN_PARALLEL = 4, 2
"""StudyReader below which no model is fitted; where others run meanwhile, it must not wait for as many."""
_STEPS = 500
"""Observed points whose posterior means make the staircase; those nearest to it by their raw accuracies."""
_PREDICTIONS = 3_000_000
"""Candidates x observations that one ask may predict, a tenth of a second or two."""
_LEAST_LOOK = 1_000
"""But so many candidates at least, if there are."""
_LEAST_TRUST = 0.3
"""A prior that knows its own trainings no better is not used."""
_CONDITIONED = 1_200
"""StudyReader that the model is conditioned on at most; the factorisation of 1,200 takes some 0.05 s."""
_BELIEVED = 500
"""Pending trials that it takes into account at most, the youngest ones."""
_BATCHED, _BATCHED_RUNNING = 0.005, 0.125
"""Proposals are made for so many asks at once, as a part of the trials so far, or of those that run: one by one up to
300 trials and 12 workers."""
_SHORTLIST = 4
"""So many times as many candidates are considered for a batch."""
_REPEATED = 20
"""Observed configurations that are considered for a repeat."""

_logger = logging.getLogger(__name__)


class EHVISampler(BaseSampler):
    """Proposes the candidate with the largest expected hypervolume improvement.

    The first proposals are spread over cost and features. With a prior, the first ones instead fill up the front that
    the prior predicts, since its scale, and so its uncertainty, are still unknown. From then on the accuracy is
    modelled by a Gaussian process. The staircase that is to be improved consists of the model's posterior means, not
    of raw accuracies, among which the luckiest would be the threshold. What may improve it is what will be observed:
    the noise counts as the candidate's own, since part of what the model takes for noise is what the features do not
    tell of a network. Running trials count with what they are believed to reach at least, one standard deviation below
    their mean, so that proposals asked for in a row differ, but do not rely on each other.

    Args:
        cost: parameter values -> the second objective, greater than 0; its log10 is taken inside. May be None if
            `pool` is given, which then knows the costs.
        search_space: name -> distribution; None: what all complete trials of the study have in common.
        encode: parameter values -> features of about 0..1 for the model; None: ranges scaled, choices one-hot.
        pool: the candidates to choose from, in place of `search_space` and `encode`.
        prior: knowledge of another data set; needs a `CandidatePool`.
        startup: trials started before the model proposes; without a prior.
        seed: of all random choices.
        repeats: how many trainings a configuration may have. More than 1: an observed one near the front is proposed
            again, marked by the trial's system attribute "mgnas:repeat", when that promises more than a new one. The
            promise of a training is the hypervolume that is expected to come from the change of the posterior mean
            that it brings, whose standard deviation is s^2 / sqrt(s^2 + noise^2) for a posterior standard deviation s
            (Frazier, Powell & Dayanik 2009, "The knowledge-gradient policy"). The best new candidate and the
            observed ones are compared by it on equal terms.
        scale: on which the first objective is modelled: LogErrorTransform() for accuracies as fractions. None: as
            it is.
        reference: (accuracy, cost) that the hypervolume is measured from; None: the lowest posterior mean so far and
            the largest cost in the pool. What costs as much as the reference is proposed by the start only.

    Raises:
        ValueError: neither cost nor pool, or a prior without configurations to apply it to. When proposing: a study
            with other directions, or a cost that is not greater than 0.
    """

    def __init__(
        self,
        cost: Callable[[dict[str, Any]], float] | None,
        search_space: dict[str, BaseDistribution] | None = None,
        *,
        encode: Callable[[dict[str, Any]], np.ndarray] | None = None,
        pool: Pool | None = None,
        prior: TransferPrior | None = None,
        startup: int = 6,
        seed: int | None = None,
        repeats: int = 1,
        scale: OutcomeTransform | None = None,
        reference: tuple[float, float] | None = None,
    ) -> None:
        if cost is None and pool is None:
            raise ValueError("give cost, a function of the parameter values, or a pool, which knows the costs")
        if prior is not None and not isinstance(pool, CandidatePool):
            raise ValueError("a prior predicts architectures: give a CandidatePool with it")
        self._cost, self._encode, self._seed = cost, encode, seed
        if prior is not None and prior.trust < _LEAST_TRUST:
            _logger.warning("the prior cannot predict its own trainings (correlation %.2f): left out", prior.trust)
            prior = None
        self._given_pool, self._search_space = pool, search_space
        self._prior, self._startup, self._repeats, self._reference = prior, startup, repeats, reference
        self._scale = scale or IdentityTransform()
        self._rng = np.random.default_rng(seed)
        self._shift = self._rng.random()
        self._independent = RandomSampler(seed)
        self._lock = threading.Lock()
        self._study: tuple[Any, int] | None = None
        self._pool: Pool | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy reads its study anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"} | {"_study": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def reseed_rng(self) -> None:
        """Forget the seed, as Optuna asks for in each of several parallel workers."""
        self._seed, self._rng = None, np.random.default_rng()
        self._shift = self._rng.random()
        self._independent.reseed_rng()
        for pool in filter(None, (self._given_pool, self._pool)):
            pool.rng = np.random.default_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if study.directions != [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]:
            found = [direction.name.lower() for direction in study.directions]
            raise ValueError(f"EHVISampler needs the directions ['maximize', 'minimize'], the study has {found}")
        with self._lock:
            self._enter(study)
            if self._given_pool is not None:
                return self._given_pool.distributions
            if self._search_space is not None:
                return self._search_space
            return self._common.calculate(study)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal; {} when there is nothing new left or the parameters are fixed by `enqueue_trial`."""
        if not search_space or "fixed_params" in trial.system_attrs:
            return {}
        with self._lock:
            self._use(search_space)
            point, again = self._next(study, trial)
            if point is None:
                return {}
            self._observations.announce(trial.number, point)
        if again:
            study._storage.set_trial_system_attr(trial._trial_id, REPEAT, True)
        if self._expected is not None and isinstance(self._scale, LogErrorTransform):
            study._storage.set_trial_system_attr(trial._trial_id, EXPECTED, self._expected)
        return dict(point.values)

    def _enter(self, study: Study) -> None:
        """Forget another study's trials."""
        if self._study is None or self._study[0] is not study._storage or self._study[1] != study._study_id:
            self._study = (study._storage, study._study_id)
            self._common = IntersectionSearchSpace()
            self._pool = None

    def _use(self, search_space: dict[str, BaseDistribution]) -> None:
        """Make the pool ready for the search space, which may have changed if it is inferred."""
        if self._pool is not None and self._pool.distributions == search_space:
            return
        self._pool = self._given_pool or DistributionPool(search_space, self._cost, self._encode, self._seed)
        self._pool.refresh()
        self._observations = StudyReader(self._pool)
        self._model = AccuracyModel()
        if self._prior is not None:
            self._model = AccuracyModel(self._prior.trust, self._prior.hyperparameters)
        self._waiting: list[tuple[Point, list[float]]] = []
        self._predicted: dict[str, float] = {}
        self._warned = False

    def _next(self, study: Study, trial: FrozenTrial) -> tuple[Point | None, bool]:
        """The proposal, and whether it is a repeat; one of a batch that was made together, if there is one left."""
        if self._waiting:
            point, self._expected = self._waiting.pop(0)
            return point, False
        snapshot = self._observations.read(study.get_trials(deepcopy=False), trial.number)
        point = self._propose(snapshot)
        return point, point is not None and point.id in snapshot.seen

    def _propose(self, snapshot: StudySnapshot) -> Point | None:
        self._expected = None
        observed, pending = len(snapshot.observed), len(snapshot.pending)
        fewest = _FEWEST_IN_PARALLEL if observed + pending >= _FEWEST else _FEWEST
        if observed < fewest or (self._prior is None and observed + pending < self._startup):
            return self._spread(snapshot) if self._prior is None else self._by_prior(snapshot)
        try:
            return self._by_model(snapshot)
        except ModelFitError as error:
            if not self._warned:
                _logger.warning("no model could be fitted (%s); proposals are spread over the space instead", error)
                self._warned = True
            return self._spread(snapshot)

    def _spread(self, snapshot: StudySnapshot) -> Point | None:
        return initial_design(self._pool, snapshot, self._shift, self._rng)

    def _by_prior(self, snapshot: StudySnapshot) -> Point | None:
        """The candidate that adds most to the front that the prior predicts for what was proposed before."""
        pool, taken = self._pool, snapshot.points
        means = self._prior_means(taken)
        if taken:
            pool.refresh(_on_front(taken, means), snapshot.seen)
        rows = np.flatnonzero(pool.unseen(snapshot.seen))
        if not len(rows):
            return None
        mean = self._prior_means(pool.points)
        # NOTE: Without a spread: with one, networks that a prior cannot tell apart would follow each other.
        front = self._front(taken, means, mean.min())
        scores = front.improvement(mean[rows], np.zeros(len(rows)), pool.log_cost[rows])
        pool.rate(rows, scores)
        return pool.points[rows[np.argmax(scores)]] if scores.max() > 0 else self._spread(snapshot)

    def _by_model(self, snapshot: StudySnapshot) -> Point | None:
        """The candidate, or the repeat, with the largest expected hypervolume improvement.

        Raises:
            ModelFitError: from the model.
        """
        pool, model = self._pool, self._model
        self._condition(snapshot)
        steps, means = self._steps(snapshot)
        pool.refresh(_on_front(steps, means), snapshot.seen)
        front = self._front(steps, means, means.min())
        rows = pool.look(self._taken(snapshot), max(_PREDICTIONS // model.size, _LEAST_LOOK))
        best, gain = None, 0.0
        if len(rows):
            mean, std = model.predict(*self._inputs([pool.points[row] for row in rows]))
            observed_std = np.hypot(std, model.noise)
            scores = self._scores(front, rows, mean, observed_std, snapshot)
            pool.rate(rows, scores)
            at = [int(np.argmax(scores))]
            if scores[at[0]] > 0:
                best = pool.points[rows[at[0]]]
                self._expected = [float(mean[at[0]]), float(observed_std[at[0]])]
                gain = front.improvement(mean[at], _learned(std[at], model.noise), pool.log_cost[rows[at]])[0]
                self._wait(front, rows, scores, mean, snapshot)
        again = self._repeat(snapshot, steps, front, gain)
        if again is not None or best is None:
            self._expected, self._waiting = None, []
        return again or best or self._spread(snapshot)

    def _condition(self, snapshot: StudySnapshot) -> None:
        """Fit the model to the observations and the pending trials; of very many, to the more telling ones.

        These are the ones nearest to the staircase, where the choice falls, and a random half from everywhere.
        """
        accuracy = self._scale.transform(snapshot.accuracy)
        variance = self._scale.transform_variance(snapshot.accuracy, snapshot.variance)
        features, prior = self._inputs(snapshot.observed)
        rows = np.arange(len(accuracy))
        if len(rows) > _CONDITIONED:
            order = np.argsort(gaps(_costs(snapshot.observed), accuracy), kind="stable")
            rest = np.random.default_rng(0).permutation(order[_CONDITIONED // 2 :])
            rows = np.sort(np.concatenate([order[: _CONDITIONED // 2], rest[: _CONDITIONED - _CONDITIONED // 2]]))
        known = None if prior is None else prior[rows]
        self._model.fit(features[rows], accuracy[rows], variance[rows], known, len(accuracy))
        if snapshot.pending:
            self._model.condition_on_pending(*self._inputs(snapshot.pending[-_BELIEVED:]))

    def _steps(self, snapshot: StudySnapshot) -> tuple[list[Point], np.ndarray]:
        """What makes the staircase: distinct points; their posterior means, or what running ones reach at least."""
        accuracy = self._scale.transform(snapshot.accuracy)
        near = np.argsort(gaps(_costs(snapshot.observed), accuracy), kind="stable")[:_STEPS]
        known = {snapshot.observed[row].id: snapshot.observed[row] for row in np.sort(near)}
        running = {point.id: point for point in snapshot.pending if point.id not in known}
        means = self._model.mean(*self._inputs([*known.values()]))
        if running:
            mean, std = self._model.predict(*self._inputs([*running.values()]))
            means = np.concatenate([means, mean - np.hypot(std, self._model.noise)])
        return [*known.values(), *running.values()], means

    def _wait(
        self, front: Front, rows: np.ndarray, scores: np.ndarray, mean: np.ndarray, snapshot: StudySnapshot
    ) -> None:
        """Choose the candidates of the next asks as well, in a search of hundreds of trials or of many workers.

        Where two hundred times as many trials are known, or eight times as many still run, the model would hardly learn
        anything in between.
        """
        count = round(max(_BATCHED * snapshot.started, _BATCHED_RUNNING * len(snapshot.pending)))
        if count < 2:
            return
        top = np.argsort(-scores, kind="stable")[: _SHORTLIST * count]
        points, noise = [self._pool.points[row] for row in rows[top]], self._model.noise
        covariance = self._model.covariance(*self._inputs(points))
        for row, std in greedy_batch(front, mean[top], self._pool.log_cost[rows[top]], covariance, noise, count):
            self._waiting.append((points[row], [float(mean[top[row]]), math.hypot(std, noise)]))

    def _scores(self, front: Front, rows: np.ndarray, mean: np.ndarray, std: np.ndarray, snapshot: StudySnapshot):
        """Expected hypervolume improvement of the pool's points in these rows; `std` is that of observations."""
        return front.improvement(mean, std, self._pool.log_cost[rows])

    def _taken(self, snapshot: StudySnapshot) -> Collection[str]:
        """Ids that are not proposed as new."""
        return snapshot.seen

    def _repeat(self, snapshot: StudySnapshot, steps: list[Point], front: Front, gain: float) -> Point | None:
        """The observed configuration whose repeated training promises most, if that is more than `gain`.

        Its own point is taken out of the front. What its training then adds in expectation, more than it has already,
        is the value of knowing it better; positive by Jensen's inequality, since a disappointment leaves the others
        standing.
        """
        finished = {point.id for point, v in zip(snapshot.observed, snapshot.variance, strict=True) if v == 0}
        again = {name for name in finished - snapshot.failed if snapshot.trainings[name] < self._repeats}
        rows = [row for row in np.argsort(front.gaps(), kind="stable") if steps[row].id in again][:_REPEATED]
        best = None
        if not rows:
            return best
        _, std = self._model.predict(*self._inputs([steps[row] for row in rows]))
        for row, learned in zip(rows, _learned(std, self._model.noise), strict=True):
            mean, cost = np.full(2, front.accuracy[row]), np.full(2, front.cost[row])
            known_better, now = front.without(row).improvement(mean, np.array([learned, 0.0]), cost)
            if known_better - now > gain:
                best, gain = steps[row], known_better - now
        return best

    def _front(self, points: Sequence[Point], means: np.ndarray, lowest: float) -> Front:
        """Of points with these means on the model's scale; measured from `lowest` unless a reference is given."""
        cost = self._pool.largest_cost
        if self._reference is not None:
            lowest, cost = float(self._scale.transform(self._reference[0])), math.log10(self._reference[1])
        return Front(_costs(points), means, cost, lowest, self._scale.improvement)

    def _inputs(self, points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray | None]:
        """Features and, with a prior, its predictions: what the model takes."""
        return stacked(points), None if self._prior is None else self._prior_means(points)

    def _prior_means(self, points: Sequence[Point]) -> np.ndarray:
        """What the prior predicts, n, on the model's scale; asked once for each point."""
        new = [point for point in points if point.id not in self._predicted]
        if new:
            means = self._prior.mean_of_features(stacked(new)[:, : len(FEATURES)])
            self._predicted.update(zip((point.id for point in new), means.tolist(), strict=True))
        return self._scale.transform([self._predicted[point.id] for point in points])


def _costs(points: Sequence[Point]) -> np.ndarray:
    return np.array([point.log_cost for point in points])


def _on_front(points: Sequence[Point], accuracy: np.ndarray) -> list[dict[str, Any]]:
    """The values of those points that make the staircase."""
    return [points[row].values for row in np.flatnonzero(gaps(_costs(points), accuracy) == 0)]


def _learned(std: np.ndarray, noise: float) -> np.ndarray:
    """Standard deviation of the change of a posterior mean when one noisy observation is added there."""
    return std**2 / np.sqrt(std**2 + noise**2)
