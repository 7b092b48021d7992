"""Files to and from mappings, and mappings to settings, with errors of one line."""

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.errors import ConfigError, UserError
from mgnas.files import read_yaml, write_text, write_yaml
from mgnas.models import ArchitectureConfig
from mgnas.settings import build, check_field, settings

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings
class Oven:
    heat: int
    fan: bool = False


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(str(path))
    return text


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@hypothesis.settings(max_examples=60)
@given(mapping=st.dictionaries(st.text(), PLAIN))
def test_yaml_round_trip_keeps_values_and_order(mapping, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    write_yaml(path, mapping)
    assert read_yaml(path) == mapping
    assert list(read_yaml(path)) == list(mapping)


def test_a_missing_file_is_named(tmp_path):
    assert refusal(tmp_path / "absent.yaml").endswith("no such file")


def test_a_folder_is_no_file(tmp_path):
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        pytest.param(b"\xff\xfe\x00\x01", "not a text file", id="binary"),
        pytest.param(b"a: b\x00c", "not valid YAML", id="NUL in text"),
        pytest.param(b"a: [1,\nb: 2", "line 2: not valid YAML", id="open bracket"),
        pytest.param(b"a: 1\n\tb: 2", "line 2: not valid YAML", id="tab"),
        pytest.param(b"a: *unknown", "line 1: not valid YAML", id="unknown alias"),
        pytest.param(b"a: !!python/object:os.system x", "not valid YAML", id="code"),
        pytest.param(b"a: 2024-13-45", "not valid YAML", id="impossible date"),
        pytest.param(b"{[1]: 2}", "not valid YAML", id="list as key"),
        pytest.param(b"[" * 1000, "not valid YAML", id="too deep"),
        pytest.param(b"a: " + b"1" * 5000, "not valid YAML", id="too many digits"),
        pytest.param(b"", "expected a mapping", id="empty"),
        pytest.param(b"- 1\n- 2", "expected a mapping", id="list"),
        pytest.param(b"mgnet", "expected a mapping", id="word"),
        pytest.param(b"a: 1\n---\nb: 2", "not valid YAML", id="two documents"),
    ],
)
def test_other_content_is_refused_in_one_line(tmp_path, content, hint):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    assert hint in refusal(path)


def test_writing_replaces_the_whole_file(tmp_path):
    path = tmp_path / "settings.yaml"
    write_yaml(path, {"long": "x" * 1000})
    write_yaml(path, {"short": 1})
    assert contents(tmp_path) == {"settings.yaml": "{short: 1}\n"}


@pytest.mark.parametrize("parts", [("file", "new.yaml"), ("absent", "new.yaml"), ("folder",)])
def test_unwritable_places_are_refused_and_nothing_is_left_behind(tmp_path, parts):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    path = tmp_path.joinpath(*parts)
    with pytest.raises(UserError) as caught:
        write_yaml(path, {"a": 1})
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "settings.yaml"
    write_yaml(path, {"a": 1})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half a pair of surrogates cannot be encoded: \ud800")
    assert contents(tmp_path) == {"settings.yaml": "{a: 1}\n"}


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
