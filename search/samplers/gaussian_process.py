"""The model of accuracy: a Gaussian process on architecture features, with a prior from other data sets as its trend.

Notation:
    n, m, p    observations, points to predict, pending points
    d          features
    t          columns of the trend: 1, or 2 with a prior
    x          features, n x d
    y          observed accuracies, n
    q          the prior's prediction, in units of y_std, n
    k          Matern-5/2 kernel with one lengthscale per feature
    s          signal: the variance of g
    K          covariance of the observations, n x n; K = L L'

    y_i = accuracy(x_i) + noise between seeds + noise of known variance
    accuracy(x) = centre + y_std * (a + b q(x) + g(x)),   g ~ GP(0, s k),   a ~ N(0, SHIFT^2),   b ~ N(1, SLOPE^2)

a and b are integrated out in closed form (Rasmussen & Williams 2006, section 2.7), which puts their uncertainty into
every prediction. A few points that agree with the prior leave b near 1. A prior that orders them wrongly gets b near 0
and has no influence any more.

Lengthscales, s and the variance between seeds are learned, maximum a posteriori, from at most 350 points. The priors of
the lengthscales grow with the number of features (Hvarfner, Hellsten & Nardi 2024), as in BoTorch. If a model of
another data set is given, they are expected to be like that model's: which settings matter carries over even if their
order does not. Hyperparameters are learned anew when the data have grown by a tenth and kept in between. The posterior
is computed from a Cholesky factorisation (Rasmussen & Williams, algorithm 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from .gp_hyperparameters import SLOPE, Hyperparameters, ModelFitError, learn

_CHUNK = 2048
"""Points predicted at a time, which bounds the memory."""


class AccuracyModel:
    """Learns the accuracy of networks from those that were trained; deterministic, on one thread, in float64.

    Only the hyperparameters are kept from one fit to the next. Predictions are made by the posterior that `fit`
    returns.

    Args:
        prior_trust: 0 to 1, the correlation with the accuracies that a prior given to `fit` is expected to have.
        like: hyperparameters of a model of other data, whose features are the first ones here. The same features are
            expected to matter here, and trainings to be as noisy.
    """

    def __init__(self, prior_trust: float = 1.0, like: Hyperparameters | None = None) -> None:
        self._prior_trust, self._like = prior_trust, like
        self.hyperparameters: Hyperparameters | None = None
        self._learned_from = (0, 0)
        self._with_prior = False

    def fit(
        self,
        x: ArrayLike,
        accuracy: ArrayLike,
        variance: ArrayLike,
        prior: ArrayLike | None = None,
        n_total: int | None = None,
    ) -> AccuracyPosterior:
        """Condition on observations, and learn the hyperparameters if that is due.

        Args:
            x: features, n x d; points may repeat.
            accuracy: observed, n, as fractions.
            variance: known variance of each observation on top of that between seeds, n, in units of accuracy squared;
                0 for a finished training.
            prior: what another data set says about the same points, n, on any increasing scale; None: nothing.
                With other features, or with another prior, use a new model.
            n_total: number of observations that these are a part of; None: n. The hyperparameters are learned anew
                when it has grown by a tenth.

        Returns:
            The posterior given these observations.

        Raises:
            ModelFitError: fewer than 2 points, a value that is not finite, a negative variance, or a numerical
                failure. The hyperparameters are then what they were before.
        """
        x, accuracy, variance = (np.asarray(values, dtype=np.float64) for values in (x, accuracy, variance))
        prior = None if prior is None else np.asarray(prior, dtype=np.float64)
        if len(x) < 2:
            raise ModelFitError(f"an accuracy model needs at least 2 points, got {len(x)}")
        given = [x, accuracy, variance] if prior is None else [x, accuracy, variance, prior]
        if not all(np.isfinite(values).all() for values in given) or (variance < 0).any():
            raise ModelFitError("features, accuracies, variances and priors must be finite, and variances not negative")
        size = (n_total or len(x), int((variance == 0).sum()))
        learned = self.hyperparameters
        if learned is None or self._is_due(learned, size, x.shape[1], prior is not None):
            with one_thread():
                learned = learn(x, accuracy, variance, prior, self._prior_trust, learned, self._like)
        posterior = AccuracyPosterior.given(learned, x, accuracy, variance, prior)
        if learned is not self.hyperparameters:
            self.hyperparameters, self._learned_from = learned, size
        self._with_prior = prior is not None
        return posterior

    def _is_due(self, learned: Hyperparameters, size: tuple[int, int], features: int, with_prior: bool) -> bool:
        """Whether to learn anew: all points, or the finished ones among them (`size`), have grown by a tenth."""
        if len(learned.lengthscales) != features:
            return True
        grown = any(
            now > before and 10 * (now - before) >= before for now, before in zip(size, self._learned_from, strict=True)
        )
        return grown or size[0] < self._learned_from[0] or with_prior != self._with_prior


@dataclass(frozen=True, eq=False)
class AccuracyPosterior:
    """What observations tell about the accuracy of other networks.

    Args:
        hyperparameters: learned ones.
        points: observed and pending points, features divided by the lengthscales, n x d.
        trend: their basis of a and b, n x t.
        factor: L, n x n.
        coefficients: K^-1 (y - mean), standardised, n.
        observed: y without pending points.
    """

    hyperparameters: Hyperparameters
    points: torch.Tensor
    trend: torch.Tensor
    factor: torch.Tensor
    coefficients: torch.Tensor
    observed: np.ndarray

    @classmethod
    def given(
        cls,
        learned: Hyperparameters,
        x: np.ndarray,
        accuracy: np.ndarray,
        variance: np.ndarray,
        prior: np.ndarray | None = None,
    ) -> AccuracyPosterior:
        """The posterior for known hyperparameters; the other arguments are those of `AccuracyModel.fit`.

        Raises:
            ModelFitError: a numerical failure.
        """
        with one_thread():
            points, (trend, mean) = torch.from_numpy(x / learned.lengthscales), learned.trend(len(x), prior)
            covariance = _covariance(learned, points, trend, points, trend)
            covariance.diagonal().add_(torch.from_numpy(learned.noise + variance / learned.y_std**2))
            factor, failed = torch.linalg.cholesky_ex(covariance)
            if failed:
                raise ModelFitError("the observations' covariance matrix is not positive definite")
            residual = torch.from_numpy((accuracy - learned.centre) / learned.y_std) - mean
            coefficients = torch.cholesky_solve(residual[:, None], factor)[:, 0]
        return cls(learned, points, trend, factor, coefficients, accuracy)

    @property
    def noise(self) -> float:
        """Standard deviation of the accuracy between seeds, as learned."""
        return math.sqrt(self.hyperparameters.noise) * self.hyperparameters.y_std

    @property
    def with_prior(self) -> bool:
        return self.trend.shape[1] > 1

    @property
    def slope(self) -> float:
        """b: about 1 if the prior is right, about 0 if it says nothing; 0 without a prior."""
        return 1 + SLOPE * float(self.trend[:, 1] @ self.coefficients) if self.with_prior else 0.0

    @property
    def size(self) -> int:
        """Points that it is conditioned on, pending ones included."""
        return len(self.points)

    def predict(self, x: ArrayLike, prior: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the accuracy without noise, m each.

        Args:
            x: features, m x d.
            prior: what the other data set says about them, m; given exactly if it was given to `fit`.

        Raises:
            ValueError: a prior is missing, or there should be none.
        """
        learned = self.hyperparameters
        means, variances = [torch.empty(0, dtype=torch.float64)], [torch.empty(0, dtype=torch.float64)]
        with one_thread():
            for points, trend, trend_mean in self._chunks(x, prior):
                cross = _covariance(learned, self.points, self.trend, points, trend)
                means.append(trend_mean + self.coefficients @ cross)
                # NOTE: k(x, x) = 1, so that the variance before the data is s plus what a and b contribute.
                before = learned.signal + trend.square().sum(dim=1)
                explained = torch.linalg.solve_triangular(self.factor, cross, upper=False).square_().sum(dim=0)
                variances.append((before - explained).clamp_(min=0))
        std = learned.y_std * torch.cat(variances).sqrt().numpy()
        return learned.centre + learned.y_std * torch.cat(means).numpy(), std

    def mean(self, x: ArrayLike, prior: ArrayLike | None = None) -> np.ndarray:
        """The mean of `predict` alone, m, at a small part of its cost."""
        learned = self.hyperparameters
        means = [torch.empty(0, dtype=torch.float64)]
        with one_thread():
            for points, trend, trend_mean in self._chunks(x, prior):
                cross = _covariance(learned, self.points, self.trend, points, trend)
                means.append(trend_mean + self.coefficients @ cross)
        return learned.centre + learned.y_std * torch.cat(means).numpy()

    def covariance(self, x: ArrayLike, prior: ArrayLike | None = None) -> np.ndarray:
        """Posterior covariance of the accuracies without noise, m x m; its diagonal is `predict`'s std squared."""
        learned = self.hyperparameters
        with one_thread():
            points, trend, _ = self._scaled(x, prior)
            cross = _covariance(learned, self.points, self.trend, points, trend)
            explained = torch.linalg.solve_triangular(self.factor, cross, upper=False)
            before = _covariance(learned, points, trend, points, trend)
            return learned.y_std**2 * (before - explained.T @ explained).numpy()

    def leave_one_group_out(self, groups: ArrayLike) -> np.ndarray:
        """The mean at each observed point, n, given only the points of all other groups.

        In closed form (Rasmussen & Williams 2006, section 5.4.2, for groups): with P = K^-1 and the residuals r, the
        residuals of group I given the others are P_II^-1 (P r)_I.

        Args:
            groups: a number of its group for each observed point, n.
        """
        groups = np.asarray(groups)
        with one_thread():
            precision = torch.cholesky_inverse(self.factor)
            residuals = torch.empty_like(self.coefficients)
            for group in np.unique(groups):
                rows = torch.from_numpy(np.flatnonzero(groups == group))
                residuals[rows] = torch.linalg.solve(precision[rows][:, rows], self.coefficients[rows])
        return self.observed - self.hyperparameters.y_std * residuals.numpy()

    def condition_on_pending(self, x: ArrayLike, prior: ArrayLike | None = None) -> AccuracyPosterior:
        """The posterior as if pending points had been observed at their predicted means.

        No mean changes, but the surroundings of these points become less uncertain, so that a further choice goes
        elsewhere. The Cholesky factor grows by rows: [[L, 0], [B', C]] with L B = K(old, new), C C' = K(new) - B'B.

        Args:
            x: features, p x d.
            prior: as for `predict`.

        Raises:
            ModelFitError: a numerical failure.
            ValueError: as for `predict`.
        """
        learned = self.hyperparameters
        with one_thread():
            points, trend, _ = self._scaled(x, prior)
            old, new = len(self.points), len(points)
            cross = _covariance(learned, self.points, self.trend, points, trend)
            below = torch.linalg.solve_triangular(self.factor, cross, upper=False)
            remaining = _covariance(learned, points, trend, points, trend) - below.T @ below
            remaining.diagonal().add_(learned.noise)
            corner, failed = torch.linalg.cholesky_ex(remaining)
            if failed:
                raise ModelFitError("the pending points' covariance matrix is not positive definite")
            factor = torch.zeros(old + new, old + new, dtype=torch.float64)
            factor[:old, :old], factor[old:, :old], factor[old:, old:] = self.factor, below.T, corner
        return replace(
            self,
            points=torch.cat([self.points, points]),
            trend=torch.cat([self.trend, trend]),
            factor=factor,
            # An observation that equals its prediction has coefficient 0 and leaves the others unchanged.
            coefficients=torch.cat([self.coefficients, torch.zeros(new, dtype=torch.float64)]),
        )

    def _chunks(
        self, x: ArrayLike, prior: ArrayLike | None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """`_scaled` of _CHUNK points at a time."""
        x, prior = np.asarray(x), None if prior is None else np.asarray(prior)
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            yield self._scaled(x[part], None if prior is None else prior[part])

    def _scaled(self, x: ArrayLike, prior: ArrayLike | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features divided by the lengthscales, m x d, trend, m x t, and its mean, m."""
        if (prior is not None) != self.with_prior:
            raise ValueError("predictions need a prior exactly if the model was fitted with one")
        points = torch.from_numpy(np.asarray(x, dtype=np.float64) / self.hyperparameters.lengthscales)
        return points, *self.hyperparameters.trend(len(points), None if prior is None else np.asarray(prior))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: the driver shares its machine with workers, and sums come out the same everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _covariance(
    learned: Hyperparameters, x1: torch.Tensor, trend1: torch.Tensor, x2: torch.Tensor, trend2: torch.Tensor
) -> torch.Tensor:
    """Covariance of the accuracies at two sets of points, n x m: s (1 + r + r^2/3) exp(-r) + trend1 trend2'.

    x1 and x2 are divided by the lengthscales, and r is sqrt(5) times their distance. In place if possible: with
    thousands of points the passes over memory cost as much as the factorisation.
    """
    r = torch.cdist(x1, x2).mul_(math.sqrt(5))
    polynomial = torch.addcmul(r, r, r, value=1 / 3).add_(1)
    return torch.addmm(polynomial.mul_(r.neg_().exp_()), trend1, trend2.T, beta=learned.signal)
