"""How EHVISampler chooses the next point of one study, and what it keeps of that study from one ask to the next.

Notation:
    observed    n points whose accuracy is known or predicted
    pending     p points of other unfinished trials
    front       points that make the staircase; their accuracies are the model's means, on its scale
    rows        indices into the pool's points
    mean, std   of a candidate's accuracy, on the model's scale
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from optuna.trial import FrozenTrial

from ..trial_record import GaussianPrediction
from .acquisition import Front, gaps
from .candidate_pool import Point, Pool, costs, stacked
from .gaussian_process import AccuracyModel, AccuracyPosterior
from .gp_hyperparameters import Hyperparameters, ModelFitError
from .greedy_batch import greedy_batch
from .initial_design import initial_design
from .outcome_transforms import OutcomeTransform
from .outlook.rollouts import expected_gain
from .study_snapshot import StudyReader, StudySnapshot
from .transfer_prior import TransferPrior

_MIN_OBSERVED, _MIN_OBSERVED_IN_PARALLEL = 4, 2
"""With fewer observed points no model is fitted. While other trials run, fewer must do: their results take long."""
_MAX_STEPS = 500
"""Observed points whose posterior means make the front; those nearest to it by their raw accuracies."""
_MAX_PREDICTIONS = 3_000_000
"""Candidates x observations that one ask may predict; takes 0.1 to 0.2 s."""
_MIN_CANDIDATES = 1_000
"""Candidates that an ask predicts at least, if there are as many."""
_MAX_CONDITIONED = 1_200
"""Observed points that the model is conditioned on at most; factorising their covariance takes about 0.05 s."""
_MAX_PENDING = 500
"""Pending points that the model is conditioned on at most, the youngest ones."""
_BATCH_SHARE, _BATCH_SHARE_OF_RUNNING = 0.005, 0.125
"""Size of a batch of proposals, as a share of the trials so far and of the running ones; the larger one counts.

Proposals are made one by one up to 300 trials and 12 workers.
"""
_SHORTLIST = 4
"""Candidates considered for a batch, as a multiple of its size."""

_MAX_FRONT, _MIN_PROMISING, _PROMISING = 40, 60, 4
"""Networks near the front, and promising candidates (at least, and as a multiple of the trials), of a rollout."""
_MAX_PENDING_IN_ROLLOUTS = 100
"""Pending trials that a rollout ends, at most, the youngest ones."""
_MARGIN = 0.1
"""The share of the front's extent by which the reference of the expected gain lies below the front."""

_CLIMBS = 4
"""Rounds of local search about the most promising candidates of a large space; a round takes about 0.03 s."""

_logger = logging.getLogger(__name__)


class Proposal(NamedTuple):
    """A point to train next.

    Args:
        point: the point.
        expected: its accuracy as observed, on the model's scale; None: the model had no part in the choice.
    """

    point: Point
    expected: GaussianPrediction | None = None


class Proposer:
    """Chooses the points of one study.

    Args:
        pool: the candidates; filled here.
        rng: of the initial design.
        prior: of another data set; None: none.
        startup: trials started before the model proposes; without a prior.
        outcome_transform: gives the scale on which the accuracy is modelled.
        reference: (accuracy, cost) that the hypervolume is measured from; None: see EHVISampler.
    """

    def __init__(
        self,
        pool: Pool,
        rng: np.random.Generator,
        prior: TransferPrior | None,
        startup: int,
        outcome_transform: OutcomeTransform,
        reference: tuple[float | None, float | None] | None,
    ) -> None:
        self.pool, self.rng = pool, rng
        self._prior, self._startup, self._transform = prior, startup, outcome_transform
        self._reference = reference or (None, None)
        pool.refresh()
        self.reader = StudyReader(pool)
        self.model = AccuracyModel() if prior is None else AccuracyModel(prior.trust, prior.hyperparameters(pool.added))
        self.waiting: list[Proposal] = []
        self._prior_accuracy: dict[str, float] = {}
        self._warned = False

    def propose(
        self, trials: Sequence[FrozenTrial], number: int, predictions: Mapping[int, GaussianPrediction]
    ) -> Proposal | None:
        """The proposal for a trial: one left over from a batch, or a new one; None if nothing unseen is left.

        Args:
            trials: all of the study.
            number: of the trial that is asked for.
            predictions: trial number -> predicted final accuracy of an unfinished trial.
        """
        proposal = self.waiting.pop(0) if self.waiting else self._new(self.reader.read(trials, number, predictions))
        if proposal is not None:
            self.reader.announce(number, proposal.point)
        return proposal

    def expected_gain(
        self, trials: Sequence[FrozenTrial], predictions: Mapping[int, GaussianPrediction], count: int
    ) -> float | None:
        """What `count` further trials are expected to add to the hypervolume, as a share of today's.

        Today's hypervolume is that of the posterior's accuracies, running trials included. It is measured from the
        reference that the user gave; else from the largest cost of the pool, and from the accuracy at the lower end of
        the front less a tenth of the front's extent. Nothing is learned here and no random number of the search is
        used: proposals stay the same.

        Returns:
            the share; None before the model has learned anything, or if there is no front to measure.

        Raises:
            ModelFitError: a numerical failure.
        """
        snapshot = self.reader.read(trials, -1, predictions)
        learned, pool = self.model.hyperparameters, self.pool
        if learned is None or len(snapshot.observed) < _MIN_OBSERVED:
            return None
        posterior = self._conditioned(snapshot, learned)
        rows = np.flatnonzero(pool.unseen(snapshot.seen))
        most = max(_MAX_PREDICTIONS // posterior.size, _MIN_CANDIDATES)
        rows = rows[np.argsort(-pool.scores[rows], kind="stable")[:most]]
        observed, pending = {p.id: p for p in snapshot.observed}, {p.id: p for p in snapshot.pending}
        points = [*observed.values()]
        means = posterior.mean(*self._inputs(points))
        reference = self._gain_reference(points, means)
        if reference is None:
            return None
        near = np.argsort(gaps(costs(points), means), kind="stable")[:_MAX_FRONT]
        trained = [points[row] for row in near]
        running = [point for id_, point in pending.items() if id_ not in observed][-_MAX_PENDING_IN_ROLLOUTS:]
        front = self._front(points, means, means.min())
        candidates: list[Point] = []
        if len(rows):
            mean, std = posterior.predict(*self._inputs([pool.points[row] for row in rows]))
            scores = front.improvement(mean, np.hypot(std, posterior.noise), pool.log_cost[rows])
            promising = np.argsort(-scores, kind="stable")[: max(_PROMISING * count, _MIN_PROMISING)]
            candidates = [pool.points[row] for row in rows[promising]]
        everything = [*trained, *running, *candidates]
        inputs = self._inputs(everything)
        before, gain = expected_gain(
            posterior.mean(*inputs),
            posterior.covariance(*inputs),
            posterior.noise,
            costs(everything),
            len(trained),
            len(running),
            count,
            front,
            reference,
            self._transform,
        )
        return gain / before if before > 0 else None

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw from other random numbers from now on."""
        self.rng = rng
        self.pool.rng = np.random.default_rng()

    def _new(self, snapshot: StudySnapshot) -> Proposal | None:
        observed, pending = len(snapshot.observed), len(snapshot.pending)
        needed = _MIN_OBSERVED_IN_PARALLEL if observed + pending >= _MIN_OBSERVED else _MIN_OBSERVED
        if observed < needed or (self._prior is None and observed + pending < self._startup):
            return self._by_design(snapshot) if self._prior is None else self._by_prior(snapshot, self._prior)
        try:
            return self._by_model(snapshot)
        except ModelFitError as error:
            if not self._warned:
                _logger.warning("no model could be fitted (%s); proposals are spread over the space instead", error)
                self._warned = True
            return self._by_design(snapshot)

    def _by_design(self, snapshot: StudySnapshot) -> Proposal | None:
        point = initial_design(self.pool, snapshot, self.rng)
        return None if point is None else Proposal(point)

    def _by_prior(self, snapshot: StudySnapshot, prior: TransferPrior) -> Proposal | None:
        """The candidate that adds most to the front that the prior predicts for the trials so far."""
        pool, started = self.pool, snapshot.points
        means = self._prior_means(prior, started)
        if started:
            pool.refresh(_on_front(started, means), snapshot.seen)
        rows = np.flatnonzero(pool.unseen(snapshot.seen))
        if not len(rows):
            return None
        mean = self._prior_means(prior, pool.points)
        # NOTE: With a std of 0; with another one, networks that are equal by the prior would follow each other.
        front = self._front(started, means, mean.min())
        scores = front.improvement(mean[rows], np.zeros(len(rows)), pool.log_cost[rows])
        pool.rate(rows, scores)
        return Proposal(pool.points[rows[np.argmax(scores)]]) if scores.max() > 0 else self._by_design(snapshot)

    def _by_model(self, snapshot: StudySnapshot) -> Proposal | None:
        """The candidate with the largest expected hypervolume improvement; one of the design if none improves it.

        Raises:
            ModelFitError: from the model.
        """
        pool, posterior = self.pool, self.posterior(snapshot)
        points, means = self._steps(snapshot, posterior)
        pool.refresh(_on_front(points, means), snapshot.seen)
        front = self._front(points, means, means.min())
        rows = pool.look(snapshot.seen, max(_MAX_PREDICTIONS // posterior.size, _MIN_CANDIDATES))
        if not len(rows):
            return self._by_design(snapshot)
        looked_at = []
        while len(rows) and len(looked_at) <= _CLIMBS:
            mean, std = posterior.predict(*self._inputs([pool.points[row] for row in rows]))
            observed_std = np.hypot(std, posterior.noise)
            scores = self.scores(front, rows, mean, observed_std, snapshot)
            pool.rate(rows, scores)
            looked_at.append((rows, mean, observed_std, scores))
            rows = pool.climb(snapshot.seen)
        rows, mean, observed_std, scores = (np.concatenate(parts) for parts in zip(*looked_at, strict=True))
        best = int(np.argmax(scores))
        if not scores[best] > 0:
            return self._by_design(snapshot)
        self._plan_batch(front, rows, scores, mean, snapshot, posterior)
        return Proposal(pool.points[rows[best]], GaussianPrediction(float(mean[best]), float(observed_std[best])))

    def scores(
        self, front: Front, rows: np.ndarray, mean: np.ndarray, std: np.ndarray, snapshot: StudySnapshot
    ) -> np.ndarray:
        """Expected hypervolume improvement of the pool's points in these rows; `std` is that of observations."""
        return front.improvement(mean, std, self.pool.log_cost[rows])

    def posterior(self, snapshot: StudySnapshot) -> AccuracyPosterior:
        """The model, conditioned on observed and pending points; of very many, on the more telling ones.

        Of more than _MAX_CONDITIONED observed points one half are those nearest to the front, where the choice falls,
        the other half are random ones from everywhere.

        Raises:
            ModelFitError: from the model.
        """
        accuracy = self._transform.transform(snapshot.accuracy)
        variance = self._transform.transform_variance(snapshot.accuracy, snapshot.variance)
        features, prior = self._inputs(snapshot.observed)
        rows = self._telling(snapshot, accuracy)
        prior = None if prior is None else prior[rows]
        posterior = self.model.fit(features[rows], accuracy[rows], variance[rows], prior, len(accuracy))
        if snapshot.pending:
            posterior = posterior.condition_on_pending(*self._inputs(snapshot.pending[-_MAX_PENDING:]))
        return posterior

    def _conditioned(self, snapshot: StudySnapshot, learned: Hyperparameters) -> AccuracyPosterior:
        """The model of observed points, with hyperparameters that were learned before."""
        accuracy = self._transform.transform(snapshot.accuracy)
        variance = self._transform.transform_variance(snapshot.accuracy, snapshot.variance)
        features, prior = self._inputs(snapshot.observed)
        rows = self._telling(snapshot, accuracy)
        prior = None if prior is None else prior[rows]
        return AccuracyPosterior.given(learned, features[rows], accuracy[rows], variance[rows], prior)

    def _gain_reference(self, points: Sequence[Point], means: np.ndarray) -> tuple[float, float] | None:
        """(accuracy, log cost) that the expected gain is measured from; None for a front of a single network."""
        accuracy, _ = self._reference
        if accuracy is not None:
            return accuracy, self._reference_cost
        front = self._transform.untransform(means[gaps(costs(points), means) == 0])
        extent = float(np.ptp(front))
        return (float(front.min()) - _MARGIN * extent, self._reference_cost) if extent > 0 else None

    @property
    def _reference_cost(self) -> float:
        """Log cost that the hypervolume is measured from."""
        _, cost = self._reference
        return self.pool.largest_cost if cost is None else math.log10(cost)

    def _telling(self, snapshot: StudySnapshot, accuracy: np.ndarray) -> np.ndarray:
        """Rows of the observed points that the model is conditioned on."""
        rows = np.arange(len(accuracy))
        if len(rows) <= _MAX_CONDITIONED:
            return rows
        order = np.argsort(gaps(costs(snapshot.observed), accuracy), kind="stable")
        others = np.random.default_rng(0).permutation(order[_MAX_CONDITIONED // 2 :])
        half = _MAX_CONDITIONED // 2
        return np.sort(np.concatenate([order[:half], others[: _MAX_CONDITIONED - half]]))

    def _steps(self, snapshot: StudySnapshot, posterior: AccuracyPosterior) -> tuple[list[Point], np.ndarray]:
        """Distinct points that make the front, and their accuracies, on the model's scale.

        An observed point stands in it at its posterior mean, a pending one a standard deviation below its mean.
        """
        accuracy = self._transform.transform(snapshot.accuracy)
        nearest = np.argsort(gaps(costs(snapshot.observed), accuracy), kind="stable")[:_MAX_STEPS]
        observed = {snapshot.observed[row].id: snapshot.observed[row] for row in np.sort(nearest)}
        pending = {point.id: point for point in snapshot.pending if point.id not in observed}
        means = posterior.mean(*self._inputs([*observed.values()]))
        if pending:
            mean, std = posterior.predict(*self._inputs([*pending.values()]))
            means = np.concatenate([means, mean - np.hypot(std, posterior.noise)])
        return [*observed.values(), *pending.values()], means

    def _plan_batch(
        self,
        front: Front,
        rows: np.ndarray,
        scores: np.ndarray,
        mean: np.ndarray,
        snapshot: StudySnapshot,
        posterior: AccuracyPosterior,
    ) -> None:
        """Choose the candidates of the next asks as well, in a search of hundreds of trials or of many workers.

        The model would hardly learn anything between these asks: the batch is one 200th of the trials so far, or an
        eighth of the pending ones.
        """
        count = round(max(_BATCH_SHARE * snapshot.started, _BATCH_SHARE_OF_RUNNING * len(snapshot.pending)))
        if count < 2:
            return
        top = np.argsort(-scores, kind="stable")[: _SHORTLIST * count]
        points, noise = [self.pool.points[row] for row in rows[top]], posterior.noise
        covariance = posterior.covariance(*self._inputs(points))
        for row, std in greedy_batch(front, mean[top], self.pool.log_cost[rows[top]], covariance, noise, count):
            expected = GaussianPrediction(float(mean[top[row]]), math.hypot(std, noise))
            self.waiting.append(Proposal(points[row], expected))

    def _front(self, points: Sequence[Point], means: np.ndarray, lowest: float) -> Front:
        """The front of points with these means on the model's scale; `lowest` is the accuracy of its reference.

        The reference that the user gave comes before `lowest` and the largest cost of the pool.
        """
        accuracy, _ = self._reference
        if accuracy is not None:
            lowest = float(self._transform.transform(accuracy))
        return Front(costs(points), means, self._reference_cost, lowest, self._transform.expected_improvement)

    def _inputs(self, points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray | None]:
        """What the model takes: features, n x d, and the prior's predictions, n."""
        return stacked(points), None if self._prior is None else self._prior_means(self._prior, points)

    def _prior_means(self, prior: TransferPrior, points: Sequence[Point]) -> np.ndarray:
        """What the prior predicts, n, on the model's scale; it is asked once for each point."""
        new = [point for point in points if point.id not in self._prior_accuracy]
        if new:
            means = prior.mean_of_features(stacked(new), self.pool.added)
            self._prior_accuracy.update(zip((point.id for point in new), means.tolist(), strict=True))
        return self._transform.transform([self._prior_accuracy[point.id] for point in points])


def _on_front(points: Sequence[Point], accuracy: np.ndarray) -> list[dict[str, Any]]:
    """The parameters of those points that make the staircase."""
    return [points[int(row)].params for row in np.flatnonzero(gaps(costs(points), accuracy) == 0)]
