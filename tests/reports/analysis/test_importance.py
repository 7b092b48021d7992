import numpy as np

from mgnas.models.config import ArchitectureConfig
from mgnas.reports.analysis.importance import effects, encoded, importance, residuals
from mgnas.search.trial_record import CompletedTrial
from mgnas.space.candidate import Candidate, TrainingSettings


def by_weights(candidate):
    """An error that falls with the weights as the trend that is taken off."""
    return 1.01 - np.exp(-0.5 - 0.4 * (np.log10(candidate.weights) - 3))


def test_what_follows_from_weights_alone_leaves_nothing(make_trials):
    left = residuals(make_trials(lambda candidate, rng: by_weights(candidate)))
    assert np.abs(left).max() < 1e-6


def test_the_setting_that_matters_at_equal_weights_comes_first(make_trials, parameters):
    def accuracy(candidate, rng):
        # Learning rate has no weights: its effect is all there is at equal weights.
        return by_weights(candidate) + 0.05 * (candidate.training.learning_rate > 0.03) + rng.normal(0, 0.002)

    found = importance(make_trials(accuracy), parameters)
    assert found.names[0] == "learning_rate"
    assert found.values[0] > 10 * max(found.values[1:])
    assert found.explained > 0.8
    assert found.n_trials == 90


def test_noise_is_explained_by_nothing(make_trials, parameters):
    found = importance(make_trials(lambda candidate, rng: by_weights(candidate) + rng.normal(0, 0.01)), parameters)
    assert found.explained < 0.2


def test_few_trials_say_nothing(make_trials, parameters):
    assert importance(make_trials(lambda candidate, rng: 0.5, 19), parameters) is None


def test_settings_without_effect_are_a_value_of_their_own(parameters):
    def trial(**settings):
        config = ArchitectureConfig(family="mgiad", base_channels=(16,), **settings)
        return CompletedTrial(0, Candidate(config, TrainingSettings(), 8, {"group_size": 4}), 0, (0.5,), 1.0, None)

    # One channel level: nothing is grouped.
    trials = [trial(group_size=4, fully_coupled_channels=4), trial(group_size=4, fully_coupled_channels=16)]
    assert encoded(trials, parameters[1]).tolist() == [1.0, -1.0]


def test_effects_are_means_at_equal_weights(make_trials, parameters):
    def accuracy(candidate, rng):
        return by_weights(candidate) + {2: 0.02, 4: 0.0, 8: -0.02}[candidate.params["group_size"]]

    trials = make_trials(accuracy, 300)
    found = effects(trials, parameters[1])
    assert [effect.label for effect in found] == [2, 4, 8]
    assert sum(effect.n_trials for effect in found) == sum(
        trial.candidate.architecture.has_effect("group_size") for trial in trials
    )
    means = [effect.mean for effect in found]
    assert means == sorted(means, reverse=True)
    continuous = effects(trials, parameters[3], bins=3)
    assert [effect.n_trials for effect in continuous] == [100, 100, 100]
