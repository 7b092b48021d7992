"""YAML files read strictly, and files written whole or not at all."""

import gzip
import itertools
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgnas.errors import UserError
from mgnas.files import (
    FileTooLargeError,
    parse_json,
    read_json,
    read_within,
    read_yaml,
    short,
    write_bytes,
    write_text,
    write_yaml,
)

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(str(path))
    return text


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@settings(max_examples=60)
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
        pytest.param(b"a: " + b"1" * 5000, "a number of more than 40 characters", id="too many digits"),
        pytest.param(b"a: 0x" + b"f" * 50_000, "a number of more than 40 characters", id="huge hexadecimal number"),
        pytest.param(b"a: 1" + b":59" * 50_000, "a number of more than 40 characters", id="huge number of base 60"),
        pytest.param(b"a: 1" + b":59" * 50_000 + b".5", "of more than 40 characters", id="huge fraction of base 60"),
        pytest.param(b"1" * 500 + b": a", "a number of more than 40 characters", id="huge number as key"),
        pytest.param(b"a: " + b"x" * 1_000_000, "holds more than 1 MB; a file of settings", id="too large"),
        pytest.param(b"", "expected a mapping", id="empty"),
        pytest.param(b"- 1\n- 2", "expected a mapping", id="list"),
        pytest.param(b"mgnet", "expected a mapping", id="word"),
        pytest.param(b"a: 1\n---\nb: 2", "not valid YAML", id="two documents"),
        pytest.param(b"a: 1\nb: 2\na: 3", "line 3: not valid YAML (the key 'a' stands twice)", id="repeated key"),
        pytest.param(b"a: &x [*x]", "an alias that holds itself", id="alias in itself"),
        pytest.param(
            b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 10)) for c in b"bcdef"),
            "its aliases unfold to more than 100,000 values",
            id="aliases of aliases",
        ),
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


def test_a_written_file_has_the_permissions_asked_for(tmp_path):
    write_bytes(tmp_path / "public", b"1")
    write_bytes(tmp_path / "private", memoryview(b"2"), mode=0o600)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("public", "private")] == [0o644, 0o600]
    assert contents(tmp_path) == {"public": "1", "private": "2"}


@pytest.mark.parametrize(("umask", "modes"), [(0o022, [0o644, 0o600]), (0o077, [0o600] * 2), (0o002, [0o664, 0o600])])
def test_the_umask_decides_but_for_what_is_private(tmp_path, umask, modes):
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "public", b"1")
        write_bytes(tmp_path / "private", b"2", mode=0o600)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("public", "private")] == modes


MERGED = [
    pytest.param("b: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}", {"x": 1, "y": 3}, id="own key wins"),
    pytest.param("b: &b {x: 1, y: 2}\nc: {y: 3, <<: *b}", {"x": 1, "y": 3}, id="merged after its own"),
    pytest.param("b: &b {x: 1}\nd: &d {x: 2, y: 2}\nc: {<<: [*b, *d]}", {"x": 1, "y": 2}, id="first of a list wins"),
    pytest.param("b: &b {x: 1}\nd: &d {<<: *b, y: 2}\nc: {<<: *d, x: 7}", {"x": 7, "y": 2}, id="merged into merged"),
    pytest.param("b: &b {x: 1}\nd: &d {<<: *b, x: 5}\nc: {<<: *d}", {"x": 5}, id="override in the merged one"),
    pytest.param("b: &b {x: {z: 1}}\nc: {<<: *b}", {"x": {"z": 1}}, id="nested"),
    pytest.param("c: {<<: {x: 1}, y: 2}", {"x": 1, "y": 2}, id="no alias"),
    pytest.param("c: {<<: {}, y: 2}", {"y": 2}, id="empty"),
    pytest.param("c: {'<<': 1}", {"<<": 1}, id="quoted"),
]


@pytest.mark.parametrize(("text", "merged"), MERGED)
def test_merge_keys_are_merged(tmp_path, text, merged):
    (tmp_path / "settings.yaml").write_text(text)
    assert read_yaml(tmp_path / "settings.yaml")["c"] == merged


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("b: &b {x: 1}\nc: {<<: *b, y: 1, y: 2}", "the key 'y' stands twice"),
        ("b: &b {x: 1, x: 2}\nc: {<<: *b}", "the key 'x' stands twice"),
        ("b: &b {x: 1}\nc: {<<: *b, <<: *b}", "the key '<<' stands twice; merge several mappings with"),
        ("c: {<<: 3}", "line 1: not valid YAML"),
        ("c: {<<: [1]}", "line 1: not valid YAML"),
        ("c: &c {<<: *c}", "an alias that holds itself"),
        ("a: {1: x, 1: y}", "the key 1 stands twice"),
        ("a: {? [1, 2] : x}", "a key is a word or number"),
        ("- {a: [{b: 1, b: 2}]}", "the key 'b' stands twice"),
    ],
)
def test_what_stands_twice_or_cannot_be_merged_is_refused(tmp_path, text, hint):
    (tmp_path / "settings.yaml").write_text(text)
    assert hint in refusal(tmp_path / "settings.yaml")


def test_merges_of_merges_do_not_grow_without_bound(tmp_path):
    lines = ["a: &a {k0: 1}"]
    lines += [f"{new}: &{new} {{<<: [{', '.join(['*' + old] * 10)}]}}" for old, new in itertools.pairwise("abcdefgh")]
    (tmp_path / "settings.yaml").write_text("\n".join(lines))
    assert "aliases unfold to more than 100,000 values" in refusal(tmp_path / "settings.yaml")


def test_many_keys_are_read_in_linear_time(tmp_path):
    # With a time that grows with the square this takes minutes.
    (tmp_path / "settings.yaml").write_text("".join(f"k{number}: 1\n" for number in range(40_000)))
    assert len(read_yaml(tmp_path / "settings.yaml")) == 40_000


def test_json_is_read_packed_or_not(tmp_path):
    for name, content in (("a.json", b'{"a": [1]}'), ("a.json.gz", gzip.compress(b'{"a": [1]}'))):
        (tmp_path / name).write_bytes(content)
        assert read_json(tmp_path / name) == {"a": [1]}


@pytest.mark.parametrize(
    "text", ["", "{", "[1] 2", "[" * 100_000, '{"a":' * 100_000, "1" * 5000, b"\xff", b"\xff\xfe[\0"]
)
def test_what_is_no_json_is_a_value_error(tmp_path, text):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "a.json").write_bytes(content)
    for read in (lambda: read_json(tmp_path / "a.json"), lambda: parse_json(text)):
        with pytest.raises(ValueError, match=r"\w"):
            read()


def test_no_more_of_a_file_is_unpacked_than_the_limit(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(1001)))
    assert read_within(tmp_path / "a.gz", 1001) == bytes(1001)
    with pytest.raises(FileTooLargeError, match=r"holds more than 0\.001 MB"):
        read_within(tmp_path / "a.gz", 1000)


@pytest.mark.parametrize("size", range(0, 40, 3))
def test_a_damaged_gzip_file_is_a_value_error_or_an_os_error(tmp_path, size):
    content = gzip.compress(json.dumps(list(range(50))).encode())
    for damaged in (content[:size], content[:size] + b"\xff\xff\xff" + content[size + 3 :]):
        (tmp_path / "a.json.gz").write_bytes(damaged)
        try:
            assert read_json(tmp_path / "a.json.gz") == list(range(50)), "only the header's time or name has changed"
        except (ValueError, OSError):
            continue


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(10**5000, "a value that is too long to show", id="huge number"),
        ("a\nb", "'a\\nb'"),
        ("x" * 58, repr("x" * 58)),
        ("x" * 59, "'" + "x" * 56 + "..."),
        ([1, "2"], "[1, '2']"),
    ],
)
def test_a_value_in_a_message_has_at_most_60_characters(value, text):
    assert short(value) == text
    assert len(short(value)) <= 60
