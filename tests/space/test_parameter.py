"""One searched setting: what is drawn lies within, and what is near is near."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.errors import ConfigError
from mgnas.space.parameter import Parameter

SEEDS = st.integers(0, 2**32 - 1)
CHOICES = st.lists(
    st.none() | st.integers(-99, 99) | st.text(max_size=3) | st.lists(st.integers(1, 64), min_size=2, max_size=3),
    min_size=1,
    max_size=5,
    unique_by=str,
)


@st.composite
def whole_ranges(draw):
    low, high = sorted(draw(st.tuples(st.integers(1, 200), st.integers(1, 200))))
    extra = draw(st.sampled_from([{}, {"log": True}, {"step": 1}, {"step": 3}]))
    # A step that misses `high` would move it.
    return {"low": low, "high": high - (high - low) % extra.get("step", 1)} | extra


@st.composite
def real_ranges(draw):
    """Continuous ones."""
    low = draw(st.floats(1e-4, 10))
    return {"low": low, "high": low * draw(st.floats(1.001, 1e4)), "log": draw(st.booleans())}


@st.composite
def stepped_ranges(draw):
    """Multiples of a step of few decimals, from `low` to `high`."""
    step = draw(st.sampled_from([0.1, 0.25, 0.3, 1e-3]))
    first, count = draw(st.integers(-20, 20)), draw(st.integers(0, 30))
    return {"low": round(first * step, 6), "high": round((first + count) * step, 6), "step": step}


GRIDS = (CHOICES | whole_ranges() | stepped_ranges()).map(lambda value: Parameter.from_yaml("setting", value))
REALS = real_ranges().map(lambda value: Parameter.from_yaml("setting", value))


@pytest.mark.parametrize(
    ("value", "grid"),
    [
        ([1, 2, 4], (1, 2, 4)),
        (["A", "none"], ("A", "none")),
        ([[16, 32], [8]], ("16-32", "8")),
        ([None, 2], (None, 2)),
        ([True, False], (True, False)),
        ({"low": 2, "high": 5}, (2, 3, 4, 5)),
        ({"low": 2, "high": 8, "step": 3}, (2, 5, 8)),
        ({"low": 2, "high": 4, "log": True}, (2, 3, 4)),
        ({"low": 3, "high": 3}, (3,)),
        ({"low": 0.5, "high": 1.5, "step": 0.5}, (0.5, 1.0, 1.5)),
        ({"low": 0, "high": 0.3, "step": 0.1}, (0.0, 0.1, 0.2, 0.3)),
        ({"low": 0.1, "high": 0.7, "step": 0.2}, (0.1, 0.3, 0.5, 0.7)),
        ({"low": 0.5, "high": 0.5}, (0.5,)),
        ({"low": 0.5, "high": 1.5}, None),
        ({"low": 1, "high": 2.5}, None),
        ({"low": 0.01, "high": 1.0, "log": True}, None),
    ],
)
def test_grid_lists_all_labels_in_order(value, grid):
    assert Parameter.from_yaml("setting", value).grid == grid


def test_labels_of_lists_stand_for_the_lists():
    parameter = Parameter.from_yaml("base_channels", [[16, 32], [8], [4, 4, 4]])
    assert [parameter.decode(label) for label in parameter.grid] == [[16, 32], [8], [4, 4, 4]]


@given(value=CHOICES)
def test_every_label_of_a_choice_decodes_to_it(value):
    parameter = Parameter.from_yaml("setting", value)
    assert [parameter.decode(label) for label in parameter.grid] == value


@given(parameter=GRIDS, seed=SEEDS)
def test_samples_of_a_grid_are_on_it(parameter, seed):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        assert parameter.sample(rng) in parameter.grid


@given(parameter=REALS, seed=SEEDS)
def test_samples_of_a_range_are_within_it(parameter, seed):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        assert parameter.distribution.low <= parameter.sample(rng) <= parameter.distribution.high


@pytest.mark.parametrize("value", [["a", "b", "c"], {"low": 1, "high": 3}, {"low": 0.1, "high": 0.3, "step": 0.1}])
def test_every_label_of_a_grid_is_sampled_equally_often(value):
    parameter, rng = Parameter.from_yaml("setting", value), np.random.default_rng(0)
    counts = [0, 0, 0]
    for _ in range(3000):
        counts[parameter.grid.index(parameter.sample(rng))] += 1
    assert min(counts) > 900  # 1000 expected, standard deviation 26


@pytest.mark.parametrize("value", [{"low": 1, "high": 1023, "log": True}, {"low": 1.0, "high": 1024.0, "log": True}])
def test_log_ranges_are_sampled_evenly_on_the_log_scale(value):
    parameter, rng = Parameter.from_yaml("setting", value), np.random.default_rng(0)
    octaves = [int(math.log2(parameter.sample(rng))) for _ in range(4000)]
    assert min(octaves.count(octave) for octave in range(10)) > 300  # 400 expected, standard deviation 19


@given(parameter=GRIDS, seed=SEEDS)
def test_neighbours_on_a_grid_are_one_place_away(parameter, seed):
    rng = np.random.default_rng(seed)
    for index, label in enumerate(parameter.grid):
        neighbour = parameter.neighbour(label, rng)
        if len(parameter.grid) == 1:
            assert neighbour == label
        else:
            assert abs(parameter.grid.index(neighbour) - index) == 1


def test_both_neighbours_are_visited():
    parameter, rng = Parameter.from_yaml("setting", [1, 2, 4, 8]), np.random.default_rng(0)
    assert {parameter.neighbour(4, rng) for _ in range(50)} == {2, 8}


@given(parameter=REALS, seed=SEEDS, share=st.floats(0, 1))
def test_neighbours_on_a_range_are_within_it_and_elsewhere(parameter, seed, share):
    rng = np.random.default_rng(seed)
    low, high = parameter.distribution.low, parameter.distribution.high
    label = min(low + share * (high - low), high)
    neighbours = [parameter.neighbour(label, rng) for _ in range(30)]
    assert all(low <= neighbour <= high for neighbour in neighbours)
    # At an end of the range half the steps lead out of it, and back to that end.
    assert any(neighbour != label for neighbour in neighbours)


@given(parameter=GRIDS | REALS)
def test_extremes_are_labels(parameter):
    grid = parameter.grid
    if grid is None:
        assert parameter.extremes() == (parameter.distribution.low, parameter.distribution.high)
    else:
        assert {grid[0], grid[-1]} <= set(parameter.extremes()) <= set(grid)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        pytest.param([], "group_size", id="no choices"),
        pytest.param([4, 8, 4], "group_size", id="repeated number"),
        pytest.param([[4, 8], [4, 8]], "group_size", id="repeated list"),
        pytest.param([{"low": 1}], "group_size", id="mapping among choices"),
        pytest.param(8, "group_size", id="number"),
        pytest.param("4-8", "group_size", id="word"),
        pytest.param(None, "group_size", id="nothing"),
        pytest.param({}, "group_size.low", id="empty range"),
        pytest.param({"low": 1}, "group_size.high", id="no high"),
        pytest.param({"high": 1}, "group_size.low", id="no low"),
        pytest.param({"low": 1, "high": 2, "stop": 3}, "group_size.stop", id="unknown key"),
        pytest.param({"low": "1", "high": 2}, "group_size.low", id="low as text"),
        pytest.param({"low": True, "high": 2}, "group_size.low", id="low as bool"),
        pytest.param({"low": 1, "high": None}, "group_size.high", id="high null"),
        pytest.param({"low": 1, "high": [2]}, "group_size.high", id="high in a list"),
        pytest.param({"low": 1, "high": float("inf")}, "group_size.high", id="high infinite"),
        pytest.param({"low": float("nan"), "high": 1.0}, "group_size.low", id="low NaN"),
        pytest.param({"low": 3, "high": 2}, "group_size.low", id="low above high"),
        pytest.param({"low": 1, "high": 2, "step": 0}, "group_size.step", id="step zero"),
        pytest.param({"low": 1, "high": 2, "step": -1}, "group_size.step", id="step negative"),
        pytest.param({"low": 1, "high": 2, "step": "1"}, "group_size.step", id="step as text"),
        pytest.param({"low": 0, "high": 2, "log": True}, "group_size.low", id="log from zero"),
        pytest.param({"low": 1, "high": 8, "log": True, "step": 1}, "group_size.step", id="log with step"),
        pytest.param({"low": 1, "high": 8, "log": 1}, "group_size.log", id="log as number"),
    ],
)
def test_what_is_neither_choices_nor_range_is_refused_by_name(value, key):
    with pytest.raises(ConfigError) as caught:
        Parameter.from_yaml("group_size", value)
    assert caught.value.key == key
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("described", "value", "label"),
    [
        ([[4], [4, 8]], [4], "4"),
        ([[4], [4, 8]], 4, "4"),
        ([[4], [4, 8]], [4, 8], "4-8"),
        ([[4], [4, 8]], "4-8", "4-8"),
        ([None, 2], None, None),
        ([1, 1.5], 1.5, 1.5),
        ([True, False], True, True),
        ({"low": 1, "high": 7, "step": 3}, 4, 4),
        ({"low": 0.1, "high": 0.5, "step": 0.1}, 0.3, 0.3),
        ({"low": 0.1, "high": 0.5}, 0.1, 0.1),
        ({"low": 1.0, "high": 5.5}, 2, 2.0),
    ],
)
def test_a_users_value_has_a_label(described, value, label):
    given_label = Parameter.from_yaml("name", described).label(value)
    assert (given_label, type(given_label)) == (label, type(label))


@pytest.mark.parametrize(
    ("described", "value"),
    [
        ([[4], [4, 8]], [8]),
        ([1, 2], True),
        ([True, False], 1),
        ([1, 2], "x"),
        ([1, 2], None),
        ({"low": 1, "high": 7, "step": 3}, 3),
        ({"low": 1, "high": 7}, 8),
        ({"low": 0.1, "high": 0.5}, 0.6),
        ({"low": 0.1, "high": 0.5}, math.nan),
        ({"low": 0.1, "high": 0.5}, "0.2"),
        ({"low": 0.1, "high": 0.5}, True),
    ],
)
def test_a_value_outside_of_the_parameter_is_refused_by_name(refusal, described, value):
    assert refusal(lambda: Parameter.from_yaml("name", described).label(value)).startswith("name: expected ")
