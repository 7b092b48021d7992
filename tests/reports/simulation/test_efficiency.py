"""Replays scored by the truth: staircases worked out by hand, the oracle's bound, tables and figure."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mgnas.errors import UserError
from mgnas.models import ArchitectureConfig
from mgnas.reports.simulation.efficiency import TableResult, as_json, as_text, efficiency_figure, write_results
from mgnas.reports.simulation.scoring import HypervolumeScorer, quartiles, reference
from mgnas.search.history.table import TableRow, TabularBenchmark
from mgnas.search.simulation.simulator import Completion, Replay

EPOCHS = 3


def network(number: int) -> ArchitectureConfig:
    return ArchitectureConfig(family="mgnet", base_channels=(4 + number,))


def table(*points: tuple, **meta) -> TabularBenchmark:
    """(weights, final accuracy of each seed) of the networks 0, 1, ..."""
    rows = [
        TableRow(network(number), weights, seed, (0.1, 0.2, accuracy), 1.0)
        for number, (weights, *accuracies) in enumerate(points)
        for seed, accuracy in enumerate(accuracies)
    ]
    return TabularBenchmark({"name": "toy"} | meta, tuple(rows))


def judged(made: TabularBenchmark) -> HypervolumeScorer:
    """Measured from the corner of the heaviest network and the lowest mean accuracy."""
    return HypervolumeScorer(
        made, (math.log10(max(row.weights for row in made.rows)), min(made.mean_accuracies().values()))
    )


def replay(*numbers: int, every: int = EPOCHS, total: int | None = None) -> Replay:
    """The networks of these numbers, one completed after every so many epochs."""
    completions = tuple(
        Completion(float(place), place * every, place - 1, network(number).id)
        for place, number in enumerate(numbers, start=1)
    )
    total = total or len(numbers) * every
    return Replay(completions, total, float(len(numbers)), len(numbers), 0, 0)


@pytest.fixture
def toy() -> TabularBenchmark:
    """Reference: 1000 weights at 50 %. The front is the first two: an area of 1 decade x 0.1 + 1 decade x 0.4 = 0.5."""
    return table((10, 0.6), (100, 0.9), (1000, 0.5), (100, 0.7))


points = st.lists(st.tuples(st.integers(1, 12).map(lambda n: n * n), st.integers(0, 12)), min_size=1, max_size=9)


@st.composite
def judges(draw) -> HypervolumeScorer:
    """Of up to 9 networks, among them equal ones."""
    made = table(*[(weights, accuracy / 12) for weights, accuracy in draw(points)])
    weights, accuracy = max(row.weights for row in made.rows), min(made.mean_accuracies().values())
    assume(any(row.weights < weights and row.curve[-1] > accuracy for row in made.rows))
    return judged(made)


def area(judge: HypervolumeScorer, chosen) -> float:
    """Of what the points dominate: slab by slab, with the best accuracy of those not right of it."""
    edge, floor = judge.reference
    stops = sorted({weights for weights, _ in chosen} | {edge})
    heights = [max(accuracy for weights, accuracy in chosen if weights <= left) - floor for left in stops[:-1]]
    return sum((right - left) * height for left, right, height in zip(stops, stops[1:], heights, strict=False))


# ------------------------------------------------------------------------------------------------------------ the score


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
    trace = judged(toy).trace(replay(3, 0, 2, 1, total=20))
    # Network 3: 1 x 0.2 of 0.5. With network 0: 0.1 more on the slab before. Network 2 is the reference itself.
    assert trace.epochs.tolist() == [3, 6, 12]
    assert trace.shares.tolist() == pytest.approx([0.4, 0.6, 1.0])
    assert [trace.epochs_until(share) for share in (0.3, 0.4, 0.5, 0.6, 0.9, 1.0)] == [3, 3, 6, 6, 12, 12]
    assert trace.at(np.array([0, 2, 3, 5, 6, 11, 12, 99])).tolist() == pytest.approx([0, 0, 0.4, 0.4, 0.6, 0.6, 1, 1])
    assert (trace.total, trace.final) == (20, 1.0)


def test_what_was_not_reached_has_no_epochs(toy):
    trace = judged(toy).trace(replay(0))
    assert (trace.final, trace.epochs_until(0.9)) == (pytest.approx(0.4), None)
    nothing = judged(toy).trace(replay(2))
    assert (nothing.final, nothing.epochs_until(0.9), nothing.at(np.array([9])).tolist()) == (0.0, None, [0.0])


def test_the_truth_is_the_mean_over_seeds_whatever_a_search_saw():
    judge = judged(table((10, 0.4, 0.8), (100, 0.9), (1000, 0.5)))
    assert judge.trace(replay(0)).final == pytest.approx(0.4)


@given(judges(), st.data())
def test_shares_only_grow_and_end_at_everything(judge, data):
    order = data.draw(st.permutations(range(len(judge.points))))
    trace = judge.trace(replay(*order))
    assert (np.diff(trace.shares) > 0).all()
    assert trace.final == 1.0
    for seen in range(1, len(order) + 1):
        expected = area(judge, [judge.points[network(number).id] for number in order[:seen]]) / judge.hypervolume
        assert trace.at(np.array([seen * EPOCHS]))[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rows", [[(10, 0.5)], [(10, 0.5), (100, 0.9)], [(10, 0.5), (10, 0.9)]])
def test_a_table_in_which_there_is_nothing_to_find_is_refused(rows):
    with pytest.raises(UserError, match="toy: no network dominates the reference point"):
        judged(table(*rows))


# ----------------------------------------------------------------------------------------------------------- the oracle


def test_the_oracle_trains_the_best_ones_first(toy):
    oracle = judged(toy).oracle()
    assert oracle.epochs.tolist() == [3, 6]
    assert oracle.shares.tolist() == pytest.approx([0.8, 1.0])
    assert [oracle.epochs_until(share) for share in (0.5, 0.9, 1.0)] == [3, 6, 6]


def test_the_oracle_is_better_than_the_greedy_choice():
    """Greedily the middle network, the best one alone, would be the first of every pair."""
    judge = judged(table((10, 0.26), (100, 0.4), (1000, 0.7), (10_000, 0.0)))
    # Reference 10,000 at 0. One: 3 x 0.26, 2 x 0.4, 0.7. Two: 2 x 0.26 + 0.7, with the middle 0.26 + 0.8 or 0.4 + 0.7.
    assert (judge.oracle().shares * judge.hypervolume).tolist() == pytest.approx([0.8, 1.22, 1.36])


@given(judges())
def test_the_oracle_is_the_best_of_all_choices(judge):
    shares = judge.oracle().shares
    for count, share in enumerate(shares, start=1):
        choices = itertools.combinations(judge.points.values(), min(count, len(judge.points)))
        assert share * judge.hypervolume == pytest.approx(max(area(judge, choice) for choice in choices), abs=1e-9)
    assert shares[-1] == pytest.approx(1.0)


@given(judges(), st.data())
def test_no_search_needs_less_than_the_oracle(judge, data):
    order = data.draw(st.permutations(range(len(judge.points))))
    oracle, trace = judge.oracle(), judge.trace(replay(*order))
    for share in (0.1, 0.5, 0.9, 0.95, 0.99, 1.0):
        assert oracle.epochs_until(share) <= trace.epochs_until(share)


# ---------------------------------------------------------------------------------------------- medians, tables, figure


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_quartiles_are_numpys(values):
    assert quartiles(values) == pytest.approx(np.percentile(values, [25, 50, 75]).tolist())


def test_quartiles_next_to_what_was_not_reached_are_not_reached():
    inf = math.inf
    assert quartiles([inf, 1.0, 2.0]) == (1.5, 2.0, inf)
    assert quartiles([2.0, inf, inf, 1.0]) == (1.75, inf, inf)
    assert quartiles([inf]) == (inf, inf, inf)


@pytest.fixture
def result(toy) -> TableResult:
    """Two searches that find everything, after 6 and 12 epochs; two that never find the light network."""
    good = [replay(1, 0), replay(2, 3, 1, 0)]
    return TableResult.of(judged(toy), {"good": good, "poor": [replay(3, 1), replay(1, 3)]})


def test_the_table_for_the_terminal(result):
    assert as_text(result).splitlines() == [
        "toy: 4 architectures, reference 1,000 weights at 50.00 %; median (quartiles) of 2 searches each",
        "strategy   epochs until 90 %   of 2   epochs until 95 %   of 2   epochs until 99 %   of 2   final share",
        "good       9 (8 to 10)         2      9 (8 to 10)         2      9 (8 to 10)         2      100.0 %",
        "poor       -                   0      -                   0      -                   0      80.0 %",
        "oracle     6                          6                          6                          100.0 %",
    ]


def test_a_median_is_a_dash_where_too_few_searches_arrived(toy):
    searches = [replay(1, 0), replay(1), replay(1), replay(1, 0)]
    text = as_text(TableResult.of(judged(toy), {"half": searches}))
    assert "half       - (6 to -)          2 " in text


def test_the_json_holds_every_search(result):
    content = json.loads(as_json([result], {"seeds": 2}))
    assert content["settings"] == {"seeds": 2}
    (entry,) = content["tables"]
    assert entry["surrogate"] is False
    assert entry["reference"] == {"weights": 1000, "accuracy": 0.5}
    assert entry["oracle"]["epochs_until"] == {"0.9": 6, "0.95": 6, "0.99": 6}
    good, poor = entry["strategies"]["good"], entry["strategies"]["poor"]
    assert good["epochs_until"]["0.95"] == {"lower": 7.5, "median": 9.0, "upper": 10.5, "reached": 2}
    assert poor["epochs_until"]["0.9"] == {"lower": None, "median": None, "upper": None, "reached": 0}
    assert poor["final"]["median"] == pytest.approx(0.8)
    assert good["searches"][1]["trace"] == {"epochs": [6, 9, 12], "shares": [0.4, 0.8, 1.0]}
    assert (good["searches"][1]["epochs"], good["searches"][1]["complete"]) == (12, 4)


def test_the_figure_has_a_panel_for_each_table(result):
    figure = efficiency_figure([result, result, result])
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["oracle (bound)", "good", "poor"]
    assert "median and quartiles of 2 searches" in figure.axes[0].texts[0].get_text()
    assert figure.axes[0].get_title(loc="left") == "toy: 4 architectures\n"


def test_a_surrogate_is_called_one_everywhere(toy, tmp_path):
    surrogate = TabularBenchmark(dict(toy.meta) | {"name": "toy-surrogate", "surrogate": True}, toy.rows)
    result = TableResult.of(judged(surrogate), {"good": [replay(1, 0)]})
    assert as_text(result).startswith("toy-surrogate: 4 architectures (surrogate: most accuracies predicted)")
    assert "surrogate" in efficiency_figure([result]).axes[0].get_title(loc="left")
    assert json.loads(as_json([result], {}))["tables"][0]["surrogate"] is True


def test_equal_results_give_equal_files(result, tmp_path):
    for folder in ("first", "second"):
        write_results([result], {}, tmp_path / folder)
    for name in ("simulation.json", "hypervolume.png", "hypervolume.svg"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_folder_that_cannot_be_written_is_refused(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder with --out"):
        write_results([result], {}, tmp_path / "file" / "below")
