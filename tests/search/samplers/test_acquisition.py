"""The exact expected hypervolume improvement."""

import math

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.samplers.acquisition import (
    Front,
    expected_hypervolume_improvement,
    expected_improvement,
    gaps,
    staircase,
)

DENSITY_AT_0 = 1 / math.sqrt(2 * math.pi)

accuracies = st.floats(0, 1)
deviations = st.floats(0, 0.5)
costs = st.floats(2, 8)
fronts = st.lists(st.tuples(costs, accuracies), max_size=6)
REFERENCE = {"reference_cost": 7.0, "reference_accuracy": 0.1}


def improvement(mean, std, cost, front=(), reference_cost=7.0, reference_accuracy=0.1) -> float:
    """Of a single candidate; front: pairs of cost and accuracy."""
    front = np.array(list(front)).reshape(-1, 2)
    arrays = (np.array([value]) for value in (mean, std, cost))
    return expected_hypervolume_improvement(*arrays, front[:, 0], front[:, 1], reference_cost, reference_accuracy)[0]


def hypervolume(points) -> float:
    """Of pairs of cost and accuracy, by moocore."""
    kept = [(cost, 1 - accuracy) for cost, accuracy in points]
    reference = (REFERENCE["reference_cost"], 1 - REFERENCE["reference_accuracy"])
    return float(moocore.hypervolume(np.array(kept, dtype=float), ref=reference)) if kept else 0.0


@pytest.mark.parametrize(
    ("mean", "std", "threshold", "expected"),
    [
        (0.7, 0.0, 0.5, 0.2),
        (0.5, 0.0, 0.7, 0.0),
        (0.5, 0.2, 0.5, 0.2 * DENSITY_AT_0),
        (1.0, 1.0, 0.0, 1.0833154705876864),  # phi(1) + Phi(1) = 0.2419707245 + 0.8413447461
        (0.0, 1.0, 1.0, 0.0833154705876864),  # phi(1) - Phi(-1)
        (0.7, 1e-310, 0.5, 0.2),
        (0.5, 1e-310, 0.7, 0.0),
    ],
)
def test_expected_improvement_by_hand(mean, std, threshold, expected):
    assert expected_improvement(mean, std, threshold) == pytest.approx(expected, abs=1e-12)


def test_tiny_expected_improvements_keep_their_digits():
    """phi(z) (1/z^2 - 3/z^4 + 15/z^6 - 105/z^8), the expansion of the exact value far below the threshold."""
    z = 20.0
    series = 1 / z**2 - 3 / z**4 + 15 / z**6 - 105 / z**8 + 945 / z**10
    exact = math.exp(-(z**2) / 2) * DENSITY_AT_0 * series
    assert expected_improvement(0.0, 1.0, z) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(
    ("mean", "cost", "front", "expected"),
    [
        (0.6, 5.0, [], 2 * 0.5),  # costs 5 to 7, accuracies 0.1 to 0.6
        (0.6, 5.0, [(6, 0.4)], 1 * 0.5 + 1 * 0.2),
        (0.6, 5.0, [(4, 0.4)], 2 * 0.2),
        (0.6, 5.0, [(5, 0.4)], 2 * 0.2),
        (0.6, 5.0, [(4, 0.7)], 0),
        (0.6, 4.0, [(5, 0.4), (6, 0.9)], 1 * 0.5 + 1 * 0.2),
        (0.6, 4.0, [(3, 0.2), (6, 0.5)], 2 * 0.4 + 1 * 0.1),
        (0.6, 7.0, [], 0),
        (0.6, 7.5, [], 0),
        (0.05, 5.0, [], 0),  # below the reference accuracy
        (0.6, 5.0, [(3, 0.05)], 2 * 0.5),
        (0.6, 5.0, [(8, 0.9)], 2 * 0.5),  # beyond the reference cost
    ],
)
def test_a_known_accuracy_adds_the_area_worked_out_by_hand(mean, cost, front, expected):
    assert improvement(mean, 0.0, cost, front) == pytest.approx(expected, abs=1e-12)


def test_uncertain_accuracies_by_hand():
    """At its threshold a slab is worth width * std * phi(0)."""
    assert improvement(0.4, 0.2, 5.0, [(4, 0.4)]) == pytest.approx(2 * 0.2 * DENSITY_AT_0)
    at_0 = 0.1 * DENSITY_AT_0
    at_minus_1 = 0.1 * 0.0833154705876864
    assert improvement(0.4, 0.1, 5.0, [(4, 0.4), (6, 0.5)]) == pytest.approx(at_0 + at_minus_1)


def test_many_candidates_at_once():
    mean, std, cost = np.array([0.6, 0.4, 0.6]), np.array([0.0, 0.1, 0.0]), np.array([4.0, 5.0, 7.0])
    together = expected_hypervolume_improvement(mean, std, cost, np.array([4.5]), np.array([0.4]), 7.0, 0.1)
    alone = [improvement(*candidate, [(4.5, 0.4)]) for candidate in zip(mean, std, cost, strict=True)]
    assert together == pytest.approx(alone)
    assert together.shape == (3,)


@given(mean=accuracies, cost=costs, front=fronts)
def test_without_uncertainty_it_is_the_difference_of_hypervolumes(mean, cost, front):
    expected = hypervolume([*front, (cost, mean)]) - hypervolume(front)
    assert improvement(mean, 0.0, cost, front) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_monte_carlo_integration(seed):
    rng = np.random.default_rng(seed)
    front = list(zip(rng.uniform(3, 6.5, 5), rng.uniform(0.3, 0.8, 5), strict=True))
    mean, std, cost = rng.uniform(0.4, 0.8), rng.uniform(0.05, 0.2), rng.uniform(2.5, 6)
    drawn = rng.normal(mean, std, 4000)
    before = hypervolume(front)
    gains = np.array([hypervolume([*front, (cost, accuracy)]) - before for accuracy in drawn])
    error = gains.std() / math.sqrt(len(gains))
    assert improvement(mean, std, cost, front) == pytest.approx(gains.mean(), abs=4 * error)


@given(mean=accuracies, std=deviations, cost=costs, front=fronts, more=accuracies, wider=deviations)
def test_more_accuracy_and_more_uncertainty_are_never_worse(mean, std, cost, front, more, wider):
    value = improvement(mean, std, cost, front)
    assert value >= 0
    assert improvement(mean + more, std, cost, front) >= value - 1e-12
    assert improvement(mean, std + wider, cost, front) >= value - 1e-12


@given(mean=accuracies, std=deviations, cost=costs, front=fronts, cheaper=st.floats(0, 2))
def test_a_cheaper_candidate_of_the_same_accuracy_is_never_worse(mean, std, cost, front, cheaper):
    assert improvement(mean, std, cost - cheaper, front) >= improvement(mean, std, cost, front) - 1e-12


@given(front=fronts.filter(bool), index=st.integers(0, 5), worse=accuracies, dearer=st.floats(0, 2))
def test_a_dominated_point_of_known_accuracy_adds_nothing(front, index, worse, dearer):
    cost, accuracy = front[index % len(front)]
    assert improvement(accuracy - worse, 0.0, cost + dearer, front) == 0


@given(mean=accuracies, std=deviations, cost=costs, front=fronts.filter(bool), worse=accuracies, dearer=st.floats(0, 2))
def test_dominated_points_of_the_front_change_nothing(mean, std, cost, front, worse, dearer):
    dominated = [(c + dearer, a - worse) for c, a in front]
    assert improvement(mean, std, cost, dominated + front) == pytest.approx(improvement(mean, std, cost, front))


def test_the_staircase_rises_strictly():
    cost, accuracy = np.array([5, 3, 4, 6, 5, 8.0]), np.array([0.6, 0.4, 0.3, 0.6, 0.5, 0.9])
    edges, levels = staircase(cost, accuracy, 7.0, 0.1)
    assert edges.tolist() == [-math.inf, 3, 5, 7]
    assert levels.tolist() == [0.1, 0.4, 0.6]


def test_gaps_to_the_points_own_staircase():
    cost, accuracy = np.array([5, 3, 4, 6.0]), np.array([0.6, 0.4, 0.3, 0.5])
    assert gaps(cost, accuracy) == pytest.approx([0, 0, 0.1, 0.1])


def test_a_front_is_improved_as_the_formula_says():
    front = Front(np.array([4.0, 6.0]), np.array([0.4, 0.5]), 7.0, 0.1)
    assert front.improvement(np.array([0.6]), np.zeros(1), np.array([4.0])) == pytest.approx([2 * 0.2 + 1 * 0.1])


def test_a_further_point_of_a_front_replaces_what_it_dominates():
    front = Front(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.6, 0.8]), 4.0, 0.0)
    more = front.with_point(1.5, 0.7)
    assert more.cost.tolist() == [1.0, 3.0, 1.5]
    assert more.accuracy.tolist() == [0.5, 0.8, 0.7]
    sure, at = np.zeros(1), np.array([2.0])
    # Above 0.7 up to 3, above 0.8 from there on.
    assert more.improvement(np.array([0.75]), sure, at) == pytest.approx(0.05)
    assert front.with_point(1.5, 0.4).cost.tolist() == [1.0, 2.0, 3.0]
