import pytest

from mgnas.errors import ConfigError, UserError, first_line, printable


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  \n  one  \ntwo"), "one"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError("x" * 301), "x" * 300),
        (ValueError(), "ValueError"),
        (KeyError(" \n"), "' \\n'"),
        (UserError(" \n"), "UserError"),
        ("one\r\ntwo", "one"),
        ("", "unknown"),
    ],
)
def test_the_first_line_of_an_error_or_of_a_text(reason, line):
    assert first_line(reason) == line


def test_a_config_error_names_file_key_and_problem_in_one_line():
    error = ConfigError("group_size", "3 does not\n divide 8", "digits.yaml")
    assert str(error) == "digits.yaml: group_size: 3 does not divide 8"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("low", "is wrong").inside("space").inside(file="a.yaml"), "a.yaml: space.low: is wrong"),
        (ConfigError("", "is wrong").inside("space"), "space: is wrong"),
        (ConfigError("low", "is wrong").inside(), "low: is wrong"),
        (ConfigError("low", "is wrong", "a.yaml").inside(file="b.yaml"), "b.yaml: low: is wrong"),
    ],
)
def test_an_error_seen_from_outside_has_a_longer_key(error, text):
    assert str(error) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, é and 网络", "plain text, é and 网络"),
        ("a\nmgnas: error: forged", "a\\nmgnas: error: forged"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\tc\bd\x00", "a\\rb\\tc\\x08d\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("caf\udce9", "caf\\xe9"),
        ("lone \ud800", "lone \\ud800"),
        ("3.12\u202fPM 猫", "3.12\u202fPM 猫"),
        ("line\u2028end", "line\\u2028end"),
        ("", ""),
    ],
)
def test_what_cannot_be_seen_is_escaped(text, shown):
    assert printable(text) == shown
