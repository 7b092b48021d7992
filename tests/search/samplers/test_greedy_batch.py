"""Several proposals from one state of the model."""

import numpy as np
import pytest

from mgnas.search.samplers.acquisition import Front
from mgnas.search.samplers.greedy_batch import greedy_batch

FRONT = Front(np.array([1.0]), np.array([0.5]), 3.0, 0.0)


def test_what_is_known_is_chosen_by_what_it_adds_to_those_before():
    """No uncertainty: 0.8 at 2 is taken; then 0.7 at 1.5 adds 0.1, 0.81 at 2.5 adds 0.005, 0.6 at 2 nothing."""
    mean, cost = np.array([0.8, 0.81, 0.7, 0.6]), np.array([2.0, 2.5, 1.5, 2.0])
    chosen = greedy_batch(FRONT, mean, cost, np.zeros((4, 4)), 1e-6, 9)
    assert chosen == [(2, 0.0), (1, 0.0)]
    assert greedy_batch(FRONT, mean, cost, np.zeros((4, 4)), 1e-6, 2) == [(2, 0.0)]
    assert greedy_batch(FRONT, mean, cost, np.zeros((4, 4)), 1e-6, 1) == []


def test_what_the_first_one_tells_is_not_asked_again():
    """Of two equally good ones the second is known from the first; the third, a little worse, is independent."""
    mean, cost = np.array([0.5, 0.5, 0.49]), np.full(3, 1.0)
    covariance = 0.01 * np.array([[1.0, 0.999, 0], [0.999, 1.0, 0], [0, 0, 1.0]])
    chosen = greedy_batch(FRONT, mean, cost, covariance, 1e-3, 3)
    assert [row for row, _ in chosen] == [2, 1]
    assert chosen[0][1] == pytest.approx(0.1)
    assert chosen[1][1] < 0.01


def test_the_covariance_of_the_caller_is_not_changed():
    covariance = np.eye(3) * 0.01
    greedy_batch(FRONT, np.full(3, 0.5), np.full(3, 1.0), covariance, 0.1, 3)
    assert np.array_equal(covariance, np.eye(3) * 0.01)
