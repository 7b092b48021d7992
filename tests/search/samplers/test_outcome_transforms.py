"""The scales on which objectives are modelled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.samplers.acquisition import expected_hypervolume_improvement, expected_improvement
from mgnas.search.samplers.outcome_transforms import IdentityTransform, LogErrorTransform

SCALE = LogErrorTransform(offset=0.01)


def test_halving_the_error_is_a_step_of_log_2():
    assert LogErrorTransform(offset=0.0).transform(np.array([0.8, 0.9])) == pytest.approx([np.log(5), np.log(10)])


@given(st.floats(0, 1))
def test_there_and_back(accuracy):
    assert SCALE.untransform(SCALE.transform(accuracy)) == pytest.approx(accuracy, abs=1e-12)


def test_what_a_model_predicts_beyond_1_counts_as_1():
    assert SCALE.transform(1.2) == SCALE.transform(1.0) == pytest.approx(-np.log(0.01))


def test_the_variance_is_that_of_a_small_change():
    """At 0.9 the error with its offset is 0.11, so dz = dy / 0.11."""
    assert SCALE.transform_variance(0.9, 0.0011**2) == pytest.approx(0.01**2)
    step = SCALE.transform(0.9 + 1e-6) - SCALE.transform(0.9)
    assert np.sqrt(SCALE.transform_variance(0.9, 1e-12)) == pytest.approx(step, rel=1e-4)


@pytest.mark.parametrize("std", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("accuracy", [0.3, 0.9, 0.97])
@pytest.mark.parametrize("threshold", [0.5, 0.92])
def test_the_expected_improvement_is_that_of_a_monte_carlo_mean(std, accuracy, threshold):
    z = np.random.default_rng(0).normal(SCALE.transform(accuracy), std, 400_000)
    gains = np.maximum(SCALE.untransform(z) - threshold, 0)
    exact = SCALE.improvement(SCALE.transform(accuracy), std, SCALE.transform(threshold))
    assert exact == pytest.approx(gains.mean(), abs=5 * gains.std() / np.sqrt(len(z)) + 1e-9)


def test_a_known_accuracy_improves_by_the_difference():
    gains = SCALE.improvement(SCALE.transform(np.array([0.9, 0.7])), np.zeros(2), SCALE.transform(0.8))
    assert gains == pytest.approx([0.1, 0.0])


def test_far_below_the_threshold_and_very_uncertain_nothing_overflows():
    with np.errstate(all="raise", under="ignore"):
        gains = SCALE.improvement(np.array([-50.0, 0.1, 4.0]), np.array([1e-3, 30.0, 1e-300]), np.full(3, 2.0))
    assert np.isfinite(gains).all()
    assert gains[0] == 0


@given(st.floats(0.0, 0.99), st.floats(0, 2), st.floats(0.0, 0.99), st.floats(0.001, 0.2))
def test_it_grows_with_the_mean_and_never_exceeds_what_is_left(accuracy, std, threshold, more):
    mean, level = SCALE.transform(accuracy), SCALE.transform(threshold)
    gain = SCALE.improvement(mean, std, level)
    assert 0 <= gain <= 1 + SCALE.offset - threshold + 1e-9
    assert SCALE.improvement(mean + more, std, level) >= gain - 1e-12


def test_the_linear_scale_changes_nothing():
    scale = IdentityTransform()
    assert scale.transform([1.0, 97.0]).tolist() == [1.0, 97.0]
    assert scale.transform_variance([1.0], [0.5]).tolist() == [0.5]
    assert scale.improvement(0.5, 0.1, 0.4) == expected_improvement(0.5, 0.1, 0.4)


def test_hypervolume_on_the_error_scale_is_measured_in_accuracy():
    """One known candidate of cost 1 between a point of cost 0 and the reference 3: (3 - 1) x (0.9 - 0.8)."""
    arguments = (SCALE.transform(np.array([0.9])), np.zeros(1), np.ones(1), np.zeros(1))
    front, lowest = SCALE.transform(np.array([0.8])), float(SCALE.transform(0.5))
    gain = expected_hypervolume_improvement(*arguments, front, 3.0, lowest, SCALE.improvement)
    assert gain == pytest.approx([0.2])
