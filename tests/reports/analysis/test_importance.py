import numpy as np
import pytest

from mgnas.models.config import ArchitectureConfig
from mgnas.reports.analysis.importance import effects, encoded, importance, residuals
from mgnas.reports.figures.importance import interaction_figure
from mgnas.search.trial_record import TrialRecord, TrialState
from mgnas.space.candidate import Candidate, TrainingSettings
from mgnas.space.parameter import Parameter

PARAMETERS = [
    Parameter.from_yaml("base_channels", [[16], [32], [64]]),
    Parameter.from_yaml("group_size", [2, 4, 8]),
    Parameter.from_yaml("fully_coupled_channels", [4, 8]),
    Parameter.from_yaml("learning_rate", {"low": 0.01, "high": 0.1, "log": True}),
]


def records_of(accuracy, count=90):
    """Complete trials at random points; `accuracy` makes theirs from (candidate, rng)."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(count):
        values = {parameter.name: parameter.sample(rng) for parameter in PARAMETERS}
        settings = {name: PARAMETERS[i].decode(values[name]) for i, name in enumerate(list(values)[:3])}
        config = ArchitectureConfig(family="mgiad", **settings)
        training = TrainingSettings(learning_rate=values["learning_rate"])
        candidate = Candidate(config, training, 8, values, ("learning_rate",))
        curve = [accuracy(candidate, rng)]
        records.append(TrialRecord(number, candidate, 0, TrialState.COMPLETE, curve))
    return records


def by_weights(candidate):
    """An error that falls with the weights as the trend that is taken off."""
    return 1.01 - np.exp(-0.5 - 0.4 * (np.log10(candidate.weights) - 3))


def test_what_follows_from_weights_alone_leaves_nothing():
    left = residuals(records_of(lambda candidate, rng: by_weights(candidate)))
    assert np.abs(left).max() < 1e-6


def test_the_setting_that_matters_at_equal_weights_comes_first():
    def accuracy(candidate, rng):
        # Learning rate has no weights: its effect is all there is at equal weights.
        return by_weights(candidate) + 0.05 * (candidate.training.learning_rate > 0.03) + rng.normal(0, 0.002)

    found = importance(records_of(accuracy), PARAMETERS)
    assert found.names[0] == "learning_rate"
    assert found.values[0] > 10 * max(found.values[1:])
    assert found.explained > 0.8
    assert found.trials == 90


def test_noise_is_explained_by_nothing():
    found = importance(records_of(lambda candidate, rng: by_weights(candidate) + rng.normal(0, 0.01)), PARAMETERS)
    assert found.explained < 0.2


def test_few_trials_say_nothing():
    assert importance(records_of(lambda candidate, rng: 0.5, 19), PARAMETERS) is None


def test_settings_without_effect_are_a_value_of_their_own():
    def trial(**settings):
        config = ArchitectureConfig(family="mgiad", base_channels=(16,), **settings)
        return TrialRecord(0, Candidate(config, TrainingSettings(), 8, {"group_size": 4}), 0)

    # One channel level: nothing is grouped.
    records = [trial(group_size=4, fully_coupled_channels=4), trial(group_size=4, fully_coupled_channels=16)]
    assert encoded(records, PARAMETERS[1]).tolist() == [1.0, -1.0]


def test_effects_are_means_at_equal_weights():
    def accuracy(candidate, rng):
        return by_weights(candidate) + {2: 0.02, 4: 0.0, 8: -0.02}[candidate.params["group_size"]]

    records = records_of(accuracy, 300)
    found = effects(records, PARAMETERS[1])
    assert [effect.label for effect in found] == [2, 4, 8]
    assert sum(effect.trials for effect in found) == sum(
        record.candidate.architecture.has_effect("group_size") for record in records
    )
    means = [effect.mean for effect in found]
    assert means == sorted(means, reverse=True)
    continuous = effects(records, PARAMETERS[3], bins=3)
    assert [effect.trials for effect in continuous] == [100, 100, 100]


def test_interaction_has_one_line_per_group_size_and_panel():
    figure = interaction_figure(records_of(lambda candidate, rng: by_weights(candidate)), PARAMETERS)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["4 fully coupled", "8 fully coupled"]
    for axes in figure.axes:
        assert [line.get_label() for line in axes.lines] == ["g_s = 2", "g_s = 4", "g_s = 8"]
        for line in axes.lines:
            weights = line.get_xdata()
            assert list(weights) == sorted(weights)
    assert interaction_figure(records_of(lambda candidate, rng: 0.5), PARAMETERS[:1]) is None


def test_interaction_averages_what_else_differs():
    records = records_of(lambda candidate, rng: 0.9 if candidate.training.learning_rate > 0.03 else 0.7)
    figure = interaction_figure(records, PARAMETERS)
    shown = figure.axes[0].lines[0].get_ydata()
    chosen = [
        record
        for record in records
        if record.candidate.params["fully_coupled_channels"] == 4 and record.candidate.params["group_size"] == 2
    ]
    assert shown.tolist() == [pytest.approx(100 * np.mean([record.accuracy for record in chosen]))]
