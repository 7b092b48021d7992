from dataclasses import replace

import numpy as np
import pytest

from mgnas.reports.analysis.importance import Importance
from mgnas.reports.figures.importance import effects_figure, importance_figure, interaction_figure, parallel_figure


def test_interaction_has_one_line_per_group_size_and_panel(make_trials, parameters):
    figure = interaction_figure(make_trials(lambda candidate, rng: 0.5), parameters)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["4 fully coupled", "8 fully coupled"]
    for axes in figure.axes:
        assert [line.get_label() for line in axes.lines] == ["g_s = 2", "g_s = 4", "g_s = 8"]
        for line in axes.lines:
            weights = line.get_xdata()
            assert list(weights) == sorted(weights)
    assert interaction_figure(make_trials(lambda candidate, rng: 0.5), parameters[:1]) is None


def test_interaction_averages_what_else_differs(make_trials, parameters):
    trials = make_trials(lambda candidate, rng: 0.9 if candidate.training.learning_rate > 0.03 else 0.7)
    figure = interaction_figure(trials, parameters)
    shown = figure.axes[0].lines[0].get_ydata()
    chosen = [
        trial
        for trial in trials
        if trial.candidate.params["fully_coupled_channels"] == 4 and trial.candidate.params["group_size"] == 2
    ]
    assert shown.tolist() == [pytest.approx(100 * np.mean([trial.accuracy for trial in chosen]))]


def test_the_most_important_setting_is_the_highest_bar():
    axes = importance_figure(Importance(["group_size", "sharing"], [0.4, 0.1], [0.05, 0.02], 0.3, 40)).axes[0]
    labels = {text.get_text(): tick for text, tick in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)}
    bars = [(bar.get_y() + bar.get_height() / 2, bar.get_width()) for bar in axes.patches]
    assert bars == [(pytest.approx(labels["group size"]), 0.4), (pytest.approx(labels["sharing"]), 0.1)]
    assert labels["group size"] > labels["sharing"]
    assert "the settings explain 30 %" in axes.get_title(loc="left")


def test_effects_have_a_panel_for_each_setting_with_several_values(make_trials, parameters):
    trials = make_trials(lambda candidate, rng: rng.uniform(0.5, 0.6))
    figure = effects_figure([trial for trial in trials if trial.candidate.params["group_size"] == 2], parameters)
    shown = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert shown == ["base channels", "fully coupled channels", "learning rate"]


def test_a_network_is_one_line_through_its_settings(make_trials, parameters):
    first, second = make_trials(lambda candidate, rng: 0.5, 2)
    heavy, light = sorted((first, second), key=lambda trial: -trial.weights)
    better = replace(heavy, curve=(0.8,))
    axes = parallel_figure([light, better], parameters).axes[0]
    rows = [line.get_ydata().tolist() for line in axes.lines if len(line.get_xdata()) == 2 + len(parameters)]
    # Ends of the front: the light one is worst, the heavy one best.
    assert [(row[0], row[-1]) for row in rows] == [(0.0, 0.0), (1.0, 1.0)]
    rates = [np.log10(trial.candidate.params["learning_rate"] / 0.01) for trial in (light, better)]
    assert [row[-2] for row in rows] == pytest.approx(rates)
