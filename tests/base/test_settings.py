"""From mappings to settings, with errors of one line."""

import pytest

from mgnas.errors import ConfigError
from mgnas.models import ArchitectureConfig
from mgnas.settings import build, check_field, settings


@settings
class Oven:
    heat: int
    fan: bool = False


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "oven.yaml: kitchen.oven.heat: is required and missing"),
        ({"heat": 200, "fann": True}, "oven.yaml: kitchen.oven.fann: unknown key; did you mean fan?"),
        ({"heat": 200, "colour": 1}, "oven.yaml: kitchen.oven.colour: unknown key; known keys: fan, heat"),
        ({"heat": "200"}, "oven.yaml: kitchen.oven.heat: should be a valid integer, got '200'"),
        ({"heat": 200, "fan": 1}, "oven.yaml: kitchen.oven.fan: should be a valid boolean, got 1"),
        ([200], "oven.yaml: kitchen.oven: expected a mapping of settings, got [200]"),
    ],
)
def test_a_mapping_is_refused_with_file_key_and_remedy(mapping, message):
    with pytest.raises(ConfigError) as caught:
        build(Oven, mapping, "kitchen.oven", "oven.yaml")
    assert str(caught.value) == message


def test_long_and_many_lined_values_are_quoted_short():
    with pytest.raises(ConfigError) as caught:
        build(Oven, {"heat": "hot\n" * 1000})
    assert len(str(caught.value)) < 120
    assert "\n" not in str(caught.value)


def test_one_field_is_checked_by_itself():
    check_field(ArchitectureConfig, "group_size", 5)
    with pytest.raises(ConfigError, match=r"^space\.fixed\.group_size: "):
        check_field(ArchitectureConfig, "group_size", 0, "space.fixed")


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        ("5e-4", "; YAML takes that for text, write 5.0e-4"),
        ("-1E3", "; YAML takes that for text, write -1.0e+3"),
        ("5.0e-4", ""),
        ("e4", ""),
    ],
)
def test_numbers_that_yaml_reads_as_text_come_with_a_remedy(number, hint):
    with pytest.raises(ConfigError) as caught:
        build(Oven, {"heat": number})
    assert str(caught.value) == f"heat: should be a valid integer, got {number!r}{hint}"
