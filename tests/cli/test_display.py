"""The live view: what it shows of a run with known trials."""

import io

import pytest
from rich.console import Console

from mgnas.cli.display import LiveDisplay, make_display, status_lines
from mgnas.progress import PlainDisplay
from mgnas.search.tuner.controller import SearchProgress


def test_the_live_view_counts_trials_and_shows_the_front(run):
    records = run.load()
    progress = SearchProgress(8, records, 2, 75.0)
    console = Console(file=io.StringIO(), width=100)
    console.print(LiveDisplay(progress, console).render())
    text = console.file.getvalue()
    assert "5 of 8 complete   1 running   0 paused   1 failed   1:15 elapsed   about 0:01 left" in text
    assert "Pareto front: 4 networks, best 96.00 %" in text
    rows = [line.split()[:3] for line in text.splitlines()[-5:-1]]
    weights = [f"{records[number].weights:,}" for number in (0, 2, 3, 4)]
    assert rows == [[w, a, "%"] for w, a in zip(weights, ("80.00", "90.00", "95.00", "96.00"), strict=True)]


def test_into_a_pipe_go_plain_lines(run):
    assert isinstance(make_display(SearchProgress(8, run.load(), 2, 75.0)), PlainDisplay)


def test_without_a_complete_trial_there_is_no_front():
    assert status_lines([], 8, 3700) == [
        "0 of 8 trials complete, 0 running, 0 paused, 0 failed, 1:01:40 searched",
    ]


@pytest.mark.parametrize(
    ("balanced", "shown"),
    [
        ((0.80, 0.90, 0.95, 0.96), ["weights   90.00 %  trial 2", "weights   96.00 %  trial 4"]),
        ((None, None, None, None), ["weights   90.00 %  trial 2", "weights   96.00 %  trial 4"]),
        (
            (0.80, 0.50, None, 0.96),
            ["90.00 %  (balanced  50.00 %)  trial 2", "95.00 %  (balanced      - %)  trial 3"],
        ),
        ((0.80, 0.90, 0.95, 0.0), ["96.00 %  (balanced   0.00 %)  trial 4"]),
    ],
)
def test_the_balanced_accuracy_is_shown_where_it_differs(run, balanced, shown):
    records = run.load()
    for number, value in zip((0, 2, 3, 4), balanced, strict=True):
        records[number].balanced_accuracy = value
    text = "\n".join(status_lines(records, 8, 75.0))
    for part in shown:
        assert part in text
