import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.samplers.acquisition import Front, expected_hypervolume_improvement
from mgnas.search.samplers.outcome_transforms import IdentityTransform
from mgnas.search.samplers.outlook.rollouts import expected_gain, hypervolume

PLAIN = IdentityTransform()
coordinate = st.floats(0.0, 0.99)


@given(st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=6))
def test_the_area_is_the_dominated_hypervolume(points):
    cost, accuracy = np.array(points).T
    expected = moocore.hypervolume(np.stack([cost, -accuracy], axis=1), ref=(1.0, 0.0))
    assert hypervolume(cost, accuracy, 1.0, 0.0) == pytest.approx(expected)


def test_points_beyond_the_reference_add_nothing():
    assert hypervolume(np.array([0.5, 2.0]), np.array([-1.0, 9.0]), 1.0, 0.0) == 0
    assert hypervolume(np.empty(0), np.empty(0), 1.0, 0.0) == 0


def gain(mean, covariance, noise, cost, trained, pending, count, rollouts):
    front = Front(cost[:trained], mean[:trained], 1.0, 0.0)
    return expected_gain(
        mean, covariance, noise, cost, trained, pending, count, front, (0.0, 1.0), PLAIN, rollouts=rollouts
    )


def test_one_trial_of_one_candidate_gains_its_expected_improvement():
    mean, cost = np.array([0.5, 0.6, 0.55]), np.array([0.1, 0.6, 0.3])
    covariance = np.diag([0.0, 0.0, 0.2**2])
    before, gained = gain(mean, covariance, 0.0, cost, 2, 0, 1, 20_000)
    assert before == pytest.approx(0.5 * 0.5 + 0.6 * 0.4)
    exact = expected_hypervolume_improvement(mean[2:], np.array([0.2]), cost[2:], cost[:2], mean[:2], 1.0, 0.0)[0]
    assert gained == pytest.approx(exact, rel=0.05)


def test_a_pending_trial_counts_as_ended():
    mean, cost = np.array([0.5, 0.6, 0.55]), np.array([0.1, 0.6, 0.3])
    covariance = np.diag([0.0, 0.0, 0.2**2])
    before, gained = gain(mean, covariance, 0.0, cost, 2, 1, 5, 20_000)
    exact = expected_hypervolume_improvement(mean[2:], np.array([0.2]), cost[2:], cost[:2], mean[:2], 1.0, 0.0)[0]
    assert before - (0.5 * 0.5 + 0.6 * 0.4) == pytest.approx(exact, rel=0.05)
    assert gained == 0  # Nothing is left to train.


def test_more_trials_gain_more_and_less_each():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(20, 20)) * 0.05
    mean, cost, covariance = np.full(20, 0.5), rng.random(20), root @ root.T
    gains = [gain(mean, covariance, 0.01, cost, 4, 0, count, 400)[1] for count in (1, 4, 16)]
    assert 0 < gains[0] < gains[1] < gains[2]
    assert gains[2] / 16 < gains[1] / 4 < gains[0]


def test_the_expected_gain_is_what_searches_of_worlds_from_the_model_gain():
    """Searches that fit the model anew before each choice, in 150 worlds drawn from it."""
    n, started, count, noise = 25, 4, 5, 0.05
    predicted, realised = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        x, cost = rng.random((n, 2)), rng.random(n)
        prior = 0.1**2 * np.exp(-((x[:, None] - x) ** 2).sum(axis=2) / 0.3) + 1e-9 * np.eye(n)
        world = 0.5 + np.linalg.cholesky(prior) @ rng.standard_normal(n)
        seen = {row: world[row] + noise * rng.standard_normal() for row in range(started)}

        def posterior(prior=prior, seen=seen):
            rows = list(seen)
            weights = np.linalg.solve(prior[np.ix_(rows, rows)] + noise**2 * np.eye(len(rows)), prior[rows]).T
            mean = 0.5 + weights @ (np.array([*seen.values()]) - 0.5)
            return mean, prior - weights @ prior[rows]

        mean, covariance = posterior()
        predicted.append(gain(mean, covariance, noise, cost, started, 0, count, 10)[1])
        for _ in range(count):
            mean, covariance = posterior()
            rows, others = list(seen), [row for row in range(n) if row not in seen]
            std = np.hypot(np.sqrt(np.maximum(covariance.diagonal()[others], 0)), noise)
            scores = Front(cost[rows], mean[rows], 1.0, 0.0).improvement(mean[others], std, cost[others])
            row = others[int(np.argmax(scores))]
            seen[row] = world[row] + noise * rng.standard_normal()
        again = world + noise * rng.standard_normal(n)  # Another training of each network.
        areas = [hypervolume(cost[rows], again[rows], 1.0, 0.0) for rows in (list(seen)[:started], list(seen))]
        realised.append(areas[1] - areas[0])
    error = np.hypot(np.std(predicted), np.std(realised)) / np.sqrt(len(predicted))
    assert np.mean(predicted) == pytest.approx(np.mean(realised), abs=3 * error)
    assert error < 0.15 * np.mean(realised)
