"""The model of accuracy against the textbook's formula, and what it makes of noise, priors and pending points."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgnas.search.samplers.gaussian_process import AccuracyModel, AccuracyPosterior
from mgnas.search.samplers.gp_hyperparameters import LEARNING_POINTS, SHIFT, SLOPE, ModelFitError


def smooth(x: np.ndarray) -> np.ndarray:
    """Accuracies from about 0.7 to 0.9, of which the first two features decide."""
    return 0.8 + 0.08 * np.sin(3 * x[:, 0]) - 0.05 * (x[:, 1] - 0.3) ** 2


def points(n: int, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, d))


def fitted(x, accuracy, variance=None, prior=None) -> AccuracyPosterior:
    return AccuracyModel().fit(x, accuracy, np.zeros(len(x)) if variance is None else variance, prior)


def textbook(posterior: AccuracyPosterior, x, accuracy, variance, new, prior=None, new_prior=None):
    """Mean and standard std: m + k' K^-1 (y - m) and k(x, x) - k' K^-1 k (Rasmussen & Williams, eq. 2.23-24)."""
    learned = posterior.hyperparameters

    def q(values, like):
        values = np.full(len(like), learned.prior_centre) if values is None else values
        return (values - learned.prior_centre) * learned.prior_scale

    def covariance(x1, q1, x2, q2):
        r = np.sqrt(5) * np.linalg.norm((x1[:, None] - x2[None]) / learned.lengthscales, axis=-1)
        return learned.signal * (1 + r + r**2 / 3) * np.exp(-r) + SHIFT**2 + SLOPE**2 * np.outer(q1, q2)

    q_old, q_new = q(prior, x), q(new_prior, new)
    noise = np.diag(learned.noise + variance / learned.y_std**2)
    inverse = np.linalg.inv(covariance(x, q_old, x, q_old) + noise)
    cross = covariance(new, q_new, x, q_old)
    mean = q_new + cross @ inverse @ ((accuracy - learned.centre) / learned.y_std - q_old)
    left = np.diag(covariance(new, q_new, new, q_new) - cross @ inverse @ cross.T)
    return learned.centre + learned.y_std * mean, learned.y_std * np.sqrt(left)


@pytest.mark.parametrize("with_prior", [False, True])
def test_predictions_are_the_textbooks(with_prior):
    x, new = points(10), points(20, seed=1)
    accuracy = smooth(x) + 0.01 * np.random.default_rng(2).standard_normal(10)
    variance = np.where(np.arange(10) < 4, 0.0, 0.01**2)
    priors = (smooth(x) ** 2, smooth(new) ** 2) if with_prior else (None, None)
    posterior = fitted(x, accuracy, variance, priors[0])
    mean, std = posterior.predict(new, priors[1])
    expected = textbook(posterior, x, accuracy, variance, new, *priors)
    assert mean == pytest.approx(expected[0], abs=1e-6)
    assert std == pytest.approx(expected[1], abs=1e-6)
    assert posterior.mean(new, priors[1]) == pytest.approx(mean, abs=1e-12)


def test_without_noise_it_interpolates():
    x = points(40, d=2)
    posterior = fitted(x, smooth(x))
    mean, std = posterior.predict(x)
    assert mean == pytest.approx(smooth(x), abs=1e-3)
    assert std.max() < 2e-3
    between = points(100, d=2, seed=1)
    assert np.abs(posterior.predict(between)[0] - smooth(between)).mean() < 3e-3


@pytest.mark.parametrize("noise", [0.003, 0.02])
def test_it_finds_the_noise_between_seeds(noise):
    x = points(200, d=4)
    posterior = fitted(x, smooth(x) + noise * np.random.default_rng(1).standard_normal(200))
    assert noise / 2 < posterior.noise < noise * 2


def test_known_variance_is_not_taken_for_noise_between_seeds():
    """Three quarters of the points are predictions that are off by 0.03; the rest are off by 0.003."""
    x = points(200, d=4)
    unfinished = np.arange(200) % 4 > 0
    error = np.where(unfinished, 0.03, 0.003) * np.random.default_rng(1).standard_normal(200)
    posterior = fitted(x, smooth(x) + error, np.where(unfinished, 0.03**2, 0.0))
    assert 0.0015 < posterior.noise < 0.006


def test_points_of_huge_known_variance_are_as_good_as_absent():
    x, nothing, new = points(20), points(15, seed=1), points(30, seed=2)
    accuracy = smooth(x) + 0.005 * np.random.default_rng(3).standard_normal(20)
    without = fitted(x, accuracy).predict(new)
    variance = np.concatenate([np.zeros(20), np.full(15, 1e6)])
    posterior = fitted(np.concatenate([x, nothing]), np.concatenate([accuracy, np.ones(15)]), variance)
    mean, std = posterior.predict(new)
    assert mean == pytest.approx(without[0], abs=1e-3)
    assert std == pytest.approx(without[1], abs=1e-3)


def test_features_that_do_not_vary_do_not_hurt():
    x, new = points(40, d=2), points(100, d=2, seed=1)
    accuracy = smooth(x) + 0.002 * np.random.default_rng(2).standard_normal(40)
    padded = [np.hstack([values, np.full((len(values), 12), 0.5)]) for values in (x, new)]
    mean, _ = fitted(padded[0], accuracy).predict(padded[1])
    assert np.abs(mean - smooth(new)).mean() < 2 * np.abs(fitted(x, accuracy).predict(new)[0] - smooth(new)).mean()


class TestPrior:
    x = points(30)
    new = points(200, seed=1)
    accuracy = smooth(x) + 0.005 * np.random.default_rng(2).standard_normal(30)

    @pytest.mark.parametrize(("scale", "offset"), [(1, 0), (0.5, 0.3), (100, -7)])
    def test_a_right_one_is_believed_on_any_scale(self, scale, offset):
        assert fitted(self.x, self.accuracy, prior=offset + scale * smooth(self.x)).slope == pytest.approx(1, abs=0.3)

    @pytest.mark.parametrize("seed", range(5))
    def test_a_shuffled_one_is_not(self, seed):
        shuffled = np.random.default_rng(seed).permutation(smooth(self.x))
        assert abs(fitted(self.x, self.accuracy, prior=shuffled).slope) < 0.25

    def test_it_says_from_the_start_which_points_are_better(self):
        x = points(3, seed=5)
        without = fitted(x, smooth(x)).predict(self.new)[0]
        with_it = fitted(x, smooth(x), prior=smooth(x)).predict(self.new, smooth(self.new))[0]
        truth = smooth(self.new)
        assert np.corrcoef(with_it, truth)[0, 1] > max(0.95, np.corrcoef(without, truth)[0, 1])

    def test_of_two_points_that_it_takes_for_equal_it_is_not_stretched_beyond_bounds(self):
        """The accuracies differ by 100,000 times as much as what the prior says."""
        prior = 0.8 + np.array([0.0, 1e-6])
        posterior = fitted(self.x[:2], np.array([0.75, 0.85]), prior=prior)
        mean, _ = posterior.predict(self.new, np.linspace(0.7, 0.9, 200))
        assert mean.min() > 0.4
        assert mean.max() < 1.2

    def test_a_constant_one_changes_nothing_much(self):
        without = fitted(self.x, self.accuracy).predict(self.new)[0]
        mean, _ = fitted(self.x, self.accuracy, prior=np.full(30, 0.5)).predict(self.new, np.full(200, 0.5))
        assert mean == pytest.approx(without, abs=1e-3)

    def test_predictions_need_it_exactly_if_the_fit_had_one(self):
        with pytest.raises(ValueError, match="exactly if"):
            fitted(self.x, self.accuracy).predict(self.new, smooth(self.new))
        with pytest.raises(ValueError, match="exactly if"):
            fitted(self.x, self.accuracy, prior=smooth(self.x)).condition_on_pending(self.new)


class TestPending:
    @pytest.mark.parametrize("with_prior", [False, True])
    def test_they_leave_means_and_take_uncertainty(self, with_prior):
        """A normal variable of variance v that is observed with variance s is left with v s / (v + s)."""
        x, new = points(20), points(50, seed=2)
        prior = smooth if with_prior else lambda x: None
        posterior = fitted(x, smooth(x), prior=prior(x))
        mean, std = posterior.predict(new, prior(new))
        conditioned = posterior.condition_on_pending(new[:1], prior(new[:1]))
        mean_then, std_then = conditioned.predict(new, prior(new))
        assert mean_then == pytest.approx(mean, abs=1e-6)
        assert (std_then <= std + 1e-9).all()
        variances = std[0] ** 2, posterior.noise**2
        assert std_then[0] ** 2 == pytest.approx(variances[0] * variances[1] / sum(variances), rel=1e-6)

    def test_they_count_as_observations(self):
        """One after the other, both at once, and, by the textbook, as data."""
        x, pending, new = points(10), points(3, seed=1), points(20, seed=2)
        one, other = fitted(x, smooth(x)), fitted(x, smooth(x))
        imagined = one.predict(pending)[0]
        one = one.condition_on_pending(pending)
        other = other.condition_on_pending(pending[:1]).condition_on_pending(pending[1:])
        everything, accuracy = np.vstack([x, pending]), np.concatenate([smooth(x), imagined])
        expected = textbook(one, everything, accuracy, np.zeros(13), new)
        for posterior in (one, other):
            mean, std = posterior.predict(new)
            assert mean == pytest.approx(expected[0], abs=1e-6)
            assert std == pytest.approx(expected[1], abs=1e-6)

    def test_the_posterior_itself_stays_without_them(self):
        x, new = points(10), points(20, seed=2)
        posterior = fitted(x, smooth(x))
        before = posterior.predict(new)
        conditioned = posterior.condition_on_pending(np.repeat(new[:1], 3, axis=0))
        assert (posterior.size, conditioned.size) == (10, 13)
        assert np.array_equal(before, posterior.predict(new))


def refitted(model: AccuracyModel, x, accuracy, variance=None) -> AccuracyPosterior:
    return model.fit(x, accuracy, np.zeros(len(x)) if variance is None else variance)


class TestLearning:
    def test_hyperparameters_are_kept_until_the_data_have_grown_by_a_tenth(self):
        x = points(45)
        model = AccuracyModel()
        first = refitted(model, x[:40], smooth(x[:40])).hyperparameters
        posterior = refitted(model, x[:43], smooth(x[:43]))
        assert posterior.hyperparameters is model.hyperparameters is first
        assert posterior.predict(x[42:43])[0] == pytest.approx(smooth(x[42:43]), abs=2e-3), "conditions all the same"
        assert refitted(model, x[:44], smooth(x[:44])).hyperparameters is not first

    def test_finished_trials_count_as_growth(self):
        x = points(40)
        variance = np.where(np.arange(40) < 20, 0.0, 0.01**2)
        model = AccuracyModel()
        first = refitted(model, x, smooth(x), variance).hyperparameters
        assert refitted(model, x, smooth(x), np.where(np.arange(40) < 21, 0.0, variance)).hyperparameters is first
        assert refitted(model, x, smooth(x), np.where(np.arange(40) < 22, 0.0, variance)).hyperparameters is not first

    def test_a_warm_start_ends_where_a_cold_one_does(self):
        x, new = points(60), points(100, seed=1)
        accuracy = smooth(x) + 0.005 * np.random.default_rng(2).standard_normal(60)
        model = AccuracyModel()
        refitted(model, x[:50], accuracy[:50])
        warm, cold = refitted(model, x, accuracy), fitted(x, accuracy)
        assert warm.hyperparameters is not cold.hyperparameters
        assert warm.predict(new)[0] == pytest.approx(cold.predict(new)[0], abs=2e-3)

    def test_of_many_points_some_teach_the_hyperparameters_and_all_the_predictions(self):
        n = LEARNING_POINTS + 100
        x = points(n)
        accuracy = smooth(x) + 0.005 * np.random.default_rng(1).standard_normal(n)
        posterior = fitted(x, accuracy)
        mean, std = posterior.predict(x)
        expected = textbook(posterior, x, accuracy, np.zeros(n), x)
        assert mean == pytest.approx(expected[0], abs=1e-6)
        assert std == pytest.approx(expected[1], abs=1e-6)

    def test_observations_that_the_points_are_a_part_of_count_as_growth(self):
        x = points(20)
        model = AccuracyModel()
        first = model.fit(x, smooth(x), np.zeros(20), n_total=100).hyperparameters
        assert model.fit(x[::-1], smooth(x[::-1]), np.zeros(20), n_total=105).hyperparameters is first
        posterior = model.fit(x, smooth(x), np.zeros(20), n_total=110)
        assert posterior.hyperparameters is not first
        assert posterior.size == 20


@given(
    st.integers(2, 8).flatmap(
        lambda n: st.tuples(
            st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=2), min_size=n, max_size=n),
            st.lists(st.sampled_from([0.1, 0.1001, 0.5, 0.9]), min_size=n, max_size=n),
            st.lists(st.sampled_from([0.0, 1e-4, 1.0]), min_size=n, max_size=n),
        )
    )
)
@settings(max_examples=25)
def test_repeated_points_and_equal_accuracies_are_fine(data):
    x, accuracy, variance = map(np.array, data)
    mean, std = fitted(x, accuracy, variance).predict(np.array([[0.0, 0.0], [0.3, 0.7]]))
    assert ((mean > -0.5) & (mean < 1.5)).all()
    assert ((std >= 0) & (std < 1)).all()


def test_repeats_of_a_point_average_out():
    x = np.vstack([points(10), np.full((30, 3), 0.5)])
    accuracy = np.concatenate([smooth(x[:10]), 0.8 + 0.01 * np.tile([-1, 1], 15)])
    mean, std = fitted(x, accuracy).predict(x[-1:])
    assert mean == pytest.approx([0.8], abs=3e-3)
    assert std[0] < 5e-3


def test_equal_accuracies_are_predicted_everywhere():
    mean, std = fitted(points(10), np.full(10, 0.8)).predict(points(20, seed=1))
    assert mean == pytest.approx(np.full(20, 0.8), abs=1e-4)
    assert std.max() < 2e-3


def test_nothing_to_predict():
    posterior = fitted(points(5), smooth(points(5)))
    mean, std = posterior.predict(np.empty((0, 3)))
    assert mean.shape == std.shape == posterior.mean(np.empty((0, 3))).shape == (0,)


@pytest.mark.parametrize(
    ("x", "accuracy", "variance", "prior"),
    [
        (np.zeros((1, 2)), [0.5], [0.0], None),
        (np.zeros((0, 2)), [], [], None),
        ([[0.0], [np.nan]], [0.5, 0.6], [0.0, 0.0], None),
        ([[0.0], [1.0]], [0.5, np.nan], [0.0, 0.0], None),
        ([[0.0], [1.0]], [0.5, 0.6], [0.0, np.inf], None),
        ([[0.0], [1.0]], [0.5, 0.6], [0.0, -1e-9], None),
        ([[0.0], [1.0]], [0.5, 0.6], [0.0, 0.0], [np.nan, 0.5]),
    ],
)
def test_what_cannot_be_fitted_is_refused_and_changes_nothing(x, accuracy, variance, prior):
    model = AccuracyModel()
    before = refitted(model, points(5, d=1), smooth(points(5, d=2))).hyperparameters
    with pytest.raises(ModelFitError):
        model.fit(x, accuracy, variance, prior)
    assert refitted(model, points(5, d=1), smooth(points(5, d=2))).hyperparameters is before


def test_it_is_silent_deterministic_and_leaves_the_threads_alone():
    x = points(20)
    torch.set_num_threads(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.manual_seed(0)
        one = fitted(x, smooth(x)).predict(x)
        torch.manual_seed(1)
        assert np.array_equal(one, fitted(x, smooth(x)).predict(x))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("with_prior", [False, True])
def test_the_covariance_is_that_of_the_predictions(with_prior):
    x, new = points(15), points(6, seed=1)
    priors = (smooth(x), smooth(new)) if with_prior else (None, None)
    posterior = fitted(x, smooth(x) + 0.01 * np.random.default_rng(2).standard_normal(15), prior=priors[0])
    covariance, before = posterior.covariance(new, priors[1]), posterior.predict(new, priors[1])[1]
    assert np.sqrt(np.diagonal(covariance)) == pytest.approx(before, abs=1e-9)
    # Conditioning on one of them changes the others' uncertainty by the rank-one update.
    conditioned = posterior.condition_on_pending(new[:1], None if priors[1] is None else priors[1][:1])
    column = covariance[0]
    left = np.diagonal(covariance) - column**2 / (column[0] + posterior.noise**2)
    assert conditioned.predict(new, priors[1])[1] == pytest.approx(np.sqrt(left), abs=1e-8)


def test_leaving_out_a_group_is_conditioning_on_the_others():
    """Against the textbook's formula with the same hyperparameters, the groups' points taken away."""
    rng = np.random.default_rng(0)
    x, groups = rng.random((12, 2)), np.array([0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 7])
    y = np.sin(3 * x[:, 0]) + 0.1 * rng.normal(size=12)
    posterior = AccuracyModel().fit(x, y, np.zeros(12))
    means = posterior.leave_one_group_out(groups)
    for group in np.unique(groups):
        others, own = groups != group, groups == group
        of_others = AccuracyPosterior.given(posterior.hyperparameters, x[others], y[others], np.zeros(others.sum()))
        assert means[own] == pytest.approx(of_others.mean(x[own]), abs=1e-8)
