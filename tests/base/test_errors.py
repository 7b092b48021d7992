import pytest

from mgnas.errors import ConfigError, UserError, first_line


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
