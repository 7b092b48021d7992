"""benchmarks/training/convolutions.py: which ways it tries, and that they compute the same."""

import time
from pathlib import Path

import convolutions
import pytest
from steps import Context


def context(tiny: bool) -> Context:
    return Context("cpu", tiny, None, "", time.monotonic() + 60, Path("unused"))


@pytest.mark.parametrize(
    ("channels", "group", "expected"),
    [(64, 8, [8, 16, 32, 64]), (64, 64, [64]), (16, 4, [4, 16]), (256, 32, [32, 64, 256]), (32, 4, [4, 16, 32])],
)
def test_widths_are_multiples_of_the_group_that_divide_the_channels(channels, group, expected):
    assert convolutions.widths(channels, group) == expected


def test_both_rounds_together_try_every_way_once():
    first, rest = (convolutions.ways_to_try(64, 8, first) for first in (True, False))
    assert len({*first, *rest}) == len(first) + len(rest) == 3 * 2 * 4
    assert len(first) == 2 * 4 + 1


def test_no_shape_has_fewer_channels_than_a_group_and_the_finest_come_first():
    names = list(convolutions.jobs(context(tiny=False)))
    assert names[:5] == [
        "64 ch, 32 px, g_s=8",
        "128 ch, 16 px, g_s=8",
        "256 ch, 8 px, g_s=8",
        "256 ch, 4 px, g_s=8",
        "64 ch, 32 px, dense",
    ]
    assert len(names) == len(set(names))
    assert "16 ch, 32 px, g_s=32" not in names
    assert [f"{name}, rest" for name in names[: len(names) // 2]] == names[len(names) // 2 :]


def test_the_fastest_way_of_each_type_is_in_the_row():
    (job, *_) = convolutions.jobs(context(tiny=True)).values()
    row = job()
    best = min((way for way in row["ways"] if way[0] == "fp32"), key=lambda way: way[4])
    assert row["fp32"] == f"{best[4]:g} us: {best[1]}, width {best[2]}"
    for way in row["ways"]:
        assert way[3] > 0
        assert way[4] > 0
