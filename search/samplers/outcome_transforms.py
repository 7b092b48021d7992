"""The scale on which a Gaussian process models an objective, and the expected improvement that follows from it.

Accuracies are bounded, and the nearer to 1 the finer their differences: from 0.97 to 0.98 is as much progress as from
0.7 to 0.8, and a network that failed to learn is an outlier of many standard deviations. On the scale of

    z = -log(1 + offset - y)

both disappear: a normal z means a log-normal error. The hypervolume stays in units of y. With z ~ N(m, s^2), a
threshold t, k = z(t) and d = (m - k) / s,

    E[max(0, y - t)] = (1 + offset - t) Phi(d) - exp(-m + s^2 / 2) Phi(d - s),

because E[exp(-z); z > k] = exp(-m + s^2 / 2) Phi((m - s^2 - k) / s): a log-normal variable's partial expectation, as
in the formula of Black & Scholes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtr

from .acquisition import expected_improvement

_KNOWN = 1e-9
"""A standard deviation below this is 0."""


@dataclass(frozen=True)
class IdentityTransform:
    """The objective is modelled as it is; for objectives of any kind."""

    def transform(self, value: np.ndarray) -> np.ndarray:
        return np.asarray(value, dtype=float)

    def transform_variance(self, value: np.ndarray, variance: np.ndarray) -> np.ndarray:
        return np.asarray(variance, dtype=float)

    def improvement(self, mean: np.ndarray, std: np.ndarray, threshold: np.ndarray) -> np.ndarray:
        return expected_improvement(mean, std, threshold)


@dataclass(frozen=True)
class LogErrorTransform:
    """Accuracies, as fractions, are modelled by the logarithm of their error.

    Args:
        offset: added to the error, so that a perfect accuracy is finite; about the smallest error that means something.
    """

    offset: float = 0.01

    def transform(self, value: np.ndarray) -> np.ndarray:
        """z of accuracies; those beyond 1, as a model may predict them, count as 1."""
        return -np.log(1 + self.offset - np.minimum(value, 1.0))

    def untransform(self, z: np.ndarray) -> np.ndarray:
        """The accuracy at z; of a normal z's mean it is the median accuracy."""
        return 1 + self.offset - np.exp(-np.asarray(z, dtype=float))

    def transform_variance(self, value: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Of z, to first order, for accuracies of a small variance."""
        return variance / (1 + self.offset - np.minimum(value, 1.0)) ** 2

    def improvement(self, mean: np.ndarray, std: np.ndarray, threshold: np.ndarray) -> np.ndarray:
        """E[max(0, accuracy - threshold)]; all three arguments on the model's scale, the result is an accuracy."""
        mean, std, threshold = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (mean, std, threshold)))
        known = std < _KNOWN
        s = np.where(known, 1.0, std)
        d = (mean - threshold) / s
        # NOTE: In logarithms, because far out the first factor overflows where the second one vanishes.
        error_left = np.exp(np.minimum(-mean + s**2 / 2 + log_ndtr(d - s), 0.0))
        gain = np.exp(-threshold) * ndtr(d) - error_left
        sure = np.exp(-threshold) - np.exp(-mean)
        return np.maximum(np.where(known, sure, gain), 0.0)


OutcomeTransform = IdentityTransform | LogErrorTransform
