import pytest

from mgnas.reports.text import clock, short_count


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, "7"), (999, "999"), (1000, "1k"), (1234, "1.23k"), (20000, "20k"), (999_900, "1M"), (1_500_000, "1.5M")],
)
def test_short_count(value, expected):
    assert short_count(value) == expected


@pytest.mark.parametrize(
    ("seconds", "plain", "with_unit"),
    [
        (0, "0:00", "0:00 min"),
        (75.4, "1:15", "1:15 min"),
        (3599.6, "1:00:00", "1:00:00 h"),
        (3700, "1:01:40", "1:01:40 h"),
    ],
)
def test_clock(seconds, plain, with_unit):
    assert clock(seconds) == plain
    assert clock(seconds, unit=True) == with_unit
