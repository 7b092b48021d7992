import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.samplers.gaussian_process import AccuracyModel
from mgnas.search.samplers.gp_hyperparameters import ModelFitError
from mgnas.search.samplers.outcome_transforms import LogErrorTransform
from mgnas.search.samplers.outlook.front_posterior import FrontPosterior, factorised, on_front

SCALE = LogErrorTransform()


def independent(mean, std, cost, count=200_000):
    """A posterior of independent accuracies."""
    samples = np.asarray(mean) + np.asarray(std) * np.random.default_rng(0).standard_normal((count, len(mean)))
    return FrontPosterior(np.asarray(cost, float), np.asarray(mean), np.zeros(len(mean)), np.arange(len(mean)), samples)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_the_front_is_what_no_other_network_beats(points):
    cost, accuracy = np.array(points, dtype=float).T
    beaten = [
        any((c < cost[i] and a >= accuracy[i]) or (c == cost[i] and a > accuracy[i]) for c, a in points)
        for i in range(len(points))
    ]
    assert on_front(accuracy[None], cost)[0].tolist() == [not one for one in beaten]


def test_of_two_equal_networks_the_heavier_one_is_on_the_front_every_other_time():
    posterior = independent([0.0, 0.0], [1.0, 1.0], [1, 2])
    assert posterior.membership() == pytest.approx([1.0, 0.5], abs=0.005)


def test_a_network_two_deviations_better_has_the_probability_of_the_normal_distribution():
    # The difference has the mean 2 and the variance 2: Phi(sqrt 2) = 0.9214.
    assert independent([0.0, 2.0], [1.0, 1.0], [1, 2]).membership()[1] == pytest.approx(0.9214, abs=0.003)


def test_the_best_of_two_equal_networks_has_the_quantiles_of_a_maximum():
    # P(max <= t) = Phi(t)^2, so the median is Phi^-1(sqrt 0.5) = 0.5450.
    posterior = independent([0.0, 0.0], [1.0, 1.0], [1, 2])
    within = posterior.best_within([0.5, 1.0, 5.0], 0.5)[0]
    assert np.isnan(within[0])
    assert within[1:] == pytest.approx([0.0, 0.5450], abs=0.01)


def test_a_larger_budget_is_never_worse():
    posterior = independent([0.0, -1.0, 0.3, 0.2], [0.3, 2.0, 0.1, 0.5], [4, 1, 3, 2], 2_000)
    low, high = posterior.best_within([1, 2, 3, 4], [0.05, 0.95])
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) >= 0).all()
    assert (low <= high).all()


def test_training_tells_most_where_the_front_is_open():
    # The first is on the front for sure, the third is hopeless, the second may or may not beat the first.
    told = independent([0.0, 0.0, -9.0], [0.01, 1.0, 0.01], [1, 2, 3], 4_096).information()
    assert told[1] == pytest.approx(0.25, abs=0.03)  # It decides its own membership, of the variance 1/4.
    assert told[0] < 0.02
    assert told[2] == 0


def test_nothing_is_told_of_a_sure_front():
    assert independent([0.0, 1.0, 2.0], [0.01] * 3, [1, 2, 3], 4_096).information().tolist() == [0, 0, 0]


def test_the_probabilities_are_those_of_the_model_that_drew_the_accuracies():
    """Of networks said to be on the front with 80 %, 80 % are: in worlds drawn from a Gaussian process."""
    said, are = [], []
    for world in range(25):
        rng = np.random.default_rng(world)
        x, cost = rng.random((36, 2)), rng.random(36)
        distance = np.linalg.norm((x[:, None] - x) / 0.5, axis=2) * 5**0.5
        covariance = (1 + distance + distance**2 / 3) * np.exp(-distance)
        truth = 3 + 0.2 * factorised(covariance) @ rng.standard_normal(36)
        trained = truth + 0.1 * rng.standard_normal(36)
        said.append(FrontPosterior.of(x, SCALE.untransform(trained), cost, seed=world).membership())
        are.append(on_front(truth[None], cost)[0])
    said, are = np.concatenate(said), np.concatenate(are)
    for low, high in itertools.pairwise((0.0, 0.2, 0.4, 0.6, 0.7, 0.9, 1.01)):
        chosen = (said >= low) & (said < high)
        error = np.sqrt(0.25 / chosen.sum())
        assert are[chosen].mean() == pytest.approx(said[chosen].mean(), abs=0.05 + 2 * error)


def test_many_trainings_are_sampled_near_the_front_alone(monkeypatch):
    monkeypatch.setattr("mgnas.search.samplers.outlook.front_posterior._MAX_NETWORKS", 10)
    rng = np.random.default_rng(0)
    x = rng.random((60, 2))
    posterior = FrontPosterior.of(x, 0.6 + 0.3 * x[:, 0], rng.random(60))
    assert posterior.samples.shape == (4_096, 10)
    assert np.count_nonzero(posterior.membership()) <= 10
    assert posterior.mean.shape == (60,)


def test_the_own_mean_is_the_models_mean_at_each_training():
    rng = np.random.default_rng(1)
    x, accuracy = rng.random((450, 2)), rng.random(450) * 0.1 + 0.8
    posterior = FrontPosterior.of(x, accuracy, rng.random(450))  # So many that hyperparameters are not drawn.
    model = AccuracyModel().fit(x, SCALE.transform(accuracy), np.zeros(450))
    assert posterior.mean == pytest.approx(model.predict(x)[0], abs=1e-8)
    assert posterior.samples.std(axis=0) == pytest.approx(model.predict(x)[1][posterior.rows], rel=0.15, abs=1e-5)


def test_a_covariance_that_is_none_is_refused():
    with pytest.raises(ModelFitError, match="not positive semidefinite"):
        factorised(np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert factorised(np.zeros((0, 0))).shape == (0, 0)
