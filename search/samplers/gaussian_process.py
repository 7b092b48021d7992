"""The model of accuracy: a Gaussian process on architecture features, with a prior from other data sets as its trend.

    y_i = accuracy + seed noise + known noise,   accuracy(x) = centre + a + b q(x) + g(x),   g ~ GP(0, s k)

k is the Matern-5/2 kernel with one lengthscale per feature, q the prior's prediction on the scale of the accuracies,
a ~ N(0, SHIFT^2) and b ~ N(1, SLOPE^2) in units of the accuracies' spread. a and b are integrated out in closed form
(Rasmussen & Williams 2006, section 2.7), which puts their uncertainty into every prediction: few points that agree
with the prior leave b near 1, a prior that orders them wrongly gets b ~ 0 and costs nothing any more.

Lengthscales, s and the variance between seeds are learned, maximum a posteriori, with lengthscale priors that grow with
the number of features (Hvarfner, Hellsten & Nardi 2024), as BoTorch has them. Where another data set's model is known,
they are expected to be like that one's instead: which settings matter carries over even where their order does not.
They are learned anew when the data have grown by a tenth, in between they are kept; and from at most 350 points. The
posterior is computed here from a Cholesky factorisation (Rasmussen & Williams, algorithm 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from .gp_hyperparameters import SLOPE, Hyperparameters, ModelFitError, learn

_CHUNK = 2048


class AccuracyModel:
    """Predicts the accuracy of networks from those that were trained; deterministic, on one thread, in float64.

    Args:
        prior_trust: 0 to 1, the correlation with the accuracies that a prior given to `fit` is expected to have.
        like: hyperparameters of a model of other data, of the first features at least, that these are expected to be
            like: which features matter, and how noisy trainings are.
    """

    def __init__(self, prior_trust: float = 1.0, like: Hyperparameters | None = None) -> None:
        self._prior_trust, self._like = prior_trust, like
        self.hyperparameters: Hyperparameters | None = None
        self._learned_from = (0, 0)
        self._with_prior = False

    @property
    def noise(self) -> float:
        """Standard deviation of the accuracy between seeds, as learned."""
        return math.sqrt(self.hyperparameters.noise) * self.hyperparameters.y_std

    @property
    def slope(self) -> float:
        """b: about 1 where the prior is right, about 0 where it says nothing; 0 without one."""
        return 1 + SLOPE * float(self._trend[:, 1] @ self._coefficients) if self._with_prior else 0.0

    @property
    def size(self) -> int:
        """Points that it is conditioned on."""
        return len(self._points)

    def fit(
        self,
        x: np.ndarray,
        accuracy: np.ndarray,
        variance: np.ndarray,
        prior: np.ndarray | None = None,
        known: int | None = None,
    ) -> None:
        """Learn from observations.

        Args:
            x: features, n x d; points may repeat.
            accuracy: observed, n, as fractions.
            variance: known variance of each observation on top of that between seeds, n, in units of accuracy squared:
                0 for a finished training.
            prior: what another data set says about the same points, n, on any increasing scale; None: nothing.
                Other features or another prior are another model: make a new one.
            known: observations of which these are a part, where they are; None: n. When it has grown by a tenth, the
                hyperparameters are learned anew.

        Raises:
            ModelFitError: fewer than 2 points, a value that is not finite, a negative variance, or a numerical
                failure. The model is then what it was before.
        """
        x, accuracy, variance = (np.asarray(values, dtype=np.float64) for values in (x, accuracy, variance))
        prior = None if prior is None else np.asarray(prior, dtype=np.float64)
        if len(x) < 2:
            raise ModelFitError(f"an accuracy model needs at least 2 points, got {len(x)}")
        given = [x, accuracy, variance] if prior is None else [x, accuracy, variance, prior]
        if not all(np.isfinite(values).all() for values in given) or (variance < 0).any():
            raise ModelFitError("features, accuracies, variances and priors must be finite, and variances not negative")
        size = (known or len(x), int((variance == 0).sum()))
        learned = self.hyperparameters
        with _one_thread():
            if self._is_due(size, x.shape[1], prior is not None):
                learned = learn(x, accuracy, variance, prior, self._prior_trust, learned, self._like)
            self._condition(learned, x, accuracy, variance, prior)
        if learned is not self.hyperparameters:
            self.hyperparameters, self._learned_from = learned, size
        self._with_prior = prior is not None

    def _is_due(self, size: tuple[int, int], features: int, with_prior: bool) -> bool:
        """Whether to learn anew: `size`, all points and the finished ones, has grown by a tenth in one or the other."""
        if self.hyperparameters is None or len(self.hyperparameters.lengthscales) != features:
            return True
        grown = any(
            now > before and 10 * (now - before) >= before for now, before in zip(size, self._learned_from, strict=True)
        )
        return grown or size[0] < self._learned_from[0] or with_prior != self._with_prior

    def _condition(self, learned: Hyperparameters, x, accuracy, variance, prior) -> None:
        """Factorise the observations' covariance matrix: L L' = K + noise, coefficients = K^-1 (y - mean)."""
        points, (trend, mean) = torch.from_numpy(x / learned.lengthscales), learned.trend(len(x), prior)
        covariance = _covariance(learned, points, trend, points, trend)
        covariance.diagonal().add_(torch.from_numpy(learned.noise + variance / learned.y_std**2))
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if failed:
            raise ModelFitError("the observations' covariance matrix is not positive definite")
        residual = torch.from_numpy((accuracy - learned.centre) / learned.y_std) - mean
        self._points, self._trend, self._factor, self._observed = points, trend, factor, accuracy
        self._coefficients = torch.cholesky_solve(residual[:, None], factor)[:, 0]

    def predict(self, x: np.ndarray, prior: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the accuracy without noise.

        Args:
            x: features, m x d.
            prior: what the other data set says about them, m; given exactly if it was to `fit`.

        Returns:
            Mean and standard deviation, m each.
        """
        means, variances = [torch.empty(0, dtype=torch.float64)], [torch.empty(0, dtype=torch.float64)]
        with _one_thread():
            for points, trend, offset in self._chunks(x, prior):
                cross = _covariance(self.hyperparameters, self._points, self._trend, points, trend)
                means.append(offset + self._coefficients @ cross)
                # NOTE: k(x, x) = 1, so that the prior variance is s plus what a and b contribute.
                before = self.hyperparameters.signal + trend.square().sum(dim=1)
                explained = torch.linalg.solve_triangular(self._factor, cross, upper=False).square_().sum(dim=0)
                variances.append((before - explained).clamp_(min=0))
        centre, y_std = self.hyperparameters.centre, self.hyperparameters.y_std
        return centre + y_std * torch.cat(means).numpy(), y_std * torch.cat(variances).sqrt().numpy()

    def mean(self, x: np.ndarray, prior: np.ndarray | None = None) -> np.ndarray:
        """The mean of `predict` alone, m, at a small part of its cost."""
        means = [torch.empty(0, dtype=torch.float64)]
        with _one_thread():
            for points, trend, offset in self._chunks(x, prior):
                cross = _covariance(self.hyperparameters, self._points, self._trend, points, trend)
                means.append(offset + self._coefficients @ cross)
        return self.hyperparameters.centre + self.hyperparameters.y_std * torch.cat(means).numpy()

    def covariance(self, x: np.ndarray, prior: np.ndarray | None = None) -> np.ndarray:
        """Posterior covariance of the accuracies without noise, m x m; its diagonal is the square of `predict`'s."""
        with _one_thread():
            points, trend, _ = self._scaled(x, prior)
            cross = _covariance(self.hyperparameters, self._points, self._trend, points, trend)
            explained = torch.linalg.solve_triangular(self._factor, cross, upper=False)
            before = _covariance(self.hyperparameters, points, trend, points, trend)
            return self.hyperparameters.y_std**2 * (before - explained.T @ explained).numpy()

    def leave_one_group_out(self, groups: Sequence[int]) -> np.ndarray:
        """The mean at each observed point, n, given the points of all other groups alone.

        In closed form (Rasmussen & Williams 2006, section 5.4.2, for groups): with P = K^-1 and r the residuals, the
        residuals without group I are P_II^-1 (P r)_I.

        Args:
            groups: of each observed point, n.
        """
        groups = np.asarray(groups)
        with _one_thread():
            precision = torch.cholesky_inverse(self._factor)
            left = torch.empty_like(self._coefficients)
            for group in np.unique(groups):
                rows = torch.from_numpy(np.flatnonzero(groups == group))
                left[rows] = torch.linalg.solve(precision[rows][:, rows], self._coefficients[rows])
        return self._observed - self.hyperparameters.y_std * left.numpy()

    def condition_on_pending(self, x: np.ndarray, prior: np.ndarray | None = None) -> None:
        """Take pending points for observed at their predicted means, until the next `fit`.

        No mean changes, but what is near them becomes less uncertain, so that a further choice goes elsewhere.

        Args:
            x: features, p x d.
            prior: as for `predict`.

        Raises:
            ModelFitError: a numerical failure.
        """
        with _one_thread():
            for points, trend, _ in self._chunks(x, prior):
                self._append(points, trend)

    def _append(self, points: torch.Tensor, trend: torch.Tensor) -> None:
        """Extend the Cholesky factor by rows: [[L, 0], [B', C]] with L B = K(old, new), C C' = K(new) - B'B."""
        learned, old, new = self.hyperparameters, len(self._points), len(points)
        cross = _covariance(learned, self._points, self._trend, points, trend)
        below = torch.linalg.solve_triangular(self._factor, cross, upper=False)
        remaining = _covariance(learned, points, trend, points, trend) - below.T @ below
        remaining.diagonal().add_(learned.noise)
        corner, failed = torch.linalg.cholesky_ex(remaining)
        if failed:
            raise ModelFitError("the pending points' covariance matrix is not positive definite")
        factor = torch.zeros(old + new, old + new, dtype=torch.float64)
        factor[:old, :old], factor[old:, :old], factor[old:, old:] = self._factor, below.T, corner
        self._factor = factor
        self._points, self._trend = torch.cat([self._points, points]), torch.cat([self._trend, trend])
        # An observation that equals its prediction has coefficient 0 and leaves the others as they are.
        self._coefficients = torch.cat([self._coefficients, torch.zeros(new, dtype=torch.float64)])

    def _chunks(self, x, prior) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Scaled features, trend and trend's mean of some points at a time, which bounds the memory."""
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            yield self._scaled(x[part], None if prior is None else prior[part])

    def _scaled(self, x, prior) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features divided by the lengthscales, trend and its mean."""
        if (prior is not None) != self._with_prior:
            raise ValueError("predictions need a prior exactly if the model was fitted with one")
        points = torch.from_numpy(np.asarray(x, dtype=np.float64) / self.hyperparameters.lengthscales)
        return points, *self.hyperparameters.trend(len(points), prior)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The driver shares its machine with workers, and sums come out the same everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _covariance(learned: Hyperparameters, x1, trend1, x2, trend2) -> torch.Tensor:
    """Of the accuracies at two sets of points, n x m: s (1 + r + r^2/3) exp(-r) + trend1 trend2'.

    x1 and x2 are divided by the lengthscales, and r is sqrt(5) times their distance. In place where possible: with
    thousands of points the passes over memory cost as much as the factorisation.
    """
    r = torch.cdist(x1, x2).mul_(math.sqrt(5))
    polynomial = torch.addcmul(r, r, r, value=1 / 3).add_(1)
    return torch.addmm(polynomial.mul_(r.neg_().exp_()), trend1, trend2.T, beta=learned.signal)
