import numpy as np
import pytest

from mgnas.search.samplers.gaussian_process import AccuracyModel
from mgnas.search.samplers.gp_hyperparameters import LENGTHSCALE_BOUNDS, log_priors
from mgnas.search.samplers.outlook.hyperposterior import sampled_hyperparameters

NONE = np.zeros(40)


def trainings(noise, seed=0, n=40):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 3))
    return x, np.sin(3 * x[:, 0]) + noise * rng.normal(size=n)


def test_draws_spread_about_the_noise_that_there_is():
    x, y = trainings(0.3)
    learned = AccuracyModel().fit(x, y, NONE).hyperparameters
    drawn = sampled_hyperparameters(learned, x, y, NONE, count=40)
    noise = np.array([one.noise**0.5 * one.y_std for one in drawn])
    assert np.quantile(noise, 0.05) < 0.3 < np.quantile(noise, 0.95)
    assert len(set(noise)) > 30


def test_without_data_the_draws_are_the_prior():
    x, y = trainings(0.3)
    learned = AccuracyModel().fit(x, y, NONE).hyperparameters
    # Trainings of an enormous known variance tell nothing.
    drawn = sampled_hyperparameters(learned, x, y, NONE + 1e12, count=300)
    logs = np.log([[*one.lengthscales, one.signal, one.noise] for one in drawn])
    centre, width = log_priors(3, None)
    assert logs[:, 3:].mean(axis=0) == pytest.approx(centre[3:], abs=0.25)
    assert logs[:, 3:].std(axis=0) == pytest.approx(width[3:], rel=0.2)
    assert np.exp(logs[:, :3]).min() >= LENGTHSCALE_BOUNDS[0] * 0.999


def test_equal_seeds_give_equal_draws_and_features_that_do_not_vary_are_no_problem():
    x, y = trainings(0.1)
    x[:, 2] = 0.5
    learned = AccuracyModel().fit(x, y, NONE).hyperparameters
    first, again = (sampled_hyperparameters(learned, x, y, NONE, count=3, seed=5) for _ in range(2))
    assert [one.noise for one in first] == [one.noise for one in again]


def test_noise_is_expected_to_be_as_on_the_other_data_set():
    x, y = trainings(0.3)
    model = AccuracyModel()
    learned = model.fit(x, y, NONE).hyperparameters
    telling_nothing = NONE + 1e12
    drawn = sampled_hyperparameters(learned, x, y, telling_nothing, like=learned, count=200)
    assert np.log([one.noise for one in drawn]).mean() == pytest.approx(np.log(learned.noise), abs=0.2)
