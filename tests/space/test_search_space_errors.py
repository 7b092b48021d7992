"""What a space refuses: each time in one line, with the key as it stands in the file."""

import pytest

from mgnas.errors import ConfigError
from mgnas.space import SearchSpace, TrainingSettings

FIXED = {"family": "mgnet", "base_channels": [8, 16]}
STEPS = {"smoothing_steps": [1, 2]}


def refusal(mapping, file=None, **training) -> str:
    with pytest.raises(ConfigError) as caught:
        SearchSpace(mapping, TrainingSettings(**training), num_classes=10, in_channels=3, image_size=8, file=file)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def parts(fixed=None, parameters=None, limits=None):
    return {"fixed": fixed or FIXED, "parameters": parameters or STEPS, "limits": limits or {}}


@pytest.mark.parametrize(
    ("mapping", "start"),
    [
        pytest.param(None, "space: expected a mapping", id="nothing"),
        pytest.param([1], "space: expected a mapping", id="a list"),
        pytest.param("mgnet", "space: expected a mapping", id="a word"),
        pytest.param(parts() | {"parametres": {}}, "space.parametres: unknown key; did you mean parameters?", id="key"),
        pytest.param(
            parts(fixed=FIXED | {"grup_size": 4}), "space.fixed.grup_size: unknown key; did you mean", id="key in fixed"
        ),
        pytest.param(
            parts(parameters={"smoothing_step": [1]}),
            "space.parameters.smoothing_step: unknown key; did you mean smoothing_steps?",
            id="key in parameters",
        ),
        pytest.param(
            parts(limits={"max_weight": 9}),
            "space.limits.max_weight: unknown key; did you mean max_weights?",
            id="limit",
        ),
        pytest.param(parts(fixed=FIXED | {1: 2}), "space.fixed.1: unknown key", id="number as key"),
        pytest.param(parts(fixed=[1]), "space.fixed: expected a mapping", id="fixed as list"),
        pytest.param(parts(parameters=[1]), "space.parameters: expected a mapping", id="parameters as list"),
        pytest.param(parts(limits=[1]), "space.limits: expected a mapping", id="limits as list"),
        pytest.param({"fixed": FIXED}, "space.parameters: names nothing to search", id="no parameters"),
        pytest.param(
            {"fixed": FIXED, "parameters": {}}, "space.parameters: names nothing to search", id="empty parameters"
        ),
        pytest.param(
            parts(fixed=FIXED | {"smoothing_steps": 1}), "space.fixed.smoothing_steps: is also among", id="twice"
        ),
        pytest.param(
            parts(fixed=FIXED | {"num_classes": 10}), "space.fixed.num_classes: comes from the data", id="classes"
        ),
        pytest.param(
            parts(parameters={"in_channels": [1, 3]}), "space.parameters.in_channels: comes from the data", id="colours"
        ),
        pytest.param(
            parts(fixed=FIXED | {"epochs": 3}), "space.fixed.epochs: is a training setting", id="training among fixed"
        ),
        pytest.param(parts(fixed=FIXED | {"family": "vgg"}), "space.fixed.family: should be", id="fixed family"),
        pytest.param(parts(fixed=FIXED | {"group_size": "4"}), "space.fixed.group_size: ", id="fixed text"),
        pytest.param(parts(fixed=FIXED | {"blocks": True}), "space.fixed.blocks: ", id="fixed bool"),
        pytest.param(parts(fixed=FIXED | {"channel_scaling": float("nan")}), "space.fixed.channel_scaling: ", id="NaN"),
        pytest.param(parts(fixed=FIXED | {"base_channels": []}), "space.fixed.base_channels: ", id="no channels"),
        pytest.param(
            parts(fixed=FIXED | {"base_channels": [8, "16"]}), "space.fixed.base_channels.1: ", id="text in channels"
        ),
        pytest.param(parts(parameters={"smoothing_steps": []}), "space.parameters.smoothing_steps: ", id="no choices"),
        pytest.param(parts(parameters={"smoothing_steps": 2}), "space.parameters.smoothing_steps: ", id="one number"),
        pytest.param(parts(parameters={"smoothing_steps": [1, "2"]}), "space.parameters.smoothing_steps: ", id="text"),
        pytest.param(
            parts(parameters={"smoothing_steps": [1, 1]}), "space.parameters.smoothing_steps: ", id="repeated"
        ),
        pytest.param(parts(parameters={"smoothing_steps": [0, 1]}), "space.parameters.smoothing_steps: ", id="zero"),
        pytest.param(
            parts(parameters={"smoothing_steps": {"low": 0, "high": 2}}),
            "space.parameters.smoothing_steps: ",
            id="range from zero",
        ),
        pytest.param(
            parts(parameters={"smoothing_steps": {"low": 1, "high": 2.5}}),
            "space.parameters.smoothing_steps: ",
            id="range of reals for whole numbers",
        ),
        pytest.param(
            parts(parameters={"smoothing_steps": {"low": 2, "high": 1}}),
            "space.parameters.smoothing_steps.low: 2 is above high, 1",
            id="range upside down",
        ),
        pytest.param(parts(parameters={"sharing": ["A", "B"]}), "space.parameters.sharing: should be", id="sharing"),
        pytest.param(
            parts(parameters={"sharing": [{"A": 1}]}), "space.parameters.sharing: a choice is", id="choice as mapping"
        ),
        pytest.param(
            parts(parameters={"learning_rate": [0.1, -1.0]}), "space.parameters.learning_rate: ", id="negative rate"
        ),
        pytest.param(parts(parameters={"flip": [0, 1]}), "space.parameters.flip: ", id="numbers for a bool"),
        pytest.param(parts(limits={"max_weights": "many"}), "space.limits.max_weights: expected a whole", id="many"),
        pytest.param(parts(limits={"max_macs": True}), "space.limits.max_macs: expected a whole", id="limit as bool"),
        pytest.param(parts(limits={"min_weights": -5}), "space.limits.min_weights: expected a whole", id="below zero"),
    ],
)
def test_bad_input_is_refused_by_its_full_key(mapping, start):
    assert refusal(mapping).startswith(start)


def test_the_file_stands_in_front():
    assert refusal(parts(fixed=FIXED | {"blocks": 0}), file="search.yaml").startswith(
        "search.yaml: space.fixed.blocks: "
    )


@pytest.mark.parametrize("missing", ["family", "base_channels"])
@pytest.mark.parametrize("parameters", [STEPS, {"smoothing_steps": {"low": 1, "high": 3}}], ids=["choices", "range"])
def test_settings_that_no_default_replaces_are_asked_for(missing, parameters):
    fixed = {key: value for key, value in FIXED.items() if key != missing}
    assert f"{missing}: is required and missing" in refusal(parts(fixed=fixed, parameters=parameters))


@pytest.mark.parametrize(
    ("limits", "key"),
    [
        ({"max_weights": 100}, "max_weights"),
        ({"min_weights": "1M"}, "min_weights"),
        ({"max_macs": 100}, "max_macs"),
    ],
)
def test_limits_that_leave_nothing_are_told_what_there_is(limits, key):
    # [8, 16] with dense transfers of 8 * 16 * 9 weights: counted by hand from the smallest to the largest.
    # Stem 27 * 8 + 16, level 1 with A and B of 576 and 32 a step, transfers 2 * (1152 + 32), level 2 with B and, from
    # two steps on, A of 2304 and 64 a step, head 170.
    least = 232 + (1152 + 32) + 2368 + (2304 + 64) + 170
    most = 232 + (1152 + 64) + 2368 + (4608 + 128) + 170
    fixed = FIXED | {"resolution_transfer": "dense"}
    text = refusal(parts(fixed=fixed, limits=limits))
    assert text.startswith(f"space.limits.{key}: leaves no candidate")
    if key != "max_macs":
        assert f"{least:,} to {most:,} weights" in text


def test_a_limit_on_macs_that_leaves_nothing_is_told_the_macs():
    assert "MACs" in refusal(parts(limits={"max_macs": 100}))


def test_a_limit_is_blamed_also_where_most_combinations_are_invalid():
    # The steps are one per level: five of six lists fit one level, and five of six base_channels have two.
    parameters = {
        "base_channels": [[8], [8, 16], [8, 24], [8, 32], [16, 32], [16, 64]],
        "smoothing_steps": [[1], [2], [3], [4], [5], [1, 2]],
    }
    text = refusal({"fixed": {"family": "mgnet"}, "parameters": parameters, "limits": {"max_weights": 10}})
    assert text.startswith("space.limits.max_weights: leaves no candidate")


def test_a_choice_that_fits_nothing_is_refused():
    text = refusal(parts(parameters={"smoothing_steps": [1, [1, 2, 3]]}))
    assert text.startswith("space.parameters.smoothing_steps: ")
    assert "3 entries for 2 levels" in text


def test_a_combination_of_fixed_settings_that_fits_nothing_is_refused_where_it_stands():
    fixed = {"family": "mgiad", "base_channels": [16], "group_size": 5}
    assert refusal(parts(fixed=fixed)).startswith("space.fixed.group_size: 5 does not divide the 16 channels")


def test_ranges_that_never_fit_are_refused():
    fixed = {"family": "mgiad", "base_channels": [8], "fully_coupled_channels": 2}
    text = refusal(parts(fixed=fixed, parameters={"group_size": {"low": 5, "high": 7}}))
    assert text.startswith("space.parameters: none of the combinations is valid")


def test_a_clash_with_the_training_section_is_not_laid_on_the_fixed_settings():
    text = refusal(parts(parameters={"epochs": [1, 5]}), warmup_epochs=2.0)
    assert "warmup_epochs" in text
    assert not text.startswith("space.fixed")
