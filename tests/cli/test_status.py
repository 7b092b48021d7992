"""mgnas status: where a search stands."""

import re

from mgnas.search.data.dataset import Dataset


def test_counts_failures_and_the_front_are_shown(command, run):
    code, out, _ = command("status", run.path)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "5 of 8 trials complete, 1 running, 0 paused, 1 failed, 1:15 searched"
    assert lines[1] == "Pareto front: 4 networks"
    accuracies = [re.search(r"(\d+\.\d\d) %  trial (\d)", line).groups() for line in lines[2:6]]
    assert accuracies == [("80.00", "0"), ("90.00", "2"), ("95.00", "3"), ("96.00", "4")]
    assert lines[6] == "trial 5 failed: <b>& loss became nan"
    assert lines[7] == f"Nothing is searching there now; continue with: mgnas resume {run.path}"


def test_who_is_searching_is_named(command, run):
    with run.lock:
        _, out, _ = command("status", run.path)
    assert re.match(r"Searching there now: process \d+ on ", out.splitlines()[-1])


def test_the_share_of_the_largest_class_is_shown_to_compare_with(command, run, numbered):
    images = numbered([99, 1])
    run.check_data(Dataset(images, images, None, ("cat\x1b[2J", "dog")))
    _, out, _ = command("status", run.path)
    assert "Largest class: cat\\x1b[2J, 99.00 % of the validation images" in out.splitlines()
