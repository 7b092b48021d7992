"""Scores of replays: staircases worked out by hand, and the oracle's bound."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from toy_tables import EPOCHS, network, replay, scored, table, toy_table

from mgnas.errors import UserError
from mgnas.reports.simulation.scoring import HypervolumeScorer, quartiles, reference, until_share


@pytest.fixture
def toy():
    return toy_table()


points = st.lists(st.tuples(st.integers(1, 12).map(lambda n: n * n), st.integers(0, 12)), min_size=1, max_size=9)


@st.composite
def scorers(draw) -> HypervolumeScorer:
    """Of up to 9 networks, among them equal ones."""
    made = table(*[(weights, accuracy / 12) for weights, accuracy in draw(points)])
    weights, accuracy = max(row.weights for row in made.rows), min(made.mean_accuracies().values())
    assume(any(row.weights < weights and row.curve[-1] > accuracy for row in made.rows))
    return scored(made)


def area(scorer: HypervolumeScorer, chosen) -> float:
    """Of what the points dominate: slab by slab, with the best accuracy of those not right of it."""
    edge, floor = scorer.reference
    stops = sorted({weights for weights, _ in chosen} | {edge})
    heights = [max(accuracy for weights, accuracy in chosen if weights <= left) - floor for left in stops[:-1]]
    return sum((right - left) * height for left, right, height in zip(stops, stops[1:], heights, strict=False))


def test_the_reference_lies_a_tenth_of_the_front_beyond_its_worst_values(toy):
    """The front is 10 weights at 60 % and 100 at 90 %; the networks that it dominates, however bad, have no say."""
    weights, accuracy = reference(toy)
    assert (weights, accuracy) == (pytest.approx(2 + 0.1 * 1), pytest.approx(0.6 - 0.1 * 0.3))
    assert HypervolumeScorer(toy).reference == (weights, accuracy)
    assert HypervolumeScorer(toy).hypervolume == pytest.approx(1.1 * 0.03 + 0.1 * 0.3)


def test_a_single_best_network_leaves_nothing_to_trade():
    with pytest.raises(UserError, match="toy: one network dominates all others"):
        HypervolumeScorer(table((10, 0.9), (100, 0.8)))


def test_the_share_grows_as_the_staircase_does(toy):
    trace = scored(toy).trace(replay(3, 0, 2, 1, total=20))
    # Network 3: 1 x 0.2 of 0.5. With network 0: 0.1 more on the slab before. Network 2 is the reference itself.
    assert trace.epochs.tolist() == [3, 6, 12]
    assert trace.shares.tolist() == pytest.approx([0.4, 0.6, 1.0])
    assert [trace.epochs_until(share) for share in (0.3, 0.4, 0.5, 0.6, 0.9, 1.0)] == [3, 3, 6, 6, 12, 12]
    assert trace.at(np.array([0, 2, 3, 5, 6, 11, 12, 99])).tolist() == pytest.approx([0, 0, 0.4, 0.4, 0.6, 0.6, 1, 1])
    assert (trace.total, trace.final) == (20, 1.0)


def test_what_was_not_reached_has_no_epochs(toy):
    trace = scored(toy).trace(replay(0))
    assert (trace.final, trace.epochs_until(0.9)) == (pytest.approx(0.4), None)
    nothing = scored(toy).trace(replay(2))
    assert (nothing.final, nothing.epochs_until(0.9), nothing.at(np.array([9])).tolist()) == (0.0, None, [0.0])


def test_the_truth_is_the_mean_over_seeds_whatever_a_search_saw():
    scorer = scored(table((10, 0.4, 0.8), (100, 0.9), (1000, 0.5)))
    assert scorer.trace(replay(0)).final == pytest.approx(0.4)


@given(scorers(), st.data())
def test_shares_only_grow_and_end_at_everything(scorer, data):
    order = data.draw(st.permutations(range(len(scorer.points))))
    trace = scorer.trace(replay(*order))
    assert (np.diff(trace.shares) > 0).all()
    assert trace.final == 1.0
    for seen in range(1, len(order) + 1):
        expected = area(scorer, [scorer.points[network(number).id] for number in order[:seen]]) / scorer.hypervolume
        assert trace.at(np.array([seen * EPOCHS]))[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rows", [[(10, 0.5)], [(10, 0.5), (100, 0.9)], [(10, 0.5), (10, 0.9)]])
def test_a_table_in_which_there_is_nothing_to_find_is_refused(rows):
    with pytest.raises(UserError, match="toy: no network dominates the reference point"):
        scored(table(*rows))


def test_the_oracle_trains_the_best_ones_first(toy):
    oracle = scored(toy).oracle()
    assert oracle.epochs.tolist() == [3, 6]
    assert oracle.shares.tolist() == pytest.approx([0.8, 1.0])
    assert [oracle.epochs_until(share) for share in (0.5, 0.9, 1.0)] == [3, 6, 6]


def test_the_oracle_is_better_than_the_greedy_choice():
    """Greedily the middle network, the best one alone, would be the first of every pair."""
    scorer = scored(table((10, 0.26), (100, 0.4), (1000, 0.7), (10_000, 0.0)))
    # Reference 10,000 at 0. One: 3 x 0.26, 2 x 0.4, 0.7. Two: 2 x 0.26 + 0.7, with the middle 0.26 + 0.8 or 0.4 + 0.7.
    assert (scorer.oracle().shares * scorer.hypervolume).tolist() == pytest.approx([0.8, 1.22, 1.36])


@given(scorers())
def test_the_oracle_is_the_best_of_all_choices(scorer):
    shares = scorer.oracle().shares
    for count, share in enumerate(shares, start=1):
        choices = itertools.combinations(scorer.points.values(), min(count, len(scorer.points)))
        assert share * scorer.hypervolume == pytest.approx(max(area(scorer, choice) for choice in choices), abs=1e-9)
    assert shares[-1] == pytest.approx(1.0)


@given(scorers(), st.data())
def test_no_search_needs_less_than_the_oracle(scorer, data):
    order = data.draw(st.permutations(range(len(scorer.points))))
    oracle, trace = scorer.oracle(), scorer.trace(replay(*order))
    for share in (0.1, 0.5, 0.9, 0.95, 0.99, 1.0):
        assert oracle.epochs_until(share) <= trace.epochs_until(share)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_quartiles_are_numpys(values):
    assert quartiles(values) == pytest.approx(np.percentile(values, [25, 50, 75]).tolist())


def test_quartiles_next_to_what_was_not_reached_are_not_reached():
    inf = math.inf
    assert quartiles([inf, 1.0, 2.0]) == (1.5, 2.0, inf)
    assert quartiles([2.0, inf, inf, 1.0]) == (1.75, inf, inf)
    assert quartiles([inf]) == (inf, inf, inf)


def test_a_search_has_enough_once_its_architectures_dominate_the_share():
    made = toy_table()
    # The scorer's own reference point is 10^2.1 weights at 57 %: network 1 has 0.1 x 0.33 of 1.1 x 0.03 + 0.1 x 0.3.
    enough = until_share(0.5, made)
    assert [enough(network(number).id) for number in (2, 3, 1)] == [False, False, True]
    enough = until_share(0.6, made)
    assert [enough(network(number).id) for number in (1, 1, 0)] == [False, False, True]
