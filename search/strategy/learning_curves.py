"""What a learning curve will end at, predicted from its first epochs.

Notation, with accuracies on the scale of the logarithm of the error (outcome_transforms.py), on which a network that
failed to learn is no outlier:
    n      finished curves
    T      epochs of a whole training
    z_t    accuracy after epoch t
    m_t    mean of z_t over the finished curves
    d_t    mean of z_1 .. z_t less z_t
    w      weights of the regression, 4
    e      noise, N(0, s^2)

For every epoch t a Bayesian linear regression over finished curves predicts what is still to come:

    z_T - z_t = w . (1, z_t - m_t, z_t - z_{t-1}, d_t) + e

w and s have a normal-inverse-gamma prior (Bishop, Pattern Recognition and Machine Learning, 2006, section 3.3; Gelman
et al., Bayesian Data Analysis, section 14.8). So the prediction is a Student t distribution, whose scale includes the
uncertainty that is due to few curves. Curves of an earlier search on other data enter with a small weight, stretched to
the same number of epochs.

If a sampler has its own expectation of a network, the curve's likelihood is combined with that: it is the prediction
with the distribution of all final accuracies divided out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..samplers.outcome_transforms import LogErrorTransform

LOG_ERROR = LogErrorTransform()
"""The scale of all predictions."""
_MIN_CURVES = 6
"""With fewer curves of this search nothing is predicted."""
_RIDGE = 1e-2
"""Ridge of the regression, relative to the variance of each feature."""
_OTHER_WEIGHT = 0.2
"""Weight of a curve on other data; a curve of this search has 1."""
_MAX_OTHER_WEIGHT = 8.0
"""Weight of all curves on other data together, at most."""
_MIN_NEWS = 1.05
"""A curve says nothing if the variance of its prediction is not smaller by this factor than that of all networks."""


@dataclass(frozen=True)
class Prediction:
    """The final accuracy that a curve is expected to reach.

    Args:
        z: its mean on the scale of the logarithm of the error.
        z_std: its standard deviation there, noise between seeds included.
    """

    z: float
    z_std: float

    def quantile(self, deviations: float) -> float:
        """The accuracy that lies this number of standard deviations above the median, on the scale of z."""
        return float(LOG_ERROR.untransform(self.z + deviations * self.z_std))

    @property
    def mean(self) -> float:
        """The median accuracy, which is the mean to first order."""
        return self.quantile(0)

    @property
    def std(self) -> float:
        """Half of the range of accuracies that holds two thirds of the probability."""
        return (self.quantile(1) - self.quantile(-1)) / 2


class CurveModel:
    """Predicts the end of curves of one length from finished ones.

    Args:
        epochs: of a whole training.
        others: whole curves on other data, of any length.
    """

    def __init__(self, epochs: int, others: Sequence[Sequence[float]] = ()) -> None:
        self.epochs = epochs
        stretched = np.array([_stretched(curve, epochs) for curve in others]).reshape(len(others), epochs)
        self._others = LOG_ERROR.transform(stretched)
        self._curves: list[np.ndarray] = []
        self._regressions: dict[int, _Regression] = {}

    def add(self, curve: Sequence[float]) -> None:
        """Learn from the curve of a finished training; one of another length is ignored."""
        if len(curve) == self.epochs:
            self._curves.append(LOG_ERROR.transform(curve))
            self._regressions.clear()

    def predict(self, curve: Sequence[float], expected: Prediction | None = None) -> Prediction | None:
        """The end of an unfinished curve; None before its first epoch, or while too few curves are known.

        Args:
            curve: validation accuracy after each epoch so far.
            expected: what was expected of this network before its training; None: the same as of all networks.
        """
        epoch = len(curve)
        if not epoch or len(self._curves) < _MIN_CURVES:
            return None
        if epoch >= self.epochs:
            return Prediction(float(LOG_ERROR.transform(curve[-1])), 0.0)
        if expected is None:
            return self._regression(epoch).predict(LOG_ERROR.transform(curve))
        likelihood = self.curve_likelihood(curve)
        if likelihood is None:
            return expected
        before, added = expected.z_std**-2, likelihood.z_std**-2
        z = (before * expected.z + added * likelihood.z) / (before + added)
        return Prediction(z, (before + added) ** -0.5)

    def curve_likelihood(self, curve: Sequence[float]) -> Prediction | None:
        """What the curve alone says of its end, without what is known of all networks; None if it says nothing.

        The prediction for a network like all others is the product of this likelihood and of the distribution N(m, s^2)
        of all final accuracies; the likelihood is what is left when that is divided out.
        """
        predicted = self.predict(curve)
        if predicted is None or not predicted.z_std:
            return predicted
        ends = np.array(self._curves)[:, -1]
        variance = ends.var(ddof=1)
        # NOTE: Compared as variances: all curves may have ended alike, and then no curve says anything new.
        if variance <= _MIN_NEWS * predicted.z_std**2:
            return None
        precision, of_all = predicted.z_std**-2, 1 / variance
        rest = precision - of_all
        return Prediction((precision * predicted.z - of_all * ends.mean()) / rest, rest**-0.5)

    def _regression(self, epoch: int) -> _Regression:
        if epoch not in self._regressions:
            self._regressions[epoch] = _Regression(epoch, np.array(self._curves), self._others)
        return self._regressions[epoch]


class _Regression:
    """Predicts what is still to come after one epoch.

    Args:
        epoch: t.
        curves: finished ones of this search, n x T.
        others: those on other data, any number x T.
    """

    def __init__(self, epoch: int, curves: np.ndarray, others: np.ndarray) -> None:
        self.epoch = epoch
        self.centre = float(curves[:, epoch - 1].mean())
        x, y = self._features(curves[:, :epoch], self.centre), curves[:, -1] - curves[:, epoch - 1]
        weight = np.ones(len(y))
        if len(others):
            other_x = self._features(others[:, :epoch], float(others[:, epoch - 1].mean()))
            other_y = others[:, -1] - others[:, epoch - 1]
            # How much curves still rise depends on the data; which of them rise more than others does less so.
            x = np.vstack([x, other_x - other_x.mean(axis=0)])
            y = np.concatenate([y, other_y - other_y.mean()])
            share = min(_OTHER_WEIGHT, _MAX_OTHER_WEIGHT / len(others))
            weight = np.concatenate([weight, np.full(len(others), share)])
        # Features have the scale of accuracies, so the ridge is relative to theirs; the constant's is negligible.
        x_std = x.std(axis=0)
        ridge = _RIDGE * weight.sum() * np.where(x_std > 0, x_std**2, 1.0)
        ridge[0] *= 1e-6
        self.precision = (x * weight[:, None]).T @ x + np.diag(ridge)
        self.coefficients = np.linalg.solve(self.precision, (x * weight[:, None]).T @ y)
        residuals = y - x @ self.coefficients
        # The inverse gamma prior is vague: it weighs as much as two observations whose variance is that of y.
        shape, rate = 1.0, float(np.average((y - y.mean()) ** 2, weights=weight))
        # The coefficients use up degrees of freedom; otherwise few curves would look as if w were known exactly.
        used = float(np.trace(np.linalg.solve(self.precision, (x * weight[:, None]).T @ x)))
        self.freedom = 2 * shape + weight.sum() - used
        self.variance = (2 * rate + float((weight * residuals**2).sum())) / self.freedom

    def predict(self, curve: np.ndarray) -> Prediction:
        (x,) = self._features(curve[None, : self.epoch], self.centre)
        scale = self.variance * (1 + float(x @ np.linalg.solve(self.precision, x)))
        # The variance of Student's t; finite, because there are at least 6 curves for the 4 coefficients.
        std = math.sqrt(scale * self.freedom / (self.freedom - 2))
        return Prediction(float(curve[-1] + x @ self.coefficients), std)

    @staticmethod
    def _features(curves: np.ndarray, centre: float) -> np.ndarray:
        """(1, z_t - m_t, z_t - z_{t-1}, d_t) of curves up to epoch t, n x t -> n x 4."""
        last, before = curves[:, -1], curves[:, -2] if curves.shape[1] > 1 else curves[:, -1]
        return np.column_stack([np.ones(len(curves)), last - centre, last - before, curves.mean(axis=1) - last])


def _stretched(curve: ArrayLike, epochs: int) -> np.ndarray:
    """A curve over another number of epochs, read off at equal shares of the training; `epochs` values."""
    curve = np.asarray(curve)
    shares = np.arange(1, len(curve) + 1) / len(curve)
    return np.interp(np.arange(1, epochs + 1) / epochs, shares, curve)
