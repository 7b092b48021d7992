"""Learning the hyperparameters of the model of accuracy. The model itself: gaussian_process.py."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

SHIFT, SLOPE = 0.5, 0.5
"""Prior standard deviations of a and b, in units of the accuracies' spread."""
LEARNING_POINTS = 350
"""Hyperparameters are learned from at most so many points, drawn at random; predictions use all."""

_TYPICAL_SPREAD, _LEAST_SPREAD = 0.05, 1e-3  # Of accuracies in a search space, as fractions.
_SIGNAL_PRIOR = (0.0, 1.0)
_NOISE_PRIOR = (-2.0, 1.0)
# Mean and standard deviation of the logarithm of the noise variance in standardised units. A wider one, (-3.5, 1.5),
# found too little noise in 15 to 40 trainings, and so predictions that were too sure of themselves.
_ALIKE, _ALIKE_NOISE = 1.0, 0.5
# Standard deviations of the logarithms of lengthscales and noise between two data sets.
_LENGTHSCALES, _SIGNALS, _NOISES = (0.025, 1e3), (1e-3, 150.0), (1e-5, 20.0)
"""Least and most; beyond them the covariance matrix is numerically singular."""
_ITERATIONS, _TOLERANCE = 100, 1e-5


class ModelFitError(RuntimeError):
    """The model cannot be fitted: too few points, values that are not finite, or a numerical failure."""


@dataclass(frozen=True)
class Hyperparameters:
    """What is kept between fits to data of about the same size.

    Args:
        centre, y_std: of the accuracies; the standardised ones are (y - centre) / y_std.
        prior_centre, prior_scale: q = (prior - prior_centre) * prior_scale, in standardised units.
        lengthscales: one per feature.
        signal: s, the variance of g in standardised units.
        noise: the variance between seeds in standardised units.
    """

    centre: float
    y_std: float
    prior_centre: float
    prior_scale: float
    lengthscales: np.ndarray
    signal: float
    noise: float

    def trend(self, n: int, prior: np.ndarray | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Of n points: the basis of a and b, n x 1 or n x 2, scaled by their standard deviations; and the mean, n."""
        shift = torch.full((n, 1), SHIFT, dtype=torch.float64)
        if prior is None:
            return shift, torch.zeros(n, dtype=torch.float64)
        q = torch.from_numpy((np.asarray(prior, dtype=np.float64) - self.prior_centre) * self.prior_scale)
        return torch.cat([shift, SLOPE * q[:, None]], dim=1), q


def learn(
    x, accuracy, variance, prior, trust: float, start: Hyperparameters | None, like: Hyperparameters | None = None
) -> Hyperparameters:
    """Standardise the data and learn the kernel's hyperparameters, beginning at those of the last time.

    Args:
        x, accuracy, variance, prior: as for `AccuracyModel.fit`.
        trust: the correlation that the prior is expected to have.
        start: where to begin.
        like: of another model, of the first features at least; which of them matter is expected to be the same here.
    """
    if len(x) > LEARNING_POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(len(x), LEARNING_POINTS, replace=False))
        x, accuracy, variance = x[chosen], accuracy[chosen], variance[chosen]
        prior = None if prior is None else prior[chosen]
    share = 1 / (_TYPICAL_SPREAD**2 + variance)
    centre, deviation = _moments(accuracy, share)
    y_std = max(deviation, _LEAST_SPREAD)
    prior_centre, prior_scale = 0.0, 0.0
    if prior is not None:
        prior_centre, prior_deviation = _moments(prior, share)
        # NOTE: n points tell the logarithm of the ratio of two standard deviations to about 1 / sqrt(n - 2), and before
        # any data two data sets' accuracies spread alike up to a factor of 2. Without this, two points that the prior
        # takes for equal would stretch it beyond all bounds.
        known = max(share.sum() / share.max() - 2, 0)
        ratio = y_std / prior_deviation if min(deviation, prior_deviation) > 1e-12 else 1.0
        prior_scale = trust * ratio ** (known / (known + 2)) / y_std
    scales = Hyperparameters(centre, y_std, prior_centre, prior_scale, np.ones(x.shape[1]), 1.0, 1.0)
    trend, mean = scales.trend(len(x), prior)
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
    x, residual, variance, trend, start: Hyperparameters | None, like: Hyperparameters | None
) -> tuple[np.ndarray, float, float]:
    """Lengthscales, signal and noise variance that maximise likelihood times priors (L-BFGS on their logarithms).

    Raises:
        ModelFitError: the covariance matrix became singular, or the optimiser ended at something that is not finite.
    """
    d = x.shape[1]
    centre, width = np.full(d, math.sqrt(2) + math.log(d) / 2), np.full(d, math.sqrt(3))
    noise_prior = _NOISE_PRIOR
    first = (np.ones(d), 0.5, 0.05)
    if like is not None:
        known = len(like.lengthscales)
        centre[:known], width[:known] = np.log(like.lengthscales), _ALIKE
        noise_prior = (math.log(like.noise), _ALIKE_NOISE)
        first = (np.concatenate([like.lengthscales, np.ones(d - known)]), 0.5, like.noise)
    if start is not None:
        first = (start.lengthscales, start.signal, start.noise)
    posterior = LogPosterior(
        x,
        residual,
        variance,
        trend,
        np.concatenate([centre, [_SIGNAL_PRIOR[0], noise_prior[0]]]),
        np.concatenate([width, [_SIGNAL_PRIOR[1], noise_prior[1]]]),
    )
    bounds = [_LENGTHSCALES] * d + [_SIGNALS, _NOISES]
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


class LogPosterior:
    """Of the logarithms of lengthscales, signal and noise variance: d + 2 numbers, in this order.

    With K = s k + trend trend' + diag(noise + variance), a = K^-1 r and a parameter t, the likelihood's gradient is
    1/2 tr((a a' - K^-1) dK/dt) (Rasmussen & Williams 2006, eq. 5.9). For the logarithm of a lengthscale,
    dk/dlog l_d = 5/3 (1 + r) exp(-r) (x_d - x'_d)^2 / l_d^2, so that all d traces are one matrix product. Written out,
    because it is evaluated some ten times whenever hyperparameters are learned: the modules of GPyTorch, with which it
    agrees, took most of an ask, and their import seconds.

    Args:
        x: features, n x d.
        residual: standardised accuracies less the trend's mean, n.
        variance: known, standardised, n.
        trend: n x t.
        centre, width: d + 2 each, of the parameters' log-normal priors.
    """

    def __init__(self, x: np.ndarray, residual, variance, trend, centre: np.ndarray, width: np.ndarray) -> None:
        self._x = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64))
        self._residual, self._fixed = residual, trend @ trend.T
        self._fixed.diagonal().add_(torch.from_numpy(np.asarray(variance, dtype=np.float64)))
        self._centre, self._width = centre, width

    def negative(self, logs: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log posterior, up to a constant, and its gradient, d + 2; both divided by n.

        Infinite where the covariance matrix is singular.
        """
        n, d = self._x.shape
        lengthscales, signal, noise = torch.from_numpy(np.exp(logs[:d])), math.exp(logs[d]), math.exp(logs[d + 1])
        x = self._x / lengthscales
        r = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").mul_(math.sqrt(5))
        decay = torch.exp(-r)
        slope = (1 + r).mul_(decay)
        kernel = torch.addcmul(slope, r.square_(), decay, value=1 / 3)
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
        # sum_ij w_ij (x_i - x_j)^2 = 2 sum_i x_i^2 w_i. - 2 x' w x, for each feature
        squares = 2 * (x.square() * weights.sum(dim=1)[:, None]).sum(dim=0) - 2 * (x * (weights @ x)).sum(dim=0)
        traces = [*squares.tolist(), signal * float((outer * kernel).sum()), noise * float(outer.trace())]
        # A log-normal density in the parameter itself: -log t - (log t - centre)^2 / (2 width^2).
        away = (logs - self._centre) / self._width
        value += float((logs + away**2 / 2).sum())
        return value / n, (np.array(traces) / 2 + 1 + away / self._width) / n
