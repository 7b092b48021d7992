"""Learning the hyperparameters of the model of accuracy. The model itself: gaussian_process.py, with its notation.

Notation, in standardised units, (accuracy - centre) / y_std:
    n, d, t    observations, features, columns of the trend (t is 1, or 2 with a prior)
    r          residuals: accuracies less the trend's mean, n
    l          lengthscales, d
    s          signal: the variance of g
    v          noise: the variance between seeds
    K          covariance of the observations, n x n: s k + trend trend' + diag(v + known variance)

Learned are log l, log s and log v, maximum a posteriori. All three have log-normal priors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

SHIFT, SLOPE = 0.5, 0.5
"""Prior standard deviations of a and b, in units of y_std."""
LEARNING_POINTS = 350
"""Hyperparameters are learned from at most this number of points, drawn at random; predictions use all points."""

_TYPICAL_Y_STD, _MIN_Y_STD = 0.05, 1e-3
"""Standard deviation of the accuracies in a search space, as fractions: a typical one and the smallest assumed."""
_SIGNAL_PRIOR = (0.0, 1.0)
"""Mean and standard deviation of log s."""
_NOISE_PRIOR = (-2.0, 1.0)
"""Mean and standard deviation of log v.

A wider prior, (-3.5, 1.5), found too little noise in 15 to 40 trainings; its predictions were too sure of themselves.
"""
_ALIKE, _ALIKE_NOISE = 1.0, 0.5
"""Standard deviations, between two data sets, of log l and of log v."""
LENGTHSCALE_BOUNDS, _SIGNAL_BOUNDS, _NOISE_BOUNDS = (0.025, 1e3), (1e-3, 150.0), (1e-5, 20.0)
"""Beyond these bounds the covariance matrix is numerically singular."""
_ITERATIONS, _TOLERANCE = 100, 1e-5


class ModelFitError(RuntimeError):
    """The model cannot be fitted: too few points, values that are not finite, or a numerical failure."""


@dataclass(frozen=True)
class Hyperparameters:
    """What is learned, and how accuracies and prior are standardised; kept between fits to data of about one size.

    Args:
        centre, y_std: mean and standard deviation of the accuracies; the standardised ones are (y - centre) / y_std.
        prior_centre, prior_scale: q = (prior - prior_centre) * prior_scale, in standardised units.
        lengthscales: l, one per feature, d.
        signal: s.
        noise: v.
    """

    centre: float
    y_std: float
    prior_centre: float
    prior_scale: float
    lengthscales: np.ndarray
    signal: float
    noise: float

    def trend(self, n: int, prior: np.ndarray | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The basis of a and b, n x t, scaled by their standard deviations, and the trend's mean, n; of n points."""
        shift = torch.full((n, 1), SHIFT, dtype=torch.float64)
        if prior is None:
            return shift, torch.zeros(n, dtype=torch.float64)
        q = torch.from_numpy((np.asarray(prior, dtype=np.float64) - self.prior_centre) * self.prior_scale)
        return torch.cat([shift, SLOPE * q[:, None]], dim=1), q


def learn(
    x: np.ndarray,
    accuracy: np.ndarray,
    variance: np.ndarray,
    prior: np.ndarray | None,
    trust: float,
    start: Hyperparameters | None,
    like: Hyperparameters | None = None,
) -> Hyperparameters:
    """Standardise the data and learn the kernel's hyperparameters.

    Args:
        x, accuracy, variance, prior: as for `AccuracyModel.fit`.
        trust: the correlation that the prior is expected to have with the accuracies, 0 to 1.
        start: the hyperparameters where the optimiser starts; None: typical ones.
        like: of a model of other data, whose features are the first ones here. The same features are expected to
            matter here, and trainings to be as noisy.

    Raises:
        ModelFitError: a numerical failure.
    """
    if len(x) > LEARNING_POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(len(x), LEARNING_POINTS, replace=False))
        x, accuracy, variance = x[chosen], accuracy[chosen], variance[chosen]
        prior = None if prior is None else prior[chosen]
    share = 1 / (_TYPICAL_Y_STD**2 + variance)
    centre, measured_std = _moments(accuracy, share)
    y_std = max(measured_std, _MIN_Y_STD)
    prior_centre, prior_scale = 0.0, 0.0
    if prior is not None:
        prior_centre, prior_std = _moments(prior, share)
        # NOTE: n points tell the logarithm of the ratio of two standard deviations to about 1 / sqrt(n - 2). Before any
        # data, the accuracies on two data sets are taken to vary alike, up to a factor of 2. Without this, two points
        # that are equal by the prior would stretch it beyond all bounds.
        freedom = max(share.sum() / share.max() - 2, 0)
        ratio = y_std / prior_std if min(measured_std, prior_std) > 1e-12 else 1.0
        prior_scale = trust * ratio ** (freedom / (freedom + 2)) / y_std
    standardised = Hyperparameters(centre, y_std, prior_centre, prior_scale, np.ones(x.shape[1]), 1.0, 1.0)
    trend, mean = standardised.trend(len(x), prior)
    residual = torch.from_numpy((accuracy - centre) / y_std) - mean
    if start is not None and len(start.lengthscales) != x.shape[1]:
        start = None
    lengthscales, signal, noise = _maximise_posterior(x, residual, variance / y_std**2, trend, start, like)
    return Hyperparameters(centre, y_std, prior_centre, prior_scale, lengthscales, signal, noise)


def _moments(values: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    """Weighted mean and standard deviation."""
    mean = float(np.average(values, weights=share))
    return mean, math.sqrt(np.average((values - mean) ** 2, weights=share))


def _maximise_posterior(
    x: np.ndarray,
    residual: torch.Tensor,
    variance: np.ndarray,
    trend: torch.Tensor,
    start: Hyperparameters | None,
    like: Hyperparameters | None,
) -> tuple[np.ndarray, float, float]:
    """l, s and v that maximise likelihood times priors, by L-BFGS on their logarithms.

    Raises:
        ModelFitError: the covariance matrix became singular, or the optimiser ended at something that is not finite.
    """
    d = x.shape[1]
    first = (np.ones(d), 0.5, 0.05)
    if like is not None:
        first = (np.concatenate([like.lengthscales, np.ones(d - len(like.lengthscales))]), 0.5, like.noise)
    if start is not None:
        first = (start.lengthscales, start.signal, start.noise)
    posterior = LogPosterior(x, residual, variance, trend, *log_priors(d, like))
    bounds = [LENGTHSCALE_BOUNDS] * d + [_SIGNAL_BOUNDS, _NOISE_BOUNDS]
    low, high = np.log(bounds).T
    begin = np.clip(np.log(np.concatenate([first[0], first[1:]])), low, high)
    options = {"maxiter": _ITERATIONS, "ftol": _TOLERANCE}
    result = minimize(
        posterior.negative,
        begin,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low, high, strict=True)),
        options=options,
    )
    if not (np.isfinite(result.fun) and np.isfinite(result.x).all()):
        raise ModelFitError(f"learning the hyperparameters failed: {result.message}")
    values = np.exp(result.x)
    return values[:d], float(values[d]), float(values[d + 1])


def log_priors(d: int, like: Hyperparameters | None) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations, by their priors, of log l, log s and log v: d + 2 each.

    Args:
        d: number of features.
        like: as for `learn`.
    """
    centre, width = np.full(d, math.sqrt(2) + math.log(d) / 2), np.full(d, math.sqrt(3))
    noise_prior = _NOISE_PRIOR
    if like is not None:
        shared = len(like.lengthscales)
        centre[:shared], width[:shared] = np.log(like.lengthscales), _ALIKE
        noise_prior = (math.log(like.noise), _ALIKE_NOISE)
    centre = np.concatenate([centre, [_SIGNAL_PRIOR[0], noise_prior[0]]])
    return centre, np.concatenate([width, [_SIGNAL_PRIOR[1], noise_prior[1]]])


class LogPosterior:
    """The log posterior as a function of log l, log s and log v: d + 2 numbers, in this order.

    With a = K^-1 r and a parameter p, the likelihood's gradient is 1/2 tr((a a' - K^-1) dK/dp) (Rasmussen & Williams
    2006, eq. 5.9). For the logarithm of the lengthscale of feature f, with the scaled distance h of two points,
    dk/dlog l_f = 5/3 (1 + h) exp(-h) (x_f - x'_f)^2 / l_f^2, so that all d traces are one matrix product.

    It is evaluated about ten times whenever hyperparameters are learned. GPyTorch's modules give the same values, but
    took most of an ask.

    Args:
        x: features, n x d.
        residual: r, n.
        variance: known variance, standardised, n.
        trend: n x t.
        centre, width: means and standard deviations of the parameters' logarithms, by their priors, d + 2 each.
    """

    def __init__(
        self,
        x: np.ndarray,
        residual: torch.Tensor,
        variance: np.ndarray,
        trend: torch.Tensor,
        centre: np.ndarray,
        width: np.ndarray,
    ) -> None:
        self._x = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64))
        self._residual, self._fixed = residual, trend @ trend.T
        self._fixed.diagonal().add_(torch.from_numpy(np.asarray(variance, dtype=np.float64)))
        self._centre, self._width = centre, width

    def negative(self, logs: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log posterior, up to a constant, and its gradient, d + 2; both divided by n.

        Infinite if the covariance matrix is singular.
        """
        n, d = self._x.shape
        lengthscales, signal, noise = torch.from_numpy(np.exp(logs[:d])), math.exp(logs[d]), math.exp(logs[d + 1])
        x = self._x / lengthscales
        distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").mul_(math.sqrt(5))
        decay = torch.exp(-distance)
        slope = (1 + distance).mul_(decay)
        kernel = torch.addcmul(slope, distance.square_(), decay, value=1 / 3)
        covariance = kernel * signal + self._fixed
        covariance.diagonal().add_(noise)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if failed:
            return math.inf, np.zeros(d + 2)
        inverse = torch.cholesky_inverse(factor)
        coefficients = inverse @ self._residual
        value = 0.5 * float(self._residual @ coefficients) + float(factor.diagonal().log().sum())
        outer = inverse.addr_(coefficients, coefficients, alpha=-1)  # K^-1 - a a'
        weights = (outer * slope).mul_(signal * 5 / 3)
        # For each feature, sum_ij w_ij (x_i - x_j)^2 = 2 sum_i x_i^2 (sum_j w_ij) - 2 x' w x.
        squares = 2 * (x.square() * weights.sum(dim=1)[:, None]).sum(dim=0) - 2 * (x * (weights @ x)).sum(dim=0)
        traces = [*squares.tolist(), signal * float((outer * kernel).sum()), noise * float(outer.trace())]
        # Log of the log-normal density of a parameter p: -log p - (log p - centre)^2 / (2 width^2).
        away = (logs - self._centre) / self._width
        value += float((logs + away**2 / 2).sum())
        return value / n, (np.array(traces) / 2 + 1 + away / self._width) / n
