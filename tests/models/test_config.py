"""The architecture's description: its values, its files, and what it refuses."""

import dataclasses
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgnas.errors import ConfigError
from mgnas.files import read_yaml, write_yaml
from mgnas.models import ArchitectureConfig

MGIAD = {"family": "mgiad", "base_channels": [16, 32], "group_size": 4, "fully_coupled_channels": 4}
MGIC = {"family": "mgic", "base_channels": [16, 32], "group_size": 2, "fully_coupled_channels": 3}


def refusal(mapping, **where) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        ArchitectureConfig.from_dict(mapping, **where)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def hierarchy(family: str, channels: int, threshold: int, levels: int | None = None) -> tuple[int, ...]:
    config = ArchitectureConfig(
        family=family,
        base_channels=(channels,),
        fully_coupled_channels=threshold,
        channel_levels=levels,
        group_size=64,
    )
    return config.channel_hierarchies[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("mgiad", 64, 8), (64, 32, 16, 8)),
        (("mgiad", 64, 9), (64, 32, 16)),
        (("mgiad", 64, 64), (64,)),
        (("mgiad", 64, 1), (64, 32, 16, 8, 4, 2, 1)),
        (("mgiad", 64, 8, 2), (64, 32)),
        (("mgiad", 64, 8, 9), (64, 32, 16, 8)),
        (("mgiad", 12, 1), (12, 6, 3)),
        (("mgiad", 4, 8), (4,)),
        (("mgic", 64, 16), (64, 32, 16, 8)),
        (("mgic", 64, 17), (64, 32, 16)),
        (("mgic", 64, 64), (64, 32)),
        (("mgic", 64, 65), (64,)),
        (("mgnet", 64, 8), (64,)),
        (("resnet", 64, 8), (64,)),
    ],
)
def test_channel_levels_worked_out_by_hand(arguments, expected):
    assert hierarchy(*arguments) == expected


def test_lambda_scales_every_level():
    assert ArchitectureConfig(family="resnet", base_channels=(6, 10), channel_scaling=1.5).channels == (9, 15)


def test_one_number_of_steps_holds_on_every_level():
    assert ArchitectureConfig(family="mgnet", base_channels=(4, 8, 8), smoothing_steps=3).steps == (3, 3, 3)


def test_one_number_of_blocks_holds_on_every_stage():
    assert ArchitectureConfig(family="resnet", base_channels=(4, 8, 8), blocks=3).stage_blocks == (3, 3, 3)
    assert ArchitectureConfig(family="resnet", base_channels=(4, 8, 8), blocks=(1, 2, 1)).stage_blocks == (1, 2, 1)


def test_groups_hold_group_size_channels_or_all():
    config = ArchitectureConfig(family="mgiad", base_channels=(64,), group_size=8)
    assert [config.groups(channels) for channels in (64, 16, 8, 4)] == [8, 2, 1, 1]


@settings(max_examples=100)
@given(config=st.from_type(ArchitectureConfig))
def test_id_survives_dict_json_and_yaml(config, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    write_yaml(path, config.to_dict())
    for mapping in (config.to_dict(), json.loads(json.dumps(config.to_dict())), read_yaml(path)):
        again = ArchitectureConfig.from_dict(mapping)
        assert again.id == config.id
        assert again.to_dict() == config.to_dict()


@given(config=st.from_type(ArchitectureConfig))
def test_pickled_copies_are_equal_and_hash_alike(config):
    name = config.id
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert hash(copy) == hash(config)
    assert copy.id == name


@given(config=st.from_type(ArchitectureConfig))
def test_description_is_one_line_that_names_the_channels(config):
    assert len(config.describe().splitlines()) == 1
    assert f"[{'-'.join(map(str, config.channels))}]" in config.describe()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ArchitectureConfig)])
def test_settings_cannot_be_reassigned(name):
    config = ArchitectureConfig(family="resnet", base_channels=(8,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, getattr(config, name))


def test_id_starts_with_the_family_that_is_built():
    assert ArchitectureConfig(family="mgic", base_channels=(16,)).id.startswith("mgic-")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        pytest.param({"family": "vgg"}, "family", id="unknown family"),
        pytest.param({"family": None}, "family", id="no family"),
        pytest.param({"family": ["mgnet"]}, "family", id="family in a list"),
        pytest.param({"base_channels": []}, "base_channels", id="no levels"),
        pytest.param({"base_channels": 16}, "base_channels", id="channels not a list"),
        pytest.param({"base_channels": "16"}, "base_channels", id="channels as text"),
        pytest.param({"base_channels": {16: 32}}, "base_channels", id="channels as mapping"),
        pytest.param({"base_channels": None}, "base_channels", id="channels null"),
        pytest.param({"base_channels": [16, "32"]}, "base_channels.1", id="text among channels"),
        pytest.param({"base_channels": [True, 2]}, "base_channels.0", id="bool among channels"),
        pytest.param({"base_channels": [16.0]}, "base_channels.0", id="float among channels"),
        pytest.param({"base_channels": [0, 16]}, "base_channels.0", id="zero channels"),
        pytest.param({"base_channels": [16, 65537]}, "base_channels.1", id="too many channels"),
        pytest.param({"base_channels": [16] * 17}, "base_channels", id="too many levels"),
        pytest.param({"channel_scaling": float("nan")}, "channel_scaling", id="lambda NaN"),
        pytest.param({"channel_scaling": float("inf")}, "channel_scaling", id="lambda infinite"),
        pytest.param({"channel_scaling": 0}, "channel_scaling", id="lambda zero"),
        pytest.param({"channel_scaling": -1.0}, "channel_scaling", id="lambda negative"),
        pytest.param({"channel_scaling": "2"}, "channel_scaling", id="lambda as text"),
        pytest.param({"channel_scaling": True}, "channel_scaling", id="lambda as bool"),
        pytest.param({"channel_scaling": 0.7}, "channel_scaling", id="lambda * channels not whole"),
        pytest.param({"channel_scaling": 1e-12}, "channel_scaling", id="lambda * channels nearly zero"),
        pytest.param({"smoothing_steps": 0}, "smoothing_steps", id="no steps"),
        pytest.param({"smoothing_steps": True}, "smoothing_steps", id="steps as bool"),
        pytest.param({"smoothing_steps": "2"}, "smoothing_steps", id="steps as text"),
        pytest.param({"smoothing_steps": 2.0}, "smoothing_steps", id="steps as float"),
        pytest.param({"smoothing_steps": 257}, "smoothing_steps", id="too many steps"),
        pytest.param({"smoothing_steps": None}, "smoothing_steps", id="steps null"),
        pytest.param({"smoothing_steps": []}, "smoothing_steps", id="steps empty"),
        pytest.param({"smoothing_steps": [2]}, "smoothing_steps", id="one step number for two levels"),
        pytest.param({"smoothing_steps": [1, 2, 3]}, "smoothing_steps", id="three step numbers for two levels"),
        pytest.param({"smoothing_steps": [1, False]}, "smoothing_steps", id="bool among steps"),
        pytest.param({"smoothing_steps": [1, [2]]}, "smoothing_steps", id="list among steps"),
        pytest.param({"sharing": "B"}, "sharing", id="unknown sharing"),
        pytest.param({"sharing": None}, "sharing", id="sharing null"),
        pytest.param({"group_size": "8"}, "group_size", id="group size as text"),
        pytest.param({"group_size": True}, "group_size", id="group size as bool"),
        pytest.param({"group_size": 8.0}, "group_size", id="group size as float"),
        pytest.param({"group_size": 0}, "group_size", id="group size zero"),
        pytest.param({"group_size": 5}, "group_size", id="group size that divides nothing"),
        pytest.param({"group_size": 16, "base_channels": [24]}, "group_size", id="group size that leaves a rest"),
        pytest.param({"group_size": 1, "channel_transfer": "learned"}, "group_size", id="odd group, learned transfer"),
        pytest.param({"stem_stride": 3}, "stem_stride", id="stride 3"),
        pytest.param({"stem_stride": True}, "stem_stride", id="stride as bool"),
        pytest.param({"stem_stride": 2.0}, "stem_stride", id="stride as float"),
        pytest.param({"kernel_size": 4}, "kernel_size", id="even kernel"),
        pytest.param({"kernel_size": 9}, "kernel_size", id="kernel too wide"),
        pytest.param({"kernel_size": "5"}, "kernel_size", id="kernel as text"),
        pytest.param({"kernel_size": 5.0}, "kernel_size", id="kernel as float"),
        pytest.param({"channel_levels": 0}, "channel_levels", id="no channel levels"),
        pytest.param({"channel_levels": "2"}, "channel_levels", id="channel levels as text"),
        pytest.param({"channel_levels": False}, "channel_levels", id="channel levels as bool"),
        pytest.param({"fully_coupled_channels": 0}, "fully_coupled_channels", id="nothing fully coupled"),
        pytest.param({"fully_coupled_channels": None}, "fully_coupled_channels", id="fully coupled null"),
        pytest.param({"resolution_transfer": "sparse"}, "resolution_transfer", id="unknown resolution transfer"),
        pytest.param({"channel_transfer": "dense"}, "channel_transfer", id="unknown channel transfer"),
        pytest.param({"base_channels": [16, 24]}, "base_channels", id="depthwise transfer to no multiple"),
        pytest.param({"base_channels": [32, 16]}, "base_channels", id="depthwise transfer to fewer channels"),
        pytest.param({"smoother": "chebyshev"}, "smoother", id="unknown smoother"),
        pytest.param({"polynomial_degree": -1}, "polynomial_degree", id="negative degree"),
        pytest.param({"polynomial_degree": 4}, "polynomial_degree", id="too high a degree"),
        pytest.param({"polynomial_degree": True}, "polynomial_degree", id="degree as bool"),
        pytest.param({"residual_activation": 1}, "residual_activation", id="number for a bool"),
        pytest.param({"blocks": 0}, "blocks", id="no blocks"),
        pytest.param({"blocks": 1.5}, "blocks", id="half a block"),
        pytest.param({"blocks": []}, "blocks", id="blocks empty"),
        pytest.param({"blocks": [2]}, "blocks", id="one number of blocks for two stages"),
        pytest.param({"blocks": [1, 2, 3]}, "blocks", id="three numbers of blocks for two stages"),
        pytest.param({"blocks": [1, 0]}, "blocks", id="no blocks on a stage"),
        pytest.param({"blocks": [1, True]}, "blocks", id="bool among blocks"),
        pytest.param({"blocks": [1, 257]}, "blocks", id="too many blocks on a stage"),
        pytest.param({"num_classes": 1}, "num_classes", id="one class"),
        pytest.param({"num_classes": True}, "num_classes", id="classes as bool"),
        pytest.param({"in_channels": 0}, "in_channels", id="no image channels"),
    ],
)
def test_bad_values_are_refused_by_name(changes, key):
    error = refusal(MGIAD | changes)
    assert error.key == key
    assert str(error).startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        pytest.param({"group_size": 1}, "group_size", id="odd group"),
        pytest.param({"group_size": 10}, "group_size", id="group that leaves a rest"),
        pytest.param({"base_channels": [16, 24]}, "base_channels", id="stage of no multiple"),
        pytest.param({"fully_coupled_channels": 1}, "fully_coupled_channels", id="threshold below 1 channel"),
        pytest.param({"base_channels": [4, 12]}, "fully_coupled_channels", id="threshold below an odd 3"),
    ],
)
def test_bad_mgic_settings_are_refused_by_name(changes, key):
    assert refusal(MGIC | changes).key == key


@pytest.mark.parametrize(
    ("blocks", "problem"),
    [
        ([1, 2, 3], "3 entries for 2 levels of base_channels; give one number, or one per level"),
        ([1, 0], "expected a whole number from 1 to 256, or a list of one per level, got [1, 0]"),
    ],
)
def test_the_message_on_blocks_says_what_would_be_right(blocks, problem):
    assert str(refusal(MGIC | {"blocks": blocks}, prefix="space", file="a.yaml")) == f"a.yaml: space.blocks: {problem}"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"family": "resnet", "blocks": 2}, "ResNet [16-32], 2 blocks a stage"),
        ({"family": "resnet", "blocks": (1, 2)}, "ResNet [16-32], 1-2 blocks a stage"),
        ({"family": "resnet", "stem_stride": 4}, "ResNet [16-32], 2 blocks a stage, stem stride 4"),
        ({"family": "mgic", "blocks": (1, 2)}, "MGIC [16-32], 1-2 blocks a stage, g=8, threshold 8"),
        ({"family": "mgnet", "smoothing_steps": (1, 2)}, "MgNet [16-32], nu=1-2, sharing AB, depthwise transfers"),
        (
            {"family": "mgnet", "smoother": "polynomial", "polynomial_degree": 2, "residual_activation": True},
            "MgNet [16-32], nu=2, polynomials of degree 2, depthwise transfers, residual activation",
        ),
        (
            {"family": "mgiad", "smoother": "polynomial"},
            "MGiaD [16-32], nu=2, polynomials of degree 1, g_s=8, 3 channel levels down to 8, depthwise transfers",
        ),
    ],
)
def test_descriptions_word_for_word(settings, text):
    assert ArchitectureConfig(base_channels=(16, 32), **settings).describe() == text


# Recorded when every family had one number of blocks: ids are written into studies and files, and must stay.
@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"family": "resnet"}, "resnet-2f59852d26"),
        ({"family": "resnet", "blocks": 3}, "resnet-537def66ae"),
        ({"family": "mgic", "group_size": 4}, "mgic-f8c2588fa0"),
        ({"family": "mgic", "group_size": 4, "blocks": 1}, "mgic-674d4da3ad"),
        ({"family": "mgnet", "smoothing_steps": (1, 2)}, "mgnet-d8c9104a63"),
        ({"family": "mgiad", "group_size": 4}, "mgiad-40f9fc7c97"),
    ],
)
def test_recorded_ids_stay(settings, name):
    assert ArchitectureConfig(base_channels=(16, 32), **settings).id == name


@pytest.mark.parametrize("family", ["resnet", "mgnet", "mgic", "mgiad"])
def test_settings_of_this_version_are_written_only_if_they_say_something(family):
    """So that files and ids of networks without them are those of earlier versions."""
    config = ArchitectureConfig(family=family, base_channels=(16, 32), group_size=4, polynomial_degree=3)
    assert not config.to_dict().keys() & {
        "stem_stride",
        "smoother",
        "polynomial_degree",
        "kernel_size",
        "residual_activation",
    }


def test_a_polynomial_is_written_with_its_degree():
    config = ArchitectureConfig(family="mgiad", base_channels=(16, 32), smoother="polynomial", residual_activation=True)
    expected = {"smoother": "polynomial", "polynomial_degree": 1, "residual_activation": True}
    assert {key: value for key, value in config.to_dict().items() if key in expected} == expected


@pytest.mark.parametrize(
    ("settings", "name", "expected"),
    [
        ({"family": "mgnet"}, "polynomial_degree", False),
        ({"family": "mgnet", "smoother": "polynomial"}, "polynomial_degree", True),
        ({"family": "mgnet", "smoother": "polynomial"}, "sharing", False),
        ({"family": "mgnet"}, "residual_activation", True),
        ({"family": "mgnet", "base_channels": (16,)}, "residual_activation", False),
        ({"family": "resnet"}, "smoother", False),
        ({"family": "mgiad"}, "kernel_size", True),
        ({"family": "mgiad", "channel_levels": 1}, "kernel_size", False),
        ({"family": "mgic"}, "kernel_size", False),
    ],
)
def test_which_settings_a_network_reads(settings, name, expected):
    assert ArchitectureConfig(**{"base_channels": (16, 32)} | settings).has_effect(name) is expected


@pytest.mark.parametrize(
    ("stride", "levels", "image_size", "sizes"),
    [
        (1, 3, 28, [28, 14, 7]),
        (1, 3, 9, [9, 5, 3]),
        (2, 3, 65, [33, 17, 9]),
        (4, 2, 97, [25, 13]),
        (4, 6, 224, [56, 28, 14, 7, 4, 2]),
    ],
)
def test_sizes_of_the_levels_worked_out_by_hand(stride, levels, image_size, sizes):
    config = ArchitectureConfig(family="mgnet", base_channels=(8,) * levels, stem_stride=stride)
    assert config.level_sizes(image_size) == sizes


@pytest.mark.parametrize(("stride", "levels"), [(s, levels) for s in (1, 2, 4) for levels in (1, 2, 3, 4, 5, 6)])
def test_images_are_too_small_exactly_if_a_transfer_would_halve_a_single_pixel(stride, levels):
    config = ArchitectureConfig(family="mgnet", base_channels=(8,) * levels, stem_stride=stride)
    for image_size in range(8, 80):
        if levels > 1 and config.level_sizes(image_size)[-2] == 1:
            with pytest.raises(ConfigError, match="pixels"):
                config.check_image_size(image_size)
        else:
            config.check_image_size(image_size)


def test_the_message_on_small_images_says_what_they_would_need():
    config = ArchitectureConfig(family="mgnet", base_channels=(8,) * 5, stem_stride=4)
    config.check_image_size(33)
    with pytest.raises(ConfigError) as caught:
        config.check_image_size(32)
    assert str(caught.value) == (
        "base_channels: 5 levels with stem_stride 4 need images of at least 33 x 33 pixels, these have 32 x 32; "
        "use fewer levels"
    )


@pytest.mark.parametrize("resolution_transfer", ["depthwise", "dense"])
def test_depthwise_levels_go_with_fixed_channel_transfers(resolution_transfer):
    """The grouped 1x1 convolutions of learned ones need two channels of a group for each that they make."""
    settings = MGIAD | {"group_size": 1, "resolution_transfer": resolution_transfer}
    config = ArchitectureConfig.from_dict(settings | {"kernel_size": 7})
    assert [config.groups(channels) for channels in (32, 16)] == [32, 16]
    assert config.describe().startswith("MGiaD [16-32], nu=2, g_s=1, 7x7, 4 channel levels down to 4")
    assert str(refusal(settings | {"channel_transfer": "learned"})) == (
        "group_size: 1 is odd, so the grouped 1x1 transfer cannot halve 16 channels; "
        "use an even group size, or channel_transfer: fixed"
    )


@pytest.mark.parametrize("missing", ["family", "base_channels"])
def test_required_settings_are_asked_for(missing):
    error = refusal({key: value for key, value in MGIAD.items() if key != missing})
    assert str(error) == f"{missing}: is required and missing"


def test_unknown_keys_are_answered_with_the_nearest_known_one():
    assert str(refusal(MGIAD | {"smothing_steps": 2})).endswith("did you mean smoothing_steps?")


def test_unknown_keys_like_nothing_are_answered_with_all_known_ones():
    text = str(refusal(MGIAD | {"zebra": 1}))
    assert all(field.name in text for field in dataclasses.fields(ArchitectureConfig))


@pytest.mark.parametrize("key", ["two\nlines", "", 7, None, True, "self", "with space"])
def test_keys_of_any_kind_are_refused_in_one_line(key):
    assert "unknown key" in str(refusal(MGIAD | {key: 1}))


@pytest.mark.parametrize("mapping", [None, [], "family: mgnet", 3])
def test_only_a_mapping_is_read(mapping):
    assert "expected a mapping" in str(refusal(mapping))


def test_the_message_begins_with_file_and_full_key():
    error = refusal(MGIAD | {"group_size": 5}, prefix="space.fixed", file="search.yaml")
    assert str(error).startswith("search.yaml: space.fixed.group_size: ")


def test_direct_construction_refuses_with_a_value_error():
    with pytest.raises(ValueError, match="group_size"):
        ArchitectureConfig(family="mgiad", base_channels=(16,), group_size=5)
