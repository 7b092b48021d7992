import json
from dataclasses import replace

import pytest

from mgnas.errors import UserError
from mgnas.reports.analysis.constraints import Constraints
from mgnas.reports.analysis.front_confidence import front_confidence
from mgnas.reports.analysis.run_data import load_run_data
from mgnas.reports.analysis.select import select
from mgnas.reports.figures.front import accuracy_range
from mgnas.reports.page.data import MARKS, as_script_block, page_data, preference_ranks
from mgnas.search.trial_record import completed_trials
from mgnas.space.published import PUBLISHED


@pytest.fixture
def data(run):
    return load_run_data(run, 0)


@pytest.mark.parametrize("prefer", ["knee", "accuracy", "weights"])
def test_the_lowest_rank_within_limits_is_what_select_takes(data, prefer):
    ranks = preference_ranks(data)
    for heaviest in data.finished:
        for worst in data.finished:
            kept = [t for t in data.finished if t.weights <= heaviest.weights and t.accuracy >= worst.accuracy]
            limits = Constraints(heaviest.weights, min_accuracy=worst.accuracy)
            if kept:
                best = min(kept, key=lambda trial: ranks[trial.number][prefer])
                assert best == select(data.records, limits, prefer).record
            else:
                with pytest.raises(UserError, match="--min-accuracy"):
                    select(data.records, limits, prefer)


def test_expected_has_ranks_if_there_are_enough_trials(data, lucky_records):
    assert all("expected" not in ranks for ranks in preference_ranks(data).values())
    trials = completed_trials(lucky_records)
    many = replace(data, records=lucky_records, confidence=front_confidence(trials, None))
    ranks = preference_ranks(many)
    first = min(ranks, key=lambda number: ranks[number]["expected"])
    assert first == select(lucky_records, prefer="expected").record.number
    assert sorted(rank["expected"] for rank in ranks.values()) == list(range(20))


def test_how_sure_the_front_is_is_told_if_there_are_enough_trials(data, lucky_run):
    assert "band" not in page_data([data], [])["runs"][0]
    sure = load_run_data(lucky_run, 0)
    run = page_data([sure], [])["runs"][0]
    assert run["band"] == [[best.weights, best.low, best.high] for best in sure.confidence.best_within]
    assert run["trials"][0]["expected"]["front"] == 1.0


def test_trials_of_the_front_have_drawings_and_all_have_curves(data):
    trials = page_data([data], [])["runs"][0]["trials"]
    assert [trial["number"] for trial in trials if trial["front"]] == [0, 2, 3, 4]
    assert [trial["number"] for trial in trials if "drawing" in trial] == [0, 2, 3, 4]
    assert [trial["curve"][-1] for trial in trials] == [0.80, 0.88, 0.90, 0.95, 0.96]
    assert sum(weights for _, weights in trials[0]["parts"]) == trials[0]["weights"]


def test_full_trainings_are_told(run, retrained_trial):
    trials = page_data([load_run_data(run, 0)], [])["runs"][0]["trials"]
    (retrained,) = [trial["retrained"] for trial in trials if "retrained" in trial]
    assert (retrained["mean"], retrained["std"]) == (pytest.approx(0.92), pytest.approx(0.02 / 2**0.5))
    assert "over 2 seeds" in retrained["words"]


def test_the_axis_is_that_of_the_figure(data):
    published = [model for model in PUBLISHED if model.dataset == "cifar10"]
    ranges = page_data([data], published)["ranges"]
    assert [100 * limit for limit in ranges["published"]] == pytest.approx(accuracy_range([data], published))
    assert [100 * limit for limit in ranges["own"]] == pytest.approx(accuracy_range([data], []))


def test_each_run_has_a_mark_of_its_own():
    assert len(set(MARKS)) == len(MARKS) == 6


def test_nothing_in_the_data_ends_the_script_element():
    hostile = {"words": "</script><script>alert(1)</script><!--", "more": "\u2028"}
    block = as_script_block(hostile)
    assert "<" not in block
    assert "\u2028" not in block
    assert json.loads(block) == hostile
