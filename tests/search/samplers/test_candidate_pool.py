"""The candidates that a model-based sampler looks at."""

import copy
import math

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mgnas.search.samplers import candidate_pool
from mgnas.search.samplers.candidate_pool import CandidatePool, DistributionPool, scaled
from mgnas.search.samplers.features import FEATURES
from mgnas.space import SearchSpace, TrainingSettings

RATES = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1]
CONTINUOUS = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "steps": IntDistribution(1, 50),
    "kind": CategoricalDistribution(("a", "b", None)),
}


def steps_of(values) -> float:
    return values["steps"]


@pytest.fixture(scope="module")
def large_space():
    """3.2 million points, some of them invalid or too heavy."""
    parameters = {
        "family": ["mgnet", "mgic", "mgiad"],
        "base_channels": [[16, 32], [32, 64], [16, 32, 64]],
        "channel_scaling": [0.5, 1, 1.5, 2, 3],
        "smoothing_steps": {"low": 1, "high": 8},
        "group_size": [2, 4, 8, 16],
        "fully_coupled_channels": [4, 8, 16],
        "channel_levels": {"low": 2, "high": 6},
        "blocks": {"low": 1, "high": 4},
        "learning_rate": RATES,
    }
    mapping = {"parameters": parameters, "limits": {"max_weights": "200k"}}
    return SearchSpace(mapping, TrainingSettings(epochs=2), num_classes=10, in_channels=1, image_size=8)


@pytest.fixture(scope="module")
def filled_pool(large_space):
    pool = CandidatePool(large_space, seed=0)
    pool.refresh()
    return pool


@pytest.fixture
def large_pool(filled_pool):
    return copy.deepcopy(filled_pool)


def test_a_small_space_is_looked_at_whole(small_space):
    pool = CandidatePool(small_space, seed=0)
    assert pool.points == []
    pool.refresh()
    candidates = list(small_space.enumerate())
    assert pool.whole
    assert pool.ids == [candidate.id for candidate in candidates]
    assert pool.features.shape == (17, len(FEATURES))
    assert pool.log_cost == pytest.approx([math.log10(candidate.weights) for candidate in candidates])
    before = pool.points
    pool.refresh([candidates[0].params], {candidates[1].id})
    assert pool.points is before


def test_the_limit_of_the_space_is_the_largest_cost(small_space, wide_space):
    assert CandidatePool(small_space).largest_cost == pytest.approx(math.log10(1500))
    pool = CandidatePool(wide_space)
    pool.refresh()
    assert pool.largest_cost == pool.log_cost.max()


def test_of_a_large_space_valid_candidates_are_drawn(large_pool, large_space):
    assert not large_pool.whole
    assert len(large_pool.points) == len(set(large_pool.ids)) == 2000
    assert large_pool.log_cost.max() <= math.log10(200_000)
    point = large_pool.points[7]
    candidate = large_space.candidate(point.params)
    assert (candidate.id, candidate.weights) == (point.id, round(10**point.log_cost))
    assert np.array_equal(large_pool.locate(point.params).features, large_pool.features[7])


def test_searched_training_settings_are_features(large_pool):
    rates = [point.params["learning_rate"] for point in large_pool.points]
    one_hot = large_pool.features[:, len(FEATURES) :]
    assert [RATES[at] for at in one_hot.argmax(axis=1)] == rates
    assert one_hot.sum() == 2000


def test_added_settings_are_features_of_spaces_that_vary_them_alone():
    parameters = {"base_channels": [[16], [16, 32]], "kernel_size": [3, 5, 7], "smoother": ["learned", "polynomial"]}
    mapping = {"fixed": {"family": "mgiad", "group_size": 4, "fully_coupled_channels": 8}, "parameters": parameters}
    pool = CandidatePool(
        SearchSpace(mapping, TrainingSettings(epochs=2), num_classes=10, in_channels=1, image_size=8), seed=0
    )
    pool.refresh()
    assert pool.features.shape == (12, len(FEATURES) + 2)
    settings = [
        (point.params["smoother"] == "polynomial", (point.params["kernel_size"] - 3) / 4) for point in pool.points
    ]
    assert [tuple(row) for row in pool.features[:, len(FEATURES) :]] == settings
    assert pool.added == ("polynomial", "kernel_size")


def test_a_refresh_replaces_the_least_promising_and_the_seen(large_pool):
    scores = np.linspace(1, 2, 2000)
    large_pool.rate(np.arange(2000), scores)
    before, best = large_pool.ids, large_pool.points[-1]
    seen = {before[1999], before[1998]}
    large_pool.refresh([best.params], seen)
    kept = set(before) & set(large_pool.ids)
    fresh = len(set(large_pool.ids) - set(before))
    assert len(large_pool.points) == 2000
    assert 50 < fresh <= 200
    assert kept == set(before[fresh - 2 : 1998])
    assert np.isinf(large_pool.scores).sum() == fresh
    assert large_pool.features.shape[0] == large_pool.log_cost.shape[0] == 2000


def test_neighbours_of_the_front_enter(large_pool):
    parent = large_pool.points[0]
    before = set(large_pool.ids)
    large_pool.refresh([parent.params])

    def changed(point) -> int:
        return sum(point.params[name] != parent.params[name] for name in parent.params)

    near = [point for point in large_pool.points if point.id not in before and changed(point) <= 3]
    assert len(near) > 20


def test_a_climb_adds_unseen_neighbours_of_the_most_promising(large_pool):
    best = {point.id: point for point in large_pool.points[-20:]}
    large_pool.rate(np.arange(2000), np.arange(2000) / 2000)
    before = large_pool.ids
    rows = large_pool.climb(())
    assert 50 < len(rows) <= 100
    assert rows.tolist() == list(range(2000, len(large_pool.points)))
    assert large_pool.ids[:2000] == before
    added = [large_pool.points[row] for row in rows]
    assert len({point.id for point in added} | set(before)) == len(large_pool.points)

    def nearest(point) -> int:
        return min(sum(point.params[k] != parent.params[k] for k in point.params) for parent in best.values())

    assert max(map(nearest, added)) <= 2
    large_pool.refresh()
    assert len(large_pool.points) == 2000


def test_climbs_find_what_random_candidates_hardly_do(large_pool):
    def distances(features, target):
        return np.abs(features - target).sum(axis=1)

    # Of a hundred networks the one that is least like those of the pool.
    rng = np.random.default_rng(1)
    targets = [large_pool.locate(large_pool.space.sample(rng).params).features for _ in range(100)]
    target = max(targets, key=lambda features: distances(large_pool.features, features).min())
    rows, nearest = np.arange(2000), []
    for _ in range(9):
        large_pool.rate(rows, -distances(large_pool.features[rows], target))
        nearest.append(-large_pool.scores.max())
        rows = large_pool.climb(())
    assert nearest == sorted(nearest, reverse=True)
    assert nearest[-1] < 0.2 * nearest[0]


def test_nothing_is_near_points_that_were_not_rated(large_pool):
    assert large_pool.climb(()).size == 0


def test_a_whole_pool_has_nowhere_to_climb(small_space):
    pool = CandidatePool(small_space, seed=0)
    assert pool.climb(()).size == 0
    pool.refresh()
    pool.rate(np.arange(17), np.arange(17.0))
    assert pool.climb(()).size == 0
    assert len(pool.points) == 17


def test_a_look_takes_the_promising_half_and_a_random_half(large_pool):
    large_pool.rate(np.arange(2000), np.arange(2000) / 2000)
    assert len(large_pool.look((), 5000)) == 2000
    seen = set(large_pool.ids[1900:])
    rows = large_pool.look(seen, 200)
    assert len(rows) == len(set(rows)) == 200
    assert set(range(1800, 1900)) <= set(rows) <= set(range(1900))
    assert large_pool.look(set(large_pool.ids), 200).size == 0


def test_a_seed_fixes_what_is_drawn():
    first, again, other = (DistributionPool(CONTINUOUS, steps_of, seed=seed) for seed in (0, 0, 1))
    for pool in (first, again, other):
        pool.refresh()
        pool.refresh([first.points[0].params])
    assert again.ids == first.ids != other.ids


def test_a_space_that_knows_its_candidates_is_taken_at_its_word(large_space):
    known = [large_space.sample(np.random.default_rng(seed)) for seed in range(5)]

    class Five(SearchSpace):
        def enumerate(self):
            return iter(known)

    space = object.__new__(Five)
    space.__dict__.update(large_space.__dict__)
    pool = CandidatePool(space)
    pool.refresh()
    assert pool.whole
    assert pool.ids == [candidate.id for candidate in known]


def test_what_is_no_candidate_has_no_point(small_space):
    pool = CandidatePool(small_space)
    values = next(small_space.enumerate()).params
    assert pool.locate({**values, "more": 1}).params == values
    assert pool.locate({name: value for name, value in values.items() if name != "sharing"}) is None
    invalid = {**values, "family": "mgiad", "base_channels": "6", "group_size": 4}
    assert pool.locate(invalid) is None


def test_values_are_scaled_by_their_distributions():
    values = {"rate": 1e-3, "steps": 50, "kind": "b"}
    assert scaled(values, CONTINUOUS) == pytest.approx([1 / 3, 1, 0, 1, 0])
    assert scaled({"one": 3}, {"one": IntDistribution(3, 3)}).tolist() == [0]


def test_a_grid_of_distributions_is_looked_at_whole():
    grid = {"steps": IntDistribution(1, 9, step=2), "kind": CategoricalDistribution((None, True))}
    pool = DistributionPool(grid, steps_of)
    pool.refresh()
    assert pool.whole
    assert len(pool.points) == len(set(pool.ids)) == 10
    assert pool.points[-1].params == {"steps": 9, "kind": True}
    assert pool.log_cost[-1] == pytest.approx(math.log10(9))


@pytest.mark.parametrize(
    "steps", [IntDistribution(1, 50), IntDistribution(1, 10**9, log=True), IntDistribution(1, 10**9 + 1, step=4)]
)
def test_continuous_and_wide_ranges_are_drawn_from(steps):
    distributions = {**CONTINUOUS, "steps": steps}
    pool = DistributionPool(distributions, steps_of, seed=0)
    for parents in ((), [{"rate": 0.01, "steps": 5, "kind": None}]):
        pool.refresh(parents)
        assert len(pool.points) == len(set(pool.ids)) == 2000
        for point in pool.points[::20]:
            for name, distribution in distributions.items():
                assert distribution._contains(distribution.to_internal_repr(point.params[name]))
            assert isinstance(point.params["steps"], int)
            assert (point.params["steps"] - 1) % steps.step == 0


@pytest.mark.parametrize("cost", [0, -1, math.nan, math.inf])
def test_a_cost_must_have_a_logarithm(cost):
    with pytest.raises(ValueError, match="greater than 0"):
        DistributionPool(CONTINUOUS, lambda values: cost).refresh()


def test_the_users_own_encoding():
    pool = DistributionPool(CONTINUOUS, steps_of, encode=lambda values: [values["steps"], 1], seed=0)
    pool.refresh()
    assert pool.features.shape == (2000, 2)


@pytest.mark.parametrize(("limit", "whole"), [(8, True), (7, False)])
def test_a_space_is_looked_at_whole_up_to_the_limit_of_arrays(monkeypatch, limit, whole):
    monkeypatch.setattr(candidate_pool, "_MAX_AS_ARRAYS", limit)
    monkeypatch.setattr(candidate_pool, "_MAX_ENUMERATED", 0)
    mapping = {
        "fixed": {"family": "mgnet"},
        "parameters": {"base_channels": [[4], [6]], "smoothing_steps": [1, 2, 3, 4]},
    }
    space = SearchSpace(mapping, TrainingSettings(), num_classes=10, in_channels=1, image_size=8)
    pool = CandidatePool(space, 0)
    pool.refresh()
    assert pool.whole is whole
    if whole:
        assert pool.ids == [candidate.id for candidate in space.enumerate()]
