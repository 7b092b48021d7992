"""What a learning curve will end at, from its first epochs, with an honest uncertainty.

For every epoch t a Bayesian linear regression over finished curves predicts what is still to come:

    y_T - y_t = w . (1, y_t - m_t, y_t - y_{t-1}, d_t) + e,        e ~ N(0, s^2)

with m_t the mean accuracy after epoch t, and d_t the mean of the epochs so far less their own mean. Weights and noise
have a normal-inverse-gamma prior (Bishop, Pattern Recognition and Machine Learning, 2006, section 3.3; Gelman et al.,
Bayesian Data Analysis, section 14.8), so the prediction is a Student t distribution whose scale already holds what few
curves leave open. Curves of an earlier search on other data enter with a small weight, stretched to the same epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_LEAST_CURVES = 6
"""Of this search. With fewer, nothing is predicted."""
_RIDGE = 1e-2
_OTHER_WEIGHT = 0.2
"""A curve on other data counts as so many of this search's."""
_OTHER_MOST = 8.0
"""All of them together count as at most so many."""


@dataclass(frozen=True)
class Prediction:
    """The final accuracy that a curve is expected to reach.

    Args:
        mean: of it.
        std: standard deviation, of the noise between seeds too.
    """

    mean: float
    std: float

    def quantile(self, deviations: float) -> float:
        """The accuracy so many standard deviations above the mean."""
        return self.mean + deviations * self.std


class CurveModel:
    """Predicts from the curves that it was given; all of one length.

    Args:
        epochs: of a whole training.
        others: whole curves on other data, of any length.
    """

    def __init__(self, epochs: int, others: Sequence[Sequence[float]] = ()) -> None:
        self.epochs = epochs
        self._others = np.array([_stretched(curve, epochs) for curve in others]).reshape(len(others), epochs)
        self._curves: list[Sequence[float]] = []
        self._fits: dict[int, _Regression] = {}

    def add(self, curve: Sequence[float]) -> None:
        """A training has ended with this curve."""
        if len(curve) == self.epochs:
            self._curves.append(curve)
            self._fits.clear()

    def predict(self, curve: Sequence[float]) -> Prediction | None:
        """Of an unfinished curve; None while too few have ended, or it has not begun."""
        epoch = len(curve)
        if not epoch or len(self._curves) < _LEAST_CURVES:
            return None
        if epoch >= self.epochs:
            return Prediction(curve[-1], 0.0)
        if epoch not in self._fits:
            self._fits[epoch] = _Regression(epoch, np.array(self._curves), self._others)
        return self._fits[epoch].predict(curve)


class _Regression:
    """What is still to come after one epoch."""

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
            share = min(_OTHER_WEIGHT, _OTHER_MOST / len(others))
            weight = np.concatenate([weight, np.full(len(others), share)])
        # Features have the scale of accuracies, so the ridge is relative to theirs; the constant's is negligible.
        spread = x.std(axis=0)
        ridge = _RIDGE * weight.sum() * np.where(spread > 0, spread**2, 1.0)
        ridge[0] *= 1e-6
        self.precision = (x * weight[:, None]).T @ x + np.diag(ridge)
        self.coefficients = np.linalg.solve(self.precision, (x * weight[:, None]).T @ y)
        residuals = y - x @ self.coefficients
        # The inverse gamma prior is vague: two observations' worth of the spread of what is still to come.
        shape, rate = 1.0, float(np.average((y - y.mean()) ** 2, weights=weight))
        self.freedom = 2 * shape + weight.sum()
        self.variance = (2 * rate + float((weight * residuals**2).sum())) / self.freedom

    def predict(self, curve: Sequence[float]) -> Prediction:
        (x,) = self._features(np.array([curve[: self.epoch]]), self.centre)
        scale = self.variance * (1 + float(x @ np.linalg.solve(self.precision, x)))
        # The variance of Student's t; finite, because there are at least 6 curves.
        std = math.sqrt(scale * self.freedom / (self.freedom - 2))
        return Prediction(float(curve[-1] + x @ self.coefficients), std)

    @staticmethod
    def _features(curves: np.ndarray, centre: float) -> np.ndarray:
        """n x t accuracies -> n x 4."""
        last, before = curves[:, -1], curves[:, -2] if curves.shape[1] > 1 else curves[:, -1]
        return np.column_stack([np.ones(len(curves)), last - centre, last - before, curves.mean(axis=1) - last])


def _stretched(curve: Sequence[float], epochs: int) -> np.ndarray:
    """A curve over other epochs, read off at equal shares of the training."""
    places = np.arange(1, len(curve) + 1) / len(curve)
    return np.interp(np.arange(1, epochs + 1) / epochs, places, curve)
