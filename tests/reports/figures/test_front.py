import statistics
from dataclasses import replace

import pytest

from mgnas.models.cost import count_weights
from mgnas.reports.analysis.run_data import load_run_data
from mgnas.reports.deploy.retraining import Retrained
from mgnas.reports.figures.front import accuracy_range, attainment_figure, front_figure, latency_figure, spearman
from mgnas.space.published import PUBLISHED


def test_published_models_are_drawn_with_counted_weights(run):
    models = [model for model in PUBLISHED if model.dataset == "cifar10"]
    axes = front_figure([load_run_data(run, 0)], models).axes[0]
    points = [list(c.get_offsets()[0]) for c in axes.collections if len(c.get_offsets()) == 1]
    for model in models:
        assert [count_weights(model.config), pytest.approx(100 * model.accuracy)] in points
    labels = " ".join(text.get_text() for text in axes.texts)
    assert all(model.label in labels for model in models)


def test_far_outliers_do_not_squash_the_front(run):
    data = load_run_data(run, 0)
    records = data.records
    records[1].curve = [0.1] * 3
    records += [records[0]] * 8
    axes = front_figure([data]).axes[0]
    assert axes.get_ylim()[0] > 50
    assert "1 trial below" in axes.texts[0].get_text()


def test_the_accuracy_axis_has_room_around_all_that_is_no_outlier(run):
    data = load_run_data(run, 0)
    # 80 to 96 %, quartiles 88 and 95 %: no outlier, and 8 % of 16 points as a margin.
    assert accuracy_range([data], []) == (pytest.approx(80 - 1.28), pytest.approx(96 + 1.28))
    assert accuracy_range([replace(data, records=[])], []) == (0.0, 100.0)
    heavy = replace(PUBLISHED[0], accuracy=1.0)
    # Labels need a margin twice as wide, but no more than half of it lies above 100 %.
    assert accuracy_range([data], [heavy]) == (pytest.approx(80 - 3.2), pytest.approx(100 + 1.6))


def test_full_trainings_are_error_bars(run, tmp_path):
    data = replace(load_run_data(run, 0), retrained={0: Retrained(0, 0.80, "test", (0.90, 0.94), tmp_path)})
    axes = front_figure([data]).axes[0]
    (bar,) = axes.containers
    (low, high) = sorted(y for _, y in bar.lines[2][0].get_segments()[0])
    std = 100 * statistics.stdev([0.90, 0.94])
    assert (low, high) == (pytest.approx(92 - std), pytest.approx(92 + std))
    bottom, top = axes.get_ylim()
    assert bottom < low
    assert high < top


def test_attainment_of_equal_runs_is_their_front(run):
    data = load_run_data(run, 0)
    axes = attainment_figure([data, data, data]).axes[0]
    line = axes.lines[0]
    weights, accuracies = line.get_data()
    front = [(trial.weights, 100 * trial.accuracy) for trial in data.front]
    assert [(pytest.approx(w), pytest.approx(a)) for w, a in front] == list(zip(weights, accuracies, strict=True))[:4]


def test_latency_is_per_image(run):
    data = replace(load_run_data(run, 0), latencies={0: {1: 2.0, 32: 16.0}})
    single, batch = latency_figure([data]).axes[0].lines
    macs = data.records[0].candidate.macs
    assert (single.get_xydata().tolist(), batch.get_xydata().tolist()) == ([[macs, 2.0]], [[macs, 0.5]])


def test_rank_correlation_of_macs_and_latency(run):
    front = load_run_data(run, 0).front
    by_macs = sorted(front, key=lambda trial: trial.macs)
    rising = {trial.number: {1: float(rank)} for rank, trial in enumerate(by_macs)}
    falling = {trial.number: {1: -float(rank)} for rank, trial in enumerate(by_macs)}
    assert (spearman(front, rising, 1), spearman(front, falling, 1)) == (pytest.approx(1), pytest.approx(-1))
    assert spearman(front[:2], rising, 1) is None
