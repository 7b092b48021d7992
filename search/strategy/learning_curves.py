"""What a learning curve will end at, from its first epochs, with an honest uncertainty.

Accuracies are taken on the scale of the logarithm of the error (scales.py), on which a network that failed to learn is
no outlier that spoils the rest. For every epoch t a Bayesian linear regression over finished curves predicts what is
still to come:

    z_T - z_t = w . (1, z_t - m_t, z_t - z_{t-1}, d_t) + e,        e ~ N(0, s^2)

with m_t the mean of z after epoch t, and d_t the mean of the epochs so far less z_t. Weights and noise have a
normal-inverse-gamma prior (Bishop, Pattern Recognition and Machine Learning, 2006, section 3.3; Gelman et al., Bayesian
Data Analysis, section 14.8), so the prediction is a Student t distribution whose scale already holds what few curves
leave open. Curves of an earlier search on other data enter with a small weight, stretched to the same epochs.

Where more is known of a network than that it is one of many, such as what a sampler expects of it, the curve's own
evidence is taken instead: the prediction with the distribution of all final accuracies divided out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..samplers.outcome_transforms import LogErrorTransform

SCALE = LogErrorTransform()
_LEAST_CURVES = 6
"""Of this search. With fewer, nothing is predicted."""
_RIDGE = 1e-2
_OTHER_WEIGHT = 0.2
"""A curve on other data counts as so many of this search's."""
_LEAST_NEWS = 1.05
"""A curve that sharpens what is known of all networks by less than this factor says nothing."""
_OTHER_MOST = 8.0
"""All of them together count as at most so many."""


@dataclass(frozen=True)
class Prediction:
    """The final accuracy that a curve is expected to reach.

    Args:
        z: mean of it on the scale of the logarithm of the error.
        z_std: standard deviation there, of the noise between seeds too.
    """

    z: float
    z_std: float

    def quantile(self, deviations: float) -> float:
        """The accuracy so many standard deviations above the median, on the model's scale."""
        return float(SCALE.untransform(self.z + deviations * self.z_std))

    @property
    def mean(self) -> float:
        """The median, which is the mean to first order."""
        return self.quantile(0)

    @property
    def std(self) -> float:
        """Half of the range that holds two thirds."""
        return (self.quantile(1) - self.quantile(-1)) / 2


class CurveModel:
    """Predicts from the curves that it was given; all of one length.

    Args:
        epochs: of a whole training.
        others: whole curves on other data, of any length.
    """

    def __init__(self, epochs: int, others: Sequence[Sequence[float]] = ()) -> None:
        self.epochs = epochs
        stretched = np.array([_stretched(curve, epochs) for curve in others]).reshape(len(others), epochs)
        self._others = SCALE.transform(stretched)
        self._curves: list[np.ndarray] = []
        self._fits: dict[int, _Regression] = {}

    def add(self, curve: Sequence[float]) -> None:
        """A training has ended with this curve."""
        if len(curve) == self.epochs:
            self._curves.append(SCALE.transform(curve))
            self._fits.clear()

    def predict(self, curve: Sequence[float], belief: Prediction | None = None) -> Prediction | None:
        """Of an unfinished curve; None while too few have ended, or it has not begun.

        Args:
            curve: validation accuracy after each epoch so far.
            belief: what was expected of this network before its training; None: that it is one like all others.
        """
        epoch = len(curve)
        if not epoch or len(self._curves) < _LEAST_CURVES:
            return None
        if epoch >= self.epochs:
            return Prediction(float(SCALE.transform(curve[-1])), 0.0)
        if belief is None:
            return self._regression(epoch).predict(SCALE.transform(curve))
        said = self.curve_likelihood(curve)
        if said is None:
            return belief
        precision, other = belief.z_std**-2, said.z_std**-2
        return Prediction((precision * belief.z + other * said.z) / (precision + other), (precision + other) ** -0.5)

    def curve_likelihood(self, curve: Sequence[float]) -> Prediction | None:
        """What the curve alone says of its end, without what is known of all networks: the likelihood.

        The prediction for a network like all others is the product of this and of their distribution N(m, s^2), so it
        is what is left when that is divided out. None where the curve says nothing.
        """
        expected = self.predict(curve)
        if expected is None or not expected.z_std:
            return expected
        ends = np.array(self._curves)[:, -1]
        variance = ends.var(ddof=1)
        # NOTE: By variances, as all may have ended alike: then there is no news, whatever the curve.
        if variance <= _LEAST_NEWS * expected.z_std**2:
            return None
        precision, before = expected.z_std**-2, 1 / variance
        rest = precision - before
        return Prediction((precision * expected.z - before * ends.mean()) / rest, rest**-0.5)

    def _regression(self, epoch: int) -> _Regression:
        if epoch not in self._fits:
            self._fits[epoch] = _Regression(epoch, np.array(self._curves), self._others)
        return self._fits[epoch]


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
        # Without what the coefficients have used up, few curves would look as if the line through them were sure.
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
        """Curves, n x t -> n x 4."""
        last, before = curves[:, -1], curves[:, -2] if curves.shape[1] > 1 else curves[:, -1]
        return np.column_stack([np.ones(len(curves)), last - centre, last - before, curves.mean(axis=1) - last])


def _stretched(curve: Sequence[float], epochs: int) -> np.ndarray:
    """A curve over other epochs, read off at equal shares of the training."""
    places = np.arange(1, len(curve) + 1) / len(curve)
    return np.interp(np.arange(1, epochs + 1) / epochs, places, curve)
