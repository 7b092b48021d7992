"""Which candidates a space has: counted by hand, by brute force and by sampling."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.errors import ConfigError
from mgnas.models import ArchitectureConfig, count_macs, count_weights
from mgnas.space import Candidate, SearchSpace, TrainingSettings

SEEDS = st.integers(0, 2**32 - 1)

# By hand, nu steps on the levels of 4, 4-8 or 4-6 channels:
# - 4: one level has no transfer. nu=1: sharing has no effect, 1 network. nu=2: the first step has no A, so `none` is
#   `A`; with `AB` 2 networks. Together 3.
# - 4-8: nu=1: 1. nu=2: the second level has two A, so all three sharings differ: 3. Times two transfers: 8.
# - 4-6: 6 is no multiple of 4, so only `dense` transfers, of which there are 4 networks; 6 points are invalid.
# That makes 15 networks of 36 points.
MGNETS = {
    "fixed": {"family": "mgnet"},
    "parameters": {
        "base_channels": [[4], [4, 8], [4, 6]],
        "smoothing_steps": [1, 2],
        "sharing": ["none", "A", "AB"],
        "resolution_transfer": ["depthwise", "dense"],
    },
}
# By hand: MGiaD on one channel level is MgNet AB with 2 nu = 2, 4 steps; MgNet itself has 1, 2. That makes the MgNets
# with 1, 2 and 4 steps. On the channel levels 8, 4 there are two group sizes times two nu. Together 7 of 16 points.
ACROSS_FAMILIES = {
    "fixed": {"base_channels": [8], "fully_coupled_channels": 4},
    "parameters": {
        "family": ["mgnet", "mgiad"],
        "channel_levels": [1, 2],
        "group_size": [4, 8],
        "smoothing_steps": {"low": 1, "high": 2},
    },
}


def space(mapping, image_size=8, **training) -> SearchSpace:
    return SearchSpace(mapping, TrainingSettings(**training), num_classes=10, in_channels=3, image_size=image_size)


def brute_force(mapping) -> dict[str, ArchitectureConfig]:
    """All valid networks by id; for parameters that are lists of choices."""
    found = {}
    for values in itertools.product(*mapping["parameters"].values()):
        settings = mapping["fixed"] | dict(zip(mapping["parameters"], values, strict=True))
        try:
            config = ArchitectureConfig.from_dict(settings | {"num_classes": 10, "in_channels": 3})
        except ConfigError:
            continue
        found[config.id] = config
    return found


def with_limits(**limits):
    return MGNETS | {"limits": limits}


def test_hand_counted_mgnets():
    mgnets = space(MGNETS)
    assert mgnets.points() == 36
    assert len(list(mgnets.enumerate())) == 15


def test_hand_counted_networks_across_families():
    networks = [candidate.architecture for candidate in space(ACROSS_FAMILIES).enumerate()]
    assert len(networks) == 7
    mgnets = [network.canonical() for network in networks if network.canonical().family == "mgnet"]
    assert sorted(network.smoothing_steps for network in mgnets) == [1, 2, 4]


def test_enumeration_equals_brute_force():
    candidates = list(space(MGNETS).enumerate())
    expected = brute_force(MGNETS)
    assert len({candidate.id for candidate in candidates}) == len(candidates)
    assert {candidate.id for candidate in candidates} == set(expected)
    assert all(candidate.weights == count_weights(expected[candidate.id]) for candidate in candidates)


@pytest.mark.parametrize(
    ("limits", "keeps"),
    [
        ({"max_weights": "1.5k"}, lambda weights, macs: weights <= 1500),
        ({"min_weights": 1500}, lambda weights, macs: weights >= 1500),
        ({"max_macs": "40k"}, lambda weights, macs: macs <= 40_000),
        (
            {"min_weights": 1000, "max_weights": 2500, "max_macs": 60_000},
            lambda weights, macs: 1000 <= weights <= 2500 and macs <= 60_000,
        ),
    ],
)
def test_limits_keep_exactly_what_they_say(limits, keeps):
    kept = {candidate.id for candidate in space(with_limits(**limits)).enumerate()}
    networks = brute_force(MGNETS)
    assert kept == {name for name, c in networks.items() if keeps(count_weights(c), count_macs(c, 8))}
    assert 0 < len(kept) < len(networks)


@pytest.mark.parametrize(
    ("limit", "cost", "beyond"),
    [("max_weights", "weights", -1), ("min_weights", "weights", 1), ("max_macs", "macs", -1)],
)
def test_a_limit_itself_is_within_the_limit(limit, cost, beyond):
    costs = sorted(getattr(candidate, cost) for candidate in space(MGNETS).enumerate())
    at, off = space(with_limits(**{limit: costs[7]})), space(with_limits(**{limit: costs[7] + beyond}))
    assert costs[7] in {getattr(candidate, cost) for candidate in at.enumerate()}
    assert costs[7] not in {getattr(candidate, cost) for candidate in off.enumerate()}


def test_a_candidate_over_a_limit_is_refused_with_its_number():
    limited = space(with_limits(max_weights=1500))
    values = {"base_channels": "4-8", "smoothing_steps": 2, "sharing": "none", "resolution_transfer": "dense"}
    weights = limited.build(values).weights
    with pytest.raises(ConfigError, match=rf"^limits\.max_weights: {weights:,} weights are more than 1,500$"):
        limited.candidate(values)


@pytest.fixture(scope="module")
def limited():
    return space(with_limits(max_weights=2000))


@pytest.fixture(scope="module")
def limited_ids(limited):
    return {candidate.id for candidate in limited.enumerate()}


@given(seed=SEEDS)
def test_samples_are_valid_candidates(limited, limited_ids, seed):
    rng = np.random.default_rng(seed)
    for _ in range(5):
        candidate = limited.sample(rng)
        assert candidate.id in limited_ids
        assert limited.candidate(candidate.params).id == candidate.id


def test_samples_reach_every_candidate():
    mgnets, rng = space(MGNETS), np.random.default_rng(0)
    assert len({mgnets.sample(rng).id for _ in range(600)}) == 15


@given(seed=SEEDS, changes=st.integers(0, 6))
def test_mutations_change_as_many_parameters_as_asked(limited, seed, changes):
    rng = np.random.default_rng(seed)
    values = limited.random_values(rng)
    original = dict(values)
    mutated = limited.mutate(values, changes, rng)
    assert values == original
    assert list(mutated) == list(original)
    assert sum(mutated[name] != values[name] for name in values) == min(changes, 4)
    assert all(mutated[parameter.name] in parameter.grid for parameter in limited.parameters)


def test_costs_of_a_candidate_are_those_of_its_network_on_the_images():
    candidate = next(space(MGNETS, image_size=11).enumerate())
    assert candidate.weights == count_weights(candidate.architecture)
    assert candidate.macs == count_macs(candidate.architecture, 11)


def test_classes_and_image_channels_come_from_the_data():
    data = {"num_classes": 7, "in_channels": 1, "image_size": 8}
    candidate = next(SearchSpace(MGNETS, TrainingSettings(), **data).enumerate())
    assert (candidate.architecture.num_classes, candidate.architecture.in_channels) == (7, 1)


def test_training_that_is_not_searched_is_no_part_of_the_id():
    short, long = (next(space(MGNETS, epochs=epochs).enumerate()) for epochs in (5, 50))
    assert short.id == long.id == short.architecture.id
    assert (short.training.epochs, long.training.epochs) == (5, 50)


def test_training_that_is_searched_is_part_of_the_id_and_of_the_training():
    mapping = MGNETS | {"parameters": {"smoothing_steps": [1, 2], "learning_rate": [0.1, 0.3], "flip": [True, False]}}
    searched = space(mapping | {"fixed": {"family": "mgnet", "base_channels": [4]}}, epochs=7, momentum=0.8)
    candidates = list(searched.enumerate())
    assert searched.searched_training_settings == ("flip", "learning_rate")
    assert len({candidate.id for candidate in candidates}) == 8
    assert {(c.training.learning_rate, c.training.flip) for c in candidates} == set(
        itertools.product([0.1, 0.3], [True, False])
    )
    assert {(c.training.epochs, c.training.momentum) for c in candidates} == {(7, 0.8)}
    assert all(candidate.id.startswith(f"{candidate.architecture.id}-") for candidate in candidates)


def test_a_range_of_whole_numbers_serves_a_setting_of_reals():
    mapping = {
        "fixed": {"family": "mgnet"},
        "parameters": {"base_channels": [[4]], "channel_scaling": {"low": 1, "high": 3}},
    }
    assert [candidate.architecture.channels for candidate in space(mapping).enumerate()] == [(4,), (8,), (12,)]


def test_a_candidate_as_a_dict_makes_the_candidate_again():
    for candidate in space(ACROSS_FAMILIES, epochs=3).enumerate():
        plain = candidate.to_dict()
        again = Candidate(
            ArchitectureConfig.from_dict(plain["architecture"]),
            TrainingSettings(**plain["training"]),
            candidate.image_size,
            candidate.params,
        )
        assert (again.id, again.weights, again.training) == (candidate.id, candidate.weights, candidate.training)


def test_summary_of_an_enumerated_space_counts_every_point():
    summary = space(MGNETS).summary()
    assert (summary.points, summary.examined, summary.enumerated) == (36, 36, True)
    assert summary.rejections == {"base_channels": 6}
    assert summary.weights.tolist() == sorted(count_weights(config) for config in brute_force(MGNETS).values())


def test_settings_without_an_effect_are_not_enumerated():
    """Of an MgNet's points only one for each number of steps, of a ResNet's one for each number of blocks."""
    parameters = {"blocks": [1, 2, 3], "family": ["mgnet", "resnet"], "smoothing_steps": [1, 2], "group_size": [2, 4]}
    mapping = {"fixed": {"base_channels": [4]}, "parameters": parameters}
    mixed = space(mapping)
    assert (mixed.points(), mixed.effective_points()) == (24, 5)
    points = [(v["family"], v["blocks"], v["smoothing_steps"], v["group_size"]) for v in mixed.effective_values()]
    mgnets, resnets = [("mgnet", 1, steps, 2) for steps in (1, 2)], [("resnet", blocks, 1, 2) for blocks in (1, 2, 3)]
    assert points == mgnets + resnets
    assert {candidate.id for candidate in mixed.enumerate()} == set(
        brute_force({"fixed": {"base_channels": [4]}, "parameters": parameters})
    )
    summary = mixed.summary()
    assert (summary.points, summary.examined, summary.enumerated) == (24, 5, True)


def test_polynomial_smoothers_are_enumerated_once_for_each_degree():
    """Learned ones for each sharing: 3 + 2 networks of 2 steps on two levels; and 2 once more without learned B."""
    parameters = {
        "smoother": ["learned", "polynomial"],
        "polynomial_degree": [1, 0],
        "sharing": ["none", "A", "AB"],
    }
    mapping = {"fixed": {"family": "mgnet", "base_channels": [4, 8]}, "parameters": parameters}
    networks = space(mapping)
    assert (networks.points(), networks.effective_points()) == (12, 5)
    assert len(list(networks.enumerate())) == 5
    fixed = space(
        {"fixed": {"family": "mgnet", "base_channels": [4], "smoother": "polynomial"}}
        | {"parameters": {name: parameters[name] for name in ("polynomial_degree", "sharing")}}
    )
    assert fixed.effective_points() == 2
    resnets = space(
        {"fixed": {"family": "resnet", "base_channels": [4]}, "parameters": {"blocks": [1, 2]} | parameters}
    )
    assert resnets.effective_points() == 2


def test_wide_kernels_count_only_where_levels_are_grouped():
    """By hand: 8 -> 4 with three kernels; without a coarser channel level the MgNet, once."""
    mapping = {
        "fixed": {"family": "mgiad", "base_channels": [8], "fully_coupled_channels": 4, "group_size": 1},
        "parameters": {"channel_levels": [1, 2], "kernel_size": {"low": 3, "high": 7, "step": 2}},
    }
    sizes = [candidate.architecture.canonical().kernel_size for candidate in space(mapping).enumerate()]
    assert sizes == [3, 3, 5, 7]


def test_levels_that_would_halve_single_pixels_are_no_candidates():
    mapping = {
        "fixed": {"family": "mgnet"},
        "parameters": {"base_channels": [[4], [4, 4], [4, 4, 4]], "stem_stride": [1, 2, 4]},
    }
    networks = [candidate.architecture for candidate in space(mapping, image_size=8).enumerate()]
    # 8, 4, 2 pixels with stride 4: 2 and 1 pixels have no third level.
    assert sorted((len(network.channels), network.stem_stride) for network in networks) == [
        (levels, stride) for levels in (1, 2, 3) for stride in (1, 2, 4) if (levels, stride) != (3, 4)
    ]
    with pytest.raises(ConfigError) as caught:
        space({"fixed": {"family": "mgnet", "base_channels": [4] * 5}, "parameters": {"smoothing_steps": [1, 2]}})
    assert str(caught.value) == (
        "space.parameters: none of the combinations is valid; most often: "
        "base_channels: 5 levels need images of at least 9 x 9 pixels, these have 8 x 8; use fewer levels"
    )


def test_a_trial_of_an_earlier_version_may_have_too_many_levels():
    """So that its run can still be opened."""
    mapping = {"fixed": {"family": "mgnet"}, "parameters": {"base_channels": [[4], [4] * 6]}}
    networks = space(mapping, image_size=8)
    deep = {"base_channels": "4-4-4-4-4-4"}
    assert len(networks.build(deep).architecture.channels) == 6
    with pytest.raises(ConfigError, match="6 levels need images of at least 17 x 17 pixels"):
        networks.candidate(deep)
    assert networks.summary().rejections == {"base_channels": 1}


def test_a_degree_that_fits_no_smoother_of_the_space_is_harmless():
    mapping = {
        "fixed": {"family": "mgnet", "base_channels": [4], "smoother": "learned"},
        "parameters": {"polynomial_degree": {"low": 0, "high": 3}},
    }
    assert len(list(space(mapping).enumerate())) == 1


def test_summary_names_the_limits_that_reject():
    # Of the 30 valid points 5 have more than 2,400 weights (4-8: `none` and `A` with either transfer, 4-6: `none`, all
    # with two steps), and 2 more run more than 70,000 MACs (4-8 with two steps and `AB`).
    summary = space(with_limits(max_weights=2400, max_macs=70_000)).summary()
    assert summary.rejections == {"base_channels": 6, "limits.max_weights": 5, "limits.max_macs": 2}
    assert len(summary.weights) == 15 - 7


def test_summary_of_a_sample_sees_what_enumeration_sees():
    # A continuous learning rate makes every sample a candidate of its own, and enumeration impossible.
    continuous = MGNETS["parameters"] | {"learning_rate": {"low": 0.01, "high": 0.1, "log": True}}
    sampled = space(MGNETS | {"parameters": continuous}).summary(samples=2000)
    enumerated = space(MGNETS).summary()
    assert (sampled.points, sampled.examined, sampled.enumerated) == (None, 2000, False)
    assert set(sampled.weights) == set(enumerated.weights)
    assert len(sampled.weights) + sampled.rejections["base_channels"] == 2000
    # 6 of 36 points are invalid: 333 of 2000, standard deviation 17.
    assert 250 < sampled.rejections["base_channels"] < 420


def test_a_large_space_is_summarised_from_a_sample_that_the_seed_decides():
    large = MGNETS["parameters"] | {"epochs": {"low": 2, "high": 2000}}
    first, second = (space(MGNETS | {"parameters": large}).summary(samples=300, seed=5) for _ in range(2))
    assert (first.points, first.examined, first.enumerated) == (36 * 1999, 300, False)
    assert first.weights.tolist() == second.weights.tolist()


def test_a_continuous_space_has_no_points_to_list():
    mapping = {
        "fixed": {"family": "mgnet", "base_channels": [4]},
        "parameters": {"learning_rate": {"low": 0.1, "high": 1.0}},
    }
    continuous = space(mapping)
    assert continuous.points() is None
    with pytest.raises(ValueError, match="cannot be enumerated"):
        next(continuous.enumerate())


def test_blocks_are_searched_as_one_number_or_as_one_per_stage():
    mapping = {"fixed": {"family": "resnet", "base_channels": [4, 8]}, "parameters": {"blocks": [1, [1, 1], [1, 2]]}}
    candidates = list(space(mapping).enumerate())
    assert [candidate.params for candidate in candidates] == [{"blocks": 1}, {"blocks": "1-2"}]
    assert [candidate.architecture.stage_blocks for candidate in candidates] == [(1, 1), (1, 2)]


def test_a_rare_choice_is_no_impossible_one():
    # One in 2,000 base_channels has the three levels that [1, 2, 3] needs.
    base_channels = [[count] for count in range(1, 2000)] + [[4, 8, 16]]
    mapping = {
        "fixed": {"family": "mgnet"},
        "parameters": {"base_channels": base_channels, "smoothing_steps": [1, [1, 2, 3]]},
    }
    assert space(mapping).points() == 4000
