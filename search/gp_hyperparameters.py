"""Learning the hyperparameters of the model of accuracy, with BoTorch. The model itself: gaussian_process.py."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

SHIFT, SLOPE = 0.5, 0.5
"""Prior standard deviations of a and b, in units of the accuracies' spread."""
LEARNING_POINTS = 350
"""Hyperparameters are learned from at most so many points, drawn at random; predictions use all."""

_TYPICAL_SPREAD, _LEAST_SPREAD = 0.05, 1e-3  # Of accuracies in a search space, as fractions.
_LEAST_LENGTHSCALE, _LEAST_NOISE = 0.025, 1e-5
_NOISE_PRIOR = (-2.0, 1.0)
# Mean and standard deviation of the logarithm of the noise variance in standardised units. A wider one, (-3.5, 1.5),
# found too little noise in 15 to 40 trainings, and so predictions that were too sure of themselves.
_LOGARITHMS = {"raw_lengthscale": (-8.0, 7.0), "raw_outputscale": (-7.0, 5.0), "raw_noise": (-14.0, 3.0)}
# Bounds of what is optimised; beyond them the covariance matrix is numerically singular.
_ITERATIONS = 100


class ModelFitError(RuntimeError):
    """The model cannot be fitted: too few points, values that are not finite, or a numerical failure."""


@dataclass(frozen=True)
class Hyperparameters:
    """What is kept between fits to data of about the same size.

    Args:
        centre, spread: of the accuracies; the standardised ones are (y - centre) / spread.
        prior_centre, prior_scale: q = (prior - prior_centre) * prior_scale, in standardised units.
        lengthscales: one per feature.
        signal: s, the variance of g in standardised units.
        noise: the variance between seeds in standardised units.
    """

    centre: float
    spread: float
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


def learn(x, accuracy, variance, prior, trust: float, start: Hyperparameters | None) -> Hyperparameters:
    """Standardise the data and learn the kernel's hyperparameters, beginning at those of the last time."""
    if len(x) > LEARNING_POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(len(x), LEARNING_POINTS, replace=False))
        x, accuracy, variance = x[chosen], accuracy[chosen], variance[chosen]
        prior = None if prior is None else prior[chosen]
    share = 1 / (_TYPICAL_SPREAD**2 + variance)
    centre, deviation = _moments(accuracy, share)
    spread = max(deviation, _LEAST_SPREAD)
    prior_centre, prior_scale = 0.0, 0.0
    if prior is not None:
        prior_centre, prior_deviation = _moments(prior, share)
        # NOTE: n points tell the logarithm of the ratio of two standard deviations to about 1 / sqrt(n - 2), and before
        # any data two data sets' accuracies spread alike up to a factor of 2. Without this, two points that the prior
        # takes for equal would stretch it beyond all bounds.
        known = max(share.sum() / share.max() - 2, 0)
        ratio = spread / prior_deviation if min(deviation, prior_deviation) > 1e-12 else 1.0
        prior_scale = trust * ratio ** (known / (known + 2)) / spread
    scales = Hyperparameters(centre, spread, prior_centre, prior_scale, np.ones(x.shape[1]), 1.0, 1.0)
    trend, mean = scales.trend(len(x), prior)
    residual = torch.from_numpy((accuracy - centre) / spread) - mean
    if start is not None and len(start.lengthscales) != x.shape[1]:
        start = None
    lengthscales, signal, noise = _maximise_posterior(x, residual, variance / spread**2, trend, start)
    return Hyperparameters(centre, spread, prior_centre, prior_scale, lengthscales, signal, noise)


def _moments(values: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    """Weighted mean and standard deviation."""
    mean = float(np.average(values, weights=share))
    return mean, math.sqrt(np.average((values - mean) ** 2, weights=share))


@contextmanager
def _quiet_botorch() -> Iterator[None]:
    """Without its advice on the scale of data, on jitter and on how an optimiser stopped; and its import's warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        from botorch.exceptions.warnings import InputDataWarning, OptimizationWarning
        from linear_operator.utils.warnings import NumericalWarning

        for category in (InputDataWarning, OptimizationWarning, NumericalWarning):
            warnings.simplefilter("ignore", category)
        yield


@_quiet_botorch()
def _maximise_posterior(x, residual, variance, trend, start: Hyperparameters | None) -> tuple[np.ndarray, float, float]:
    """Lengthscales, signal and noise variance that maximise likelihood times priors (L-BFGS on their logarithms).

    Raises:
        ModelFitError: the optimiser ended at something that is not finite.
    """
    # NOTE: Here, so that commands that do not search this way need not wait for BoTorch's import.
    from botorch.models import SingleTaskGP
    from botorch.optim.fit import fit_gpytorch_mll_scipy
    from gpytorch.constraints import GreaterThan
    from gpytorch.kernels import LinearKernel, MaternKernel, ScaleKernel
    from gpytorch.likelihoods import FixedNoiseGaussianLikelihood
    from gpytorch.means import ZeroMean
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.priors import LogNormalPrior
    from linear_operator.utils.errors import NanError, NotPSDError

    def above(least: float) -> GreaterThan:
        return GreaterThan(least, transform=torch.exp, inv_transform=torch.log)

    d = x.shape[1]
    matern = MaternKernel(
        nu=2.5,
        ard_num_dims=d,
        active_dims=tuple(range(d)),
        lengthscale_prior=LogNormalPrior(math.sqrt(2) + math.log(d) / 2, math.sqrt(3)),
        lengthscale_constraint=above(_LEAST_LENGTHSCALE),
    )
    smooth = ScaleKernel(matern, outputscale_prior=LogNormalPrior(0.0, 1.0), outputscale_constraint=above(0.0))
    linear = LinearKernel(active_dims=tuple(range(d, d + trend.shape[1])))
    linear.initialize(variance=1.0)
    linear.raw_variance.requires_grad_(False)
    likelihood = FixedNoiseGaussianLikelihood(
        noise=torch.from_numpy(variance) + 1e-6,  # GPyTorch's least fixed noise.
        learn_additional_noise=True,
        noise_prior=LogNormalPrior(*_NOISE_PRIOR),
        noise_constraint=above(_LEAST_NOISE),
    )
    inputs = torch.cat([torch.tensor(x), trend], dim=1)
    parts = {"likelihood": likelihood, "covar_module": smooth + linear, "mean_module": ZeroMean()}
    model = SingleTaskGP(inputs, residual[:, None], outcome_transform=None, **parts)
    first = (np.ones(d), 0.5, 0.05) if start is None else (start.lengthscales, start.signal, start.noise)
    # Slightly inside the bounds, where the logarithms are finite.
    matern.lengthscale = torch.from_numpy(np.maximum(first[0], 1.01 * _LEAST_LENGTHSCALE))
    smooth.outputscale = first[1]
    likelihood.second_noise = max(first[2], 1.01 * _LEAST_NOISE)
    mll = ExactMarginalLogLikelihood(likelihood, model).train()
    free = [name for name, parameter in mll.named_parameters() if parameter.requires_grad]
    bounds = {name: _LOGARITHMS[name.rpartition(".")[2]] for name in free}
    try:
        result = fit_gpytorch_mll_scipy(mll, bounds=bounds, options={"maxiter": _ITERATIONS, "ftol": 1e-5})
    except (NotPSDError, NanError) as error:
        raise ModelFitError(f"learning the hyperparameters failed: {error}") from error
    lengthscales = matern.lengthscale.detach().numpy().reshape(-1)
    signal, noise = smooth.outputscale.item(), likelihood.second_noise.item()
    if not all(np.isfinite(value).all() for value in (result.fval, lengthscales, signal, noise)):
        raise ModelFitError(f"learning the hyperparameters failed: {result.message}")
    return lengthscales, signal, noise
