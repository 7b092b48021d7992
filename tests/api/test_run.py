"""Results of a run with known trials, as Python programs see them."""

import dataclasses
import json
import math
import re

import pytest

import mgnas
from mgnas.search.storage.run_directory import RunDirectory


@pytest.fixture
def opened(run):
    return mgnas.open_run(run.path)


def test_the_front_holds_completed_trials_by_ascending_weights(opened):
    front = opened.front
    assert [(trial.number, trial.accuracy) for trial in front] == [(0, 0.8), (2, 0.9), (3, 0.95), (4, 0.96)]
    assert [trial.architecture.base_channels for trial in front] == [(4,), (8,), (16,), (32,)]
    assert [trial.weights for trial in front] == [mgnas.count_weights(trial.architecture) for trial in front]
    assert front[0].curve == (0.266667, 0.533333, 0.8)
    assert all(isinstance(trial, mgnas.CompletedTrial) for trial in front)


def test_what_a_run_is(opened, run):
    assert repr(opened) == f"<Run {run.path}: 5 of 8 trials complete, 4 on the front>"
    assert (opened.path, opened.elapsed, opened.config.name) == (run.path, 75.0, "known")
    assert [trial.state for trial in opened.trials] == ["complete"] * 5 + ["failed", "running"]
    assert opened.retrained == []


def test_all_trials_are_a_table(opened):
    table = opened.to_dataframe()
    assert table["trial"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert table["on_front"].tolist() == [True, False, True, True, True, False, False]
    assert table["accuracy"].tolist()[:5] == [0.80, 0.88, 0.90, 0.95, 0.96]
    assert table["accuracy"].isna().tolist() == [False] * 5 + [True] * 2
    assert table["base_channels"].tolist() == [(4,), (12,), (8,), (16,), (32,), (24,), (28,)]
    assert table["epochs"].tolist() == [3] * 5 + [0, 1]
    assert table["reason"][5] == "<b>& loss became nan"
    assert math.isnan(table["finished"][6])


def test_an_empty_run_is_an_empty_table(small_search, tmp_path):
    table = mgnas.Run(RunDirectory.create(small_search(), tmp_path / "runs")).to_dataframe()
    assert len(table) == 0
    assert {"trial", "accuracy", "smoothing_steps", "sharing"} <= set(table.columns)


@pytest.mark.parametrize(
    ("keywords", "number"),
    [
        ({}, 2),
        ({"prefer": "accuracy"}, 4),
        ({"prefer": "weights"}, 0),
        ({"max_weights": "6k", "prefer": "accuracy"}, 3),
        ({"max_weights": 6000, "prefer": "accuracy"}, 3),
        ({"min_accuracy": 0.93, "prefer": "weights"}, 3),
        ({"max_size": "1M", "max_latency": 1000, "max_latency_32": 1000.0}, 2),
        ({"max_latency": 4, "max_latency_32": 30.0, "prefer": "accuracy"}, 2),  # Trial 3 takes 4 and 32 ms.
    ],
)
def test_a_network_is_chosen_by_limits_and_preference(opened, run, remember_latencies, keywords, number):
    remember_latencies(run)
    assert opened.select(**keywords).record.number == number


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"max_weights": 1}, "--max-weights: no network has at most 1 weights; the smallest of the 4"),
        ({"max_weights": "few"}, "max_weights: expected a whole number such as 20000, 20k or 1.5M, got 'few'"),
        ({"min_accuracy": "97%"}, "min_accuracy: expected a number, got '97%'"),
        ({"max_latency": True}, "max_latency: expected a number, got True"),
        ({"prefer": "luck"}, "prefer: expected one of knee, accuracy, weights, expected, got 'luck'"),
    ],
)
def test_impossible_selections_are_one_line(refusal, opened, keywords, message):
    assert refusal(lambda: opened.select(**keywords)).startswith(message)


def test_the_report_says_where_it_is(opened, tmp_path):
    page = opened.report(tmp_path / "there", latency_seconds=0)
    assert page == tmp_path / "there" / "report.html"
    assert page.exists()


@pytest.mark.parametrize(
    ("networks", "keywords", "message"),
    [
        ([], {}, "retrain: no network was given"),
        (None, {"seeds": 0}, "seeds: expected a whole number from 1, got 0"),
        (None, {"epochs": 0}, "final_training.epochs: "),
    ],
)
def test_impossible_retrainings_are_one_line(refusal, opened, networks, keywords, message):
    chosen = opened.front if networks is None else networks
    assert message in refusal(lambda: opened.retrain(chosen, **keywords))


def test_known_full_trainings_are_read_and_told_again(opened):
    """Nothing is trained: a training that is finished is not repeated, so Ray is not needed."""
    trial, config = opened.select().record, opened.config
    folder = opened.path / "retrained" / trial.candidate.id / "seed-0"
    folder.mkdir(parents=True)
    result = {
        "test_accuracy": 0.93,
        "architecture": trial.candidate.architecture.to_dict(),
        "training": dataclasses.asdict(config.final_training),
        "data": dataclasses.asdict(config.data),
        "seed": 0,
    }
    (folder / "result.json").write_text(json.dumps(result))
    outcomes = []
    (retrained,) = opened.retrain(opened.select(), seeds=1, progress=outcomes.append)
    assert (retrained.trial, retrained.accuracies, retrained.folder) == (2, (0.93,), folder.parent)
    assert [(outcome.seed, outcome.accuracy, outcome.finished_before) for outcome in outcomes] == [(0, 0.93, True)]
    assert [known.trial for known in opened.retrained] == [2]


def test_a_run_that_has_all_its_trials_is_resumed_in_no_time(ended_run, capfd):
    opened = mgnas.open_run(ended_run.path)
    opened.resume(trials=7, progress=True)
    assert opened.config.search.trials == 7
    assert len(opened.trials) == 7
    assert capfd.readouterr() == ("", "")


def test_a_run_that_another_process_searches_is_not_resumed(refusal, run, opened):
    with run.lock:
        message = refusal(lambda: opened.resume(trials=9))
    assert re.search(r"process \d+ on .* is searching here already", message)
    assert len(opened.trials) == 7, "the run can still be read"


def test_no_run_there(refusal, run):
    message = refusal(lambda: mgnas.open_run(run.path.parent / "none"))
    assert message.endswith(f"none: no such run directory; in {run.path.parent} there are known-1")
