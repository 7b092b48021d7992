"""How sure a front is: joint samples of the accuracies of trained networks, as the model believes them to be.

Notation, all accuracies on the model's scale:
    n, m, S    trainings, sampled networks (m <= n), samples
    f          what a network reaches on average over trainings, n
    y          what the trainings reached, n
    K          covariance of y before the data, n x n;   alpha = K^-1 (y - mean)
    D          diagonal: variance of a training about its network's f, n
    c          cost of the networks, n

What the model takes for noise has two parts: the luck of a training, D, and what the features do not tell of a network.
The second part belongs to f. So y = f + noise of variance D, and, as K is the covariance of f plus D,

    E[f | y] = y - D alpha,    Cov[f | y] = D - D K^-1 D.

An accuracy p that was measured on N images has a binomial deviation of sqrt(p (1 - p) / N). That is about what the
trainings of one network differ by on all tables of trainings that were looked at: 0.2 on digits, 0.024 on CIFAR-10, on
the model's scale. So D is this variance, which the model is told, and the noise that it learns besides is the
networks' own. If N is not known, all that it learns counts as luck.

In each sample the accuracies are numbers, and so is what follows from them: which networks no cheaper one beats, and
how accurate the best one within a budget is. The samples are joint ones, because networks that resemble each other are
over- and underestimated together. They are also taken over hyperparameters (hyperposterior.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..acquisition import gaps
from ..gaussian_process import AccuracyModel, AccuracyPosterior, one_thread
from ..gp_hyperparameters import ModelFitError
from ..outcome_transforms import LogErrorTransform
from .hyperposterior import sampled_hyperparameters

_SAMPLES = 4_096
"""S; a probability of a half is then known to 0.8 points."""
_HYPERPARAMETERS = 16
"""Draws of the hyperparameters, each with an equal share of the samples."""
_MANY = 400
"""From this number of trainings on, the hyperparameters are sure enough, and drawing them would take seconds."""
_MAX_NETWORKS = 800
"""m at most: those nearest to the front. The others have no part in it."""
_BINS = 16
"""Bins of equal size in which `information` sorts the samples."""
_JITTERS = (1e-10, 1e-8, 1e-6)
"""Added to the diagonal of a covariance, as a share of its mean, until it can be factorised."""

_SCALE = LogErrorTransform()


def factorised(covariance: np.ndarray) -> np.ndarray:
    """A lower triangular L with L L' = covariance, up to a jitter; m x m, as the covariance is.

    Raises:
        ModelFitError: the covariance is not positive semidefinite.
    """
    scale = max(float(np.mean(np.diagonal(covariance))), 1e-300) if len(covariance) else 1.0
    for jitter in _JITTERS:
        try:
            return np.linalg.cholesky(covariance + jitter * scale * np.eye(len(covariance)))
        except np.linalg.LinAlgError:
            continue
    raise ModelFitError("a posterior covariance matrix is not positive semidefinite")


def on_front(accuracy: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Which networks no other one beats, in each sample: a mask of S x m.

    A network is beaten by a cheaper one that is as accurate, and by one of equal cost that is more accurate.

    Args:
        accuracy: S x m.
        cost: m >= 1.
    """
    order = np.argsort(cost, kind="stable")
    ordered, first = accuracy[:, order], np.unique(cost[order], return_index=True)[1]
    best_of_cost = np.maximum.reduceat(ordered, first, axis=1)
    cheaper = np.full_like(best_of_cost, -np.inf)
    np.maximum.accumulate(best_of_cost[:, :-1], axis=1, out=cheaper[:, 1:])
    group = np.repeat(np.arange(len(first)), np.diff([*first, len(order)]))
    mask = np.empty(accuracy.shape, dtype=bool)
    mask[:, order] = (ordered > cheaper[:, group]) & (ordered >= best_of_cost[:, group])
    return mask


@dataclass(frozen=True, eq=False)
class FrontPosterior:
    """What the trainings of a search say about the accuracies of its networks.

    Args:
        cost: c, n.
        mean: E[f], n.
        noise: standard deviation of another training about f, n.
        rows: indices of the sampled networks, m.
        samples: f of these, S x m.
    """

    cost: np.ndarray
    mean: np.ndarray
    noise: np.ndarray
    rows: np.ndarray
    samples: np.ndarray

    @classmethod
    def of(
        cls, x: np.ndarray, accuracy: ArrayLike, cost: np.ndarray, images: int | None = None, seed: int = 0
    ) -> FrontPosterior:
        """Fit the model to trainings and sample.

        Args:
            x: features of the networks, n x d, n >= 2.
            accuracy: as fractions, n.
            cost: c, n.
            images: N, on which the accuracies were measured; None: not known.
            seed: of the draws.

        Raises:
            ModelFitError: from the model.
        """
        y, rng = _SCALE.transform(accuracy), np.random.default_rng(seed)
        luck = np.zeros(len(x)) if images is None else binomial_variance(y, images)
        posterior = AccuracyModel().fit(x, y, luck)
        posteriors = [posterior]
        if len(x) < _MANY:
            drawn = sampled_hyperparameters(posterior.hyperparameters, x, y, luck, count=_HYPERPARAMETERS, seed=seed)
            posteriors = [AccuracyPosterior.given(learned, x, y, luck) for learned in drawn]
        variances = [luck if images else np.full(len(x), posterior.noise**2) for posterior in posteriors]
        means = [_own_mean(posterior, d) for posterior, d in zip(posteriors, variances, strict=True)]
        mean = np.mean(means, axis=0)
        rows = np.sort(np.argsort(gaps(cost, mean), kind="stable")[:_MAX_NETWORKS])
        samples = []
        for posterior, own, d in zip(posteriors, means, variances, strict=True):
            factor = factorised(_own_covariance(posterior, d, rows))
            draws = rng.standard_normal((_SAMPLES // len(posteriors), len(rows)))
            samples.append(own[rows] + draws @ factor.T)
        return cls(cost, mean, np.sqrt(np.mean(variances, axis=0)), rows, np.concatenate(samples))

    def membership(self) -> np.ndarray:
        """The probability that each network is on the front of all of them, n."""
        return self._of_all(on_front(self.samples, self.cost[self.rows]).mean(axis=0))

    def best_within(self, budgets: ArrayLike, quantiles: ArrayLike) -> np.ndarray:
        """Quantiles of the f of the best network within each budget: q x b; NaN for a budget below all networks.

        Args:
            budgets: b costs.
            quantiles: q of them, 0 to 1.
        """
        cost = self.cost[self.rows]
        order = np.argsort(cost, kind="stable")
        best = np.maximum.accumulate(self.samples[:, order], axis=1)
        count = np.searchsorted(cost[order], np.atleast_1d(budgets), side="right")
        values = np.quantile(best, np.atleast_1d(quantiles), axis=0)[:, np.maximum(count - 1, 0)]
        return np.where(count, values, np.nan)

    def information(self) -> np.ndarray:
        """How much the f of each network, if it were known, would tell about the front, n.

        It is the part of the variance of all memberships that it explains, sum over j of Var(P(j on the front | f)):
        0 if every network is as sure as before. Estimated in bins of f.
        """
        mask = on_front(self.samples, self.cost[self.rows])
        overall, size = mask.mean(axis=0), len(mask) // _BINS
        # NOTE: Without the last term the sampling error within the bins would count as explained.
        error = (overall * (1 - overall)).sum() * (_BINS - 1) / len(mask)
        open_columns = np.flatnonzero((overall > 0) & (overall < 1))
        told = np.zeros(len(self.rows))
        for row in open_columns:
            order = np.argsort(self.samples[:, row], kind="stable")[: size * _BINS]
            binned = mask[np.ix_(order, open_columns)].reshape(_BINS, size, -1).mean(axis=1)
            told[row] = max(float(binned.var(axis=0).sum()) - error, 0.0)
        return self._of_all(told)

    def _of_all(self, values: np.ndarray) -> np.ndarray:
        """Values of the sampled networks, m, among zeros for the others, n."""
        spread = np.zeros(len(self.cost))
        spread[self.rows] = values
        return spread


def binomial_variance(z: np.ndarray, images: int) -> np.ndarray:
    """Variance of accuracies about z that were measured on that number of images, on the model's scale."""
    # One image right and one wrong more: an accuracy of 1 would have no variance.
    p = (np.clip(_SCALE.untransform(z), 0, 1) * images + 1) / (images + 2)
    return _SCALE.transform_variance(p, p * (1 - p) / images)


def _own_mean(posterior: AccuracyPosterior, d: np.ndarray) -> np.ndarray:
    """y - D alpha, n."""
    return posterior.observed - d * posterior.coefficients.numpy() / posterior.hyperparameters.y_std


def _own_covariance(posterior: AccuracyPosterior, d: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """D - D K^-1 D, the part of these m rows: m x m."""
    unit = torch.zeros(len(d), len(rows), dtype=torch.float64)
    unit[torch.from_numpy(rows), torch.arange(len(rows))] = 1
    with one_thread():
        whitened = torch.linalg.solve_triangular(posterior.factor, unit, upper=False)
        precision = (whitened.T @ whitened).numpy() / posterior.hyperparameters.y_std**2
    return np.diag(d[rows]) - d[rows, None] * precision * d[rows]
