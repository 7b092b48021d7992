"""Priors: what trainings on other data say about an architecture."""

from dataclasses import replace

import numpy as np
import pytest

from mgnas.errors import UserError
from mgnas.search.history.past_trainings import LEAST_TRAININGS
from mgnas.search.samplers.features import ADDED_FEATURES, FEATURES, added_features, architecture_features
from mgnas.search.samplers.transfer_prior import TransferPrior


@pytest.fixture(scope="module")
def trained(wide_space):
    """120 networks of a space and their accuracies on other data: wider is better, more steps help a little."""
    chosen = np.random.default_rng(0).permutation(list(wide_space.enumerate()))[:120]
    configs = [candidate.architecture for candidate in chosen]
    x = np.array([architecture_features(config) for config in configs])
    truth = 0.6 + 0.3 * x[:, 6] + 0.1 * x[:, 8]
    return chosen, configs, truth


def seeded(truth, noise=0.005):
    return truth + noise * np.random.default_rng(1).standard_normal(len(truth))


def test_it_predicts_architectures_that_were_not_trained(trained):
    _, configs, truth = trained
    prior = TransferPrior.from_accuracies(configs[:60], seeded(truth)[:60])
    assert np.abs(prior.mean(configs[60:]) - truth[60:]).mean() < 0.005
    x = np.array([architecture_features(config) for config in configs])
    assert np.array_equal(prior.mean(configs), prior.mean_of_features(x))
    assert prior.mean([]).shape == (0,)


def test_seeds_of_one_architecture_are_averaged(trained):
    _, configs, truth = trained
    offsets = np.repeat([-0.02, 0.0, 0.02], 20)
    prior = TransferPrior.from_accuracies(configs[:20] * 3, np.tile(truth[:20], 3) + offsets)
    assert np.abs(prior.mean(configs[:20]) - truth[:20]).mean() < 0.01


def test_a_shuffled_one_is_wrong_and_reproducible(trained):
    _, configs, truth = trained
    prior = TransferPrior.from_accuracies(configs[:40] * 2, np.concatenate([seeded(truth[:40]), truth[:40]]))
    before = prior.mean(configs)
    correlations = [np.corrcoef(prior.shuffled(seed).mean(configs), truth)[0, 1] for seed in range(3)]
    assert max(map(abs, correlations)) < 0.5
    once, again, other = (prior.shuffled(seed).mean(configs) for seed in (3, 3, 4))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert np.array_equal(before, prior.mean(configs))
    assert np.corrcoef(before, truth)[0, 1] > 0.95


@pytest.mark.parametrize("n", [0, 1, LEAST_TRAININGS - 1])
def test_too_few_trainings_are_refused(trained, refusal, n):
    _, configs, truth = trained
    message = refusal(lambda: TransferPrior.from_accuracies(configs[:n], truth[:n]))
    assert str(LEAST_TRAININGS) in message
    assert message.endswith(f"this one has {n}")
    TransferPrior.from_accuracies(configs[:LEAST_TRAININGS], truth[:LEAST_TRAININGS])


def test_nothing_is_learned_from_a_broken_accuracy(trained):
    _, configs, truth = trained
    with pytest.raises(UserError, match="nothing can be learned"):
        TransferPrior.from_accuracies(configs[:10], [*truth[:9], float("nan")])


def test_a_prior_is_trusted_as_far_as_it_predicts_its_own_architectures(trained):
    """Those of a rule are predicted from each other, with several seeds each too; shuffled ones are not."""
    _, configs, truth = trained
    right = TransferPrior.from_accuracies([*configs, *configs], [*seeded(truth), *truth])
    assert right.trust > 0.95
    assert np.mean([right.shuffled(seed).trust for seed in range(4)]) < 0.3
    assert TransferPrior.from_accuracies(configs, [0.7] * len(configs)).trust == 0


# --------------------------------------------------------------------------------------------------- added features


@pytest.fixture(scope="module")
def widened(trained):
    """The networks with a stem of stride 1 or 2; stride 2 costs 0.2 of the accuracy, whatever the network."""
    _, configs, truth = trained
    both = [replace(config, stem_stride=stride) for stride in (1, 2) for config in configs[:60]]
    return both, np.concatenate([truth[:60], truth[:60] - 0.2])


def test_what_the_trainings_vary_is_learned_and_nothing_else(widened, trained):
    configs, truth = widened
    prior = TransferPrior.from_accuracies(configs, seeded(truth))
    assert prior.added == ("stem_stride",)
    other = trained[1][60:]
    slower = prior.mean(other) - prior.mean([replace(config, stem_stride=2) for config in other])
    assert slower == pytest.approx(np.full(60, 0.2), abs=0.03)
    # What they do not vary makes no difference, and neither does it make another model.
    assert np.array_equal(prior.mean(other), prior.mean([replace(c, residual_activation=True) for c in other]))
    assert TransferPrior.from_accuracies(configs[:60], truth[:60]).added == ()


def test_added_features_are_found_by_their_names_and_are_0_where_they_are_missing(widened):
    configs, truth = widened
    prior = TransferPrior.from_accuracies(configs, seeded(truth))
    x = np.array([architecture_features(config) for config in configs])
    stems = np.array([added_features(config) for config in configs])[:, [list(ADDED_FEATURES).index("stem_stride")]]
    others = np.random.default_rng(0).random((len(x), 2))
    named = prior.mean_of_features(np.hstack([x, others[:, :1], stems, others]), ["polynomial", "stem_stride"])
    assert np.array_equal(named, prior.mean(configs))
    assert np.array_equal(prior.mean_of_features(x)[60:], prior.mean(configs[:60]))


def test_a_search_inherits_the_lengthscales_of_the_features_that_both_have(widened):
    configs, truth = widened
    prior = TransferPrior.from_accuracies(configs, seeded(truth))
    alone, stem = prior.hyperparameters(), prior.hyperparameters(["stem_stride", "polynomial"])
    assert len(alone.lengthscales) == len(FEATURES)
    assert len(stem.lengthscales) == len(FEATURES) + 1
    assert np.array_equal(stem.lengthscales[:-1], alone.lengthscales)
    assert np.array_equal(prior.hyperparameters(["polynomial", "stem_stride"]).lengthscales, alone.lengthscales)


def test_a_shuffled_one_has_the_same_features(widened):
    configs, truth = widened
    prior = TransferPrior.from_accuracies(configs, seeded(truth))
    assert prior.shuffled(0).added == prior.added
    assert not np.array_equal(prior.shuffled(0).mean(configs), prior.mean(configs))
