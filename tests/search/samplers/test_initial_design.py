"""The initial design: a random point, then points of all costs that differ from each other."""

import numpy as np
import pytest
from grid_problem import ALL, GRID, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import IntDistribution

from mgnas.search.samplers.candidate_pool import DistributionPool, Point
from mgnas.search.samplers.initial_design import _van_der_corput, initial_design
from mgnas.search.samplers.study_snapshot import StudySnapshot


@pytest.fixture
def pool():
    pool = DistributionPool(GRID, weights, seed=0)
    pool.refresh()
    return pool


def design(pool, count: int, seed: int = 0) -> list[Point]:
    """The first points, each of a running trial when the next one is asked for."""
    rng, snapshot = np.random.default_rng(seed), StudySnapshot()
    for _ in range(count):
        point = initial_design(pool, snapshot, rng)
        if point is None:
            break
        snapshot.first = snapshot.first or point
        snapshot.pending.append(point)
        snapshot.seen.add(point.id)
        snapshot.started += 1
    return snapshot.pending


def test_the_sequence_of_costs():
    assert [_van_der_corput(index) for index in range(6)] == [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8]


def test_the_first_point_is_any_with_equal_probability():
    """Its cost and its place in the space do not matter, so the start is never worse than a random one."""
    uneven = DistributionPool({"width": IntDistribution(0, 4)}, lambda params: 10.0 ** params["width"] ** 2)
    uneven.refresh()
    firsts = [design(uneven, 1, seed)[0].params["width"] for seed in range(1000)]
    assert np.bincount(firsts, minlength=5) == pytest.approx(200, abs=60)  # Five standard deviations.


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_the_logarithms_of_the_costs_follow_the_sequence_from_the_first(seed):
    """They are 0, 0.01, ..., 1, and each point is drawn from the five nearest to the wanted one, or two more."""
    even = DistributionPool({"width": IntDistribution(0, 100)}, lambda params: 10 ** (params["width"] / 100))
    even.refresh()
    first, *others = [point.log_cost for point in design(even, 6, seed)]
    assert others == pytest.approx([(share + first) % 1 for share in (1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8)], abs=0.07)


def alike(count: int) -> DistributionPool:
    """Points 0, 1, ... of equal cost."""
    kinds = {"kind": IntDistribution(0, count - 1)}
    pool = DistributionPool(kinds, lambda params: 7, lambda params: np.array([params["kind"]]))
    pool.refresh()
    return pool


def test_near_a_cost_the_most_different_of_some_points_is_taken():
    """Of three points of equal cost both that are left are drawn, so that the farther one comes second."""
    for seed in range(5):
        first, second = (point.params["kind"] for point in design(alike(3), 2, seed))
        assert abs(second - first) == max(abs(kind - first) for kind in range(3))


def test_points_of_equal_cost_are_drawn_from_wherever_they_stand_in_the_space():
    pool = alike(100)
    later = np.concatenate([[point.params["kind"] for point in design(pool, 6, seed)[1:]] for seed in range(100)])
    assert np.histogram(later, 5, (0, 100))[0].min() > 50  # 100 if the points were quite random.


def test_every_point_comes_once_and_then_none(pool):
    points = design(pool, len(ALL) + 1)
    assert len({point.id for point in points}) == len(points) == len(ALL)


def test_a_seed_fixes_the_design(pool):
    first, again, other = ([point.id for point in design(pool, 6, seed=seed)] for seed in (0, 0, 1))
    assert first == again != other
