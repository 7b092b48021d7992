"""Learning the hyperparameters of the model of accuracy."""

import numpy as np
import pytest
import torch

from mgnas.search.samplers.gaussian_process import AccuracyPosterior
from mgnas.search.samplers.gp_hyperparameters import SHIFT, Hyperparameters, LogPosterior, learn


def smooth(x: np.ndarray) -> np.ndarray:
    """Accuracies from about 0.7 to 0.9, of which the first two features decide."""
    return 0.8 + 0.08 * np.sin(3 * x[:, 0]) - 0.05 * (x[:, 1] - 0.3) ** 2


def points(n: int, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, d))


def learned(x, accuracy, like: Hyperparameters | None = None) -> Hyperparameters:
    return learn(x, accuracy, np.zeros(len(x)), None, 1.0, None, like)


def test_what_is_maximised_is_gpytorchs_posterior():
    """Value and gradient at random hyperparameters, against GPyTorch's modules with autograd."""
    gpytorch = pytest.importorskip("gpytorch")
    rng = np.random.default_rng(0)
    n, d = 25, 3
    x, residual = rng.random((n, d)), torch.from_numpy(rng.standard_normal(n))
    variance, trend = rng.random(n) / 10, torch.from_numpy(rng.random((n, 2)))
    centre, width = rng.standard_normal(d + 2), rng.random(d + 2) + 0.5
    posterior = LogPosterior(x, residual, variance, trend, centre, width)
    known = torch.tensor(rng.standard_normal((2, d + 2)) / 2)

    def reference(logs: torch.Tensor) -> torch.Tensor:
        matern = gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=d).double()
        parts = (logs[:d].exp(), logs[d].exp(), logs[d + 1].exp())
        unit = matern(torch.from_numpy(x) / parts[0] * matern.lengthscale).to_dense()
        noise = torch.diag(torch.from_numpy(variance) + parts[2])
        likelihood = gpytorch.distributions.MultivariateNormal(
            torch.zeros(n, dtype=torch.float64), parts[1] * unit + trend @ trend.T + noise
        ).log_prob(residual)
        priors = [
            gpytorch.priors.LogNormalPrior(torch.tensor(centre[i]), torch.tensor(width[i])).log_prob(logs[i].exp())
            for i in range(d + 2)
        ]
        return -(likelihood + sum(priors)) / n

    values = []
    for logs in known:
        logs = logs.clone().requires_grad_(True)
        value = reference(logs)
        value.backward()
        found, gradient = posterior.negative(logs.detach().numpy())
        assert gradient == pytest.approx(logs.grad.numpy(), abs=1e-8)
        values.append((found, value.item()))
    assert values[0][0] - values[1][0] == pytest.approx(values[0][1] - values[1][1], abs=1e-9)


def test_a_singular_covariance_is_no_maximum():
    x = np.zeros((3, 1))
    posterior = LogPosterior(
        x, torch.zeros(3, dtype=torch.float64), -np.ones(3), torch.zeros(3, 1).double(), *np.ones((2, 3))
    )
    assert posterior.negative(np.full(3, -5.0))[0] == np.inf


def test_few_points_are_read_as_the_model_that_they_are_expected_to_be_like():
    """Only the first feature matters, as it did elsewhere; the others' lengthscales stay long."""
    wide = points(150, d=4)
    elsewhere = learned(wide, 0.8 + 0.1 * np.sin(6 * wide[:, 0]))
    x, new = points(12, d=4, seed=1), points(200, d=4, seed=2)
    accuracy, truth = 0.5 - 0.1 * np.sin(6 * x[:, 0]), 0.5 - 0.1 * np.sin(6 * new[:, 0])
    errors = []
    for like in (None, elsewhere):
        posterior = AccuracyPosterior.given(learned(x, accuracy, like=like), x, accuracy, np.zeros(12))
        errors.append(np.abs(posterior.predict(new)[0] - truth).mean())
    assert errors[1] < errors[0] / 2


def test_features_that_the_other_model_did_not_have_are_learned_as_without_it():
    like = learned(points(30, d=2), smooth(points(30, d=2)))
    assert len(learned(points(20), smooth(points(20)), like=like).lengthscales) == 3


def test_accuracies_and_prior_are_standardised():
    """Of equal shares: mean 0.7, standard deviation 0.1; the prior has half of that, about 0.5, and is trusted."""
    accuracy = np.tile([0.6, 0.8], 200)
    found = learn(points(400), accuracy, np.zeros(400), accuracy / 2 + 0.15, 1.0, None)
    assert (found.centre, found.y_std, found.prior_centre) == pytest.approx((0.7, 0.1, 0.5), abs=0.01)
    _, q = found.trend(2, np.array([0.45, 0.55]))
    assert q.numpy() == pytest.approx([-1, 1], rel=0.1)


def test_an_untrusted_prior_has_no_mean():
    x = points(20)
    trend, mean = learn(x, smooth(x), np.zeros(20), smooth(x), 0.0, None).trend(20, smooth(x))
    assert not mean.any()
    assert trend[:, 0].tolist() == [SHIFT] * 20


@pytest.mark.parametrize("noise", [0.003, 0.02])
def test_noise_is_learned_from_repeated_trainings(noise):
    x = np.repeat(points(40), 3, axis=0)
    found = learned(x, smooth(x) + noise * np.random.default_rng(1).standard_normal(120))
    assert found.y_std * np.sqrt(found.noise) == pytest.approx(noise, rel=0.3)
