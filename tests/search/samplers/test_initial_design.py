"""The initial design is spread over costs and features."""

import numpy as np
import pytest
from grid_problem import ALL, GRID, weights
from optuna.distributions import IntDistribution

from mgnas.search.samplers.candidate_pool import DistributionPool, Point
from mgnas.search.samplers.initial_design import _van_der_corput, initial_design
from mgnas.search.samplers.study_snapshot import StudySnapshot


@pytest.fixture
def pool():
    pool = DistributionPool(GRID, weights, seed=0)
    pool.refresh()
    return pool


def design(pool, count: int, shift: float = 0.0, seed: int = 0) -> list[Point]:
    """The first points, each of a running trial when the next one is asked for."""
    rng, snapshot = np.random.default_rng(seed), StudySnapshot()
    for _ in range(count):
        point = initial_design(pool, snapshot, shift, rng)
        if point is None:
            break
        snapshot.pending.append(point)
        snapshot.seen.add(point.id)
        snapshot.started += 1
    return snapshot.pending


def test_the_sequence_of_costs():
    assert [_van_der_corput(index) for index in range(6)] == [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8]


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_logarithms_of_the_costs_follow_the_sequence(shift):
    """They are 0, 0.01, ..., 1, and each point is drawn from the five nearest to the wanted one."""
    even = DistributionPool({"width": IntDistribution(0, 100)}, lambda params: 10 ** (params["width"] / 100))
    even.refresh()
    costs = [point.log_cost for point in design(even, 6, shift)]
    assert costs == pytest.approx([(share + shift) % 1 for share in (0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8)], abs=0.06)


def test_near_a_cost_the_most_different_point_is_taken():
    """Of five points of equal cost, at 0 to 4, all are drawn; the first is random, the second one of the ends."""
    kinds = DistributionPool({"width": GRID["width"]}, lambda params: 7, lambda params: np.array([params["width"]]))
    kinds.refresh()
    kinds._keep(np.arange(5), [])
    for seed in range(5):
        first, second = design(kinds, 2, seed=seed)
        distance = {point.params["width"]: abs(point.params["width"] - first.params["width"]) for point in kinds.points}
        assert distance[second.params["width"]] == max(distance.values())


def test_every_point_comes_once_and_then_none(pool):
    points = design(pool, len(ALL) + 1)
    assert len({point.id for point in points}) == len(points) == len(ALL)


def test_a_seed_fixes_the_design(pool):
    first, again, other = ([point.id for point in design(pool, 6, seed=seed)] for seed in (0, 0, 1))
    assert first == again != other
