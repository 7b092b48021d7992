"""The scales on which objectives are modelled, and the expected improvements on them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from mgnas.search.samplers.acquisition import expected_hypervolume_improvement, expected_improvement
from mgnas.search.samplers.outcome_transforms import IdentityTransform, LogErrorTransform

LOG_ERROR = LogErrorTransform(offset=0.01)


def test_halving_the_error_is_a_step_of_log_2():
    assert LogErrorTransform(offset=0.0).transform(np.array([0.8, 0.9])) == pytest.approx([np.log(5), np.log(10)])


@given(st.floats(0, 1))
def test_there_and_back(accuracy):
    assert LOG_ERROR.untransform(LOG_ERROR.transform(accuracy)) == pytest.approx(accuracy, abs=1e-12)


def test_what_a_model_predicts_beyond_1_counts_as_1():
    assert LOG_ERROR.transform(1.2) == LOG_ERROR.transform(1.0) == pytest.approx(-np.log(0.01))


def test_the_variance_is_that_of_a_small_change():
    """At 0.9 the error with its offset is 0.11, so dz = dy / 0.11."""
    assert LOG_ERROR.transform_variance(0.9, 0.0011**2) == pytest.approx(0.01**2)
    step = LOG_ERROR.transform(0.9 + 1e-6) - LOG_ERROR.transform(0.9)
    assert np.sqrt(LOG_ERROR.transform_variance(0.9, 1e-12)) == pytest.approx(step, rel=1e-4)


@pytest.mark.parametrize("std", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("accuracy", [0.3, 0.9, 0.97])
@pytest.mark.parametrize("threshold", [0.5, 0.92])
def test_the_expected_improvement_is_that_of_a_monte_carlo_mean(std, accuracy, threshold):
    z = np.random.default_rng(0).normal(LOG_ERROR.transform(accuracy), std, 400_000)
    gains = np.maximum(LOG_ERROR.untransform(z) - threshold, 0)
    exact = LOG_ERROR.expected_improvement(LOG_ERROR.transform(accuracy), std, LOG_ERROR.transform(threshold))
    assert exact == pytest.approx(gains.mean(), abs=5 * gains.std() / np.sqrt(len(z)) + 1e-9)


def test_a_known_accuracy_improves_by_the_difference():
    mean, threshold = LOG_ERROR.transform([0.9, 0.7]), LOG_ERROR.transform(0.8)
    gains = LOG_ERROR.expected_improvement(mean, np.zeros(2), threshold)
    assert gains == pytest.approx([0.1, 0.0])


def test_far_below_the_threshold_and_very_uncertain_nothing_overflows():
    with np.errstate(all="raise", under="ignore"):
        gains = LOG_ERROR.expected_improvement([-50.0, 0.1, 4.0], [1e-3, 30.0, 1e-300], [2.0, 2.0, 2.0])
    # The last one is known: its accuracy lies exp(-2) - exp(-4) above the threshold.
    assert gains == pytest.approx([0, integrated(0.1, 30.0, 2.0), np.exp(-2) - np.exp(-4)], rel=1e-6)


@pytest.mark.parametrize("std", [0.05, 0.3])
@pytest.mark.parametrize("deviations", [0.0, 3.0, 6.0])
def test_far_below_the_threshold_the_improvement_keeps_its_digits(std, deviations):
    """There hardly any draw of a Monte Carlo mean would fall."""
    threshold = 2.0 + deviations * std
    exact = integrated(2.0, std, threshold)
    assert LOG_ERROR.expected_improvement(2.0, std, threshold) == pytest.approx(exact, rel=1e-5)


def integrated(mean: float, std: float, threshold: float) -> float:
    """The integral of max(0, y - t) over the density of z."""

    def gain(z: float) -> float:
        return (np.exp(-threshold) - np.exp(-z)) * norm.pdf(z, mean, std)

    return quad(gain, threshold, threshold + 10 * std, epsabs=0, epsrel=1e-10)[0]


@given(st.floats(0.0, 0.99), st.floats(0, 2), st.floats(0.0, 0.99), st.floats(0.001, 0.2))
def test_it_grows_with_the_mean_and_never_exceeds_what_is_left(accuracy, std, threshold, more):
    mean, level = LOG_ERROR.transform(accuracy), LOG_ERROR.transform(threshold)
    gain = LOG_ERROR.expected_improvement(mean, std, level)
    assert 0 <= gain <= 1 + LOG_ERROR.offset - threshold + 1e-9
    assert LOG_ERROR.expected_improvement(mean + more, std, level) >= gain - 1e-12


def test_the_identity_changes_nothing():
    identity = IdentityTransform()
    assert identity.transform([1.0, 97.0]).tolist() == [1.0, 97.0]
    assert identity.transform_variance([1.0], [0.5]).tolist() == [0.5]
    assert identity.expected_improvement(0.5, 0.1, 0.4) == expected_improvement(0.5, 0.1, 0.4)


def test_hypervolume_on_the_error_scale_is_measured_in_accuracy():
    """One known candidate of cost 1 between a point of cost 0 and the reference 3: (3 - 1) x (0.9 - 0.8)."""
    arguments = (LOG_ERROR.transform(np.array([0.9])), np.zeros(1), np.ones(1), np.zeros(1))
    front, lowest = LOG_ERROR.transform(np.array([0.8])), float(LOG_ERROR.transform(0.5))
    gain = expected_hypervolume_improvement(*arguments, front, 3.0, lowest, LOG_ERROR.expected_improvement)
    assert gain == pytest.approx([0.2])
