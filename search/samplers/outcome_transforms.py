"""The scale on which a Gaussian process models an objective, and the expected improvement that follows from it.

Accuracies are bounded, and the nearer to 1 the finer their differences: the step from 0.97 to 0.98 is as much progress
as that from 0.7 to 0.8. A network that failed to learn is an outlier of many standard deviations. Both problems
disappear on the scale of the logarithm of the error,

    z(y) = -log(1 + offset - y),

on which a normal z means a log-normal error. The hypervolume stays in units of the accuracy y.

Notation, with arrays of any shapes that broadcast against each other:
    y        accuracy, a fraction
    z        accuracy on the model's scale; normal with mean m and standard deviation s
    t        threshold, an accuracy
    k        = z(t), the threshold on the model's scale
    d        = (m - k) / s
    Phi      standard normal distribution function

    E[max(0, y - t)] = (1 + offset - t) Phi(d) - exp(-m + s^2 / 2) Phi(d - s)

The second term is a log-normal variable's partial expectation, E[exp(-z); z > k], as in the formula of Black & Scholes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtr

from .acquisition import expected_improvement

_STD_OF_KNOWN = 1e-9
"""A standard deviation below this is taken for 0."""


@dataclass(frozen=True)
class IdentityTransform:
    """The objective is modelled on its own scale; fits objectives of any kind."""

    def transform(self, value: ArrayLike) -> np.ndarray:
        return np.asarray(value, dtype=float)

    def untransform(self, z: ArrayLike) -> np.ndarray:
        return np.asarray(z, dtype=float)

    def transform_variance(self, value: ArrayLike, variance: ArrayLike) -> np.ndarray:
        return np.asarray(variance, dtype=float)

    def expected_improvement(self, mean: ArrayLike, std: ArrayLike, threshold: ArrayLike) -> np.ndarray:
        return expected_improvement(mean, std, threshold)


@dataclass(frozen=True)
class LogErrorTransform:
    """Accuracies, as fractions, are modelled by the logarithm of their error.

    Args:
        offset: added to the error, so that a perfect accuracy is finite; about the smallest error that means something.
    """

    offset: float = 0.01

    def transform(self, value: ArrayLike) -> np.ndarray:
        """z of accuracies; those above 1, as a model may predict them, count as 1."""
        return -np.log(1 + self.offset - np.minimum(value, 1.0))

    def untransform(self, z: ArrayLike) -> np.ndarray:
        """The accuracy at z. The mean of a normal z becomes the median accuracy."""
        return 1 + self.offset - np.exp(-np.asarray(z, dtype=float))

    def transform_variance(self, value: ArrayLike, variance: ArrayLike) -> np.ndarray:
        """Variance of z, to first order, for accuracies of a small variance."""
        return np.asarray(variance, dtype=float) / (1 + self.offset - np.minimum(value, 1.0)) ** 2

    def expected_improvement(self, mean: ArrayLike, std: ArrayLike, threshold: ArrayLike) -> np.ndarray:
        """E[max(0, y - t)], an accuracy; the arguments m, s and k are on the model's scale."""
        mean, std, threshold = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (mean, std, threshold)))
        known = std < _STD_OF_KNOWN
        s = np.where(known, 1.0, std)
        d = (mean - threshold) / s
        # NOTE: In logarithms, because far out the first factor overflows while the second one vanishes.
        partial_error = np.exp(np.minimum(-mean + s**2 / 2 + log_ndtr(d - s), 0.0))
        gain = np.exp(-threshold) * ndtr(d) - partial_error
        known_gain = np.exp(-threshold) - np.exp(-mean)
        return np.maximum(np.where(known, known_gain, gain), 0.0)


OutcomeTransform = IdentityTransform | LogErrorTransform
