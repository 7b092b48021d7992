import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.errors import UserError
from mgnas.reports.analysis.constraints import Constraints
from mgnas.reports.analysis.int8 import Int8Network, int8_front, int8_networks, select_int8
from mgnas.reports.deploy.retraining import load_retrained
from mgnas.reports.report import write_report


def quantised(folder, accuracy=0.9, size=2000, kept=True, **changes):
    facts = {
        "accuracy": accuracy,
        "float_accuracy": 0.92,
        "size": size,
        "float_size": 5000,
        "images": 360,
        "kept": kept,
    }
    (folder / "exports.json").write_text(json.dumps({"int8": facts | changes}))


@pytest.fixture
def seeds(run, retrained_trial):
    return [run.path / "retrained" / retrained_trial.candidate.id / f"seed-{seed}" for seed in (0, 1)]


def networks_of(run):
    completed = [record.completed for record in run.load() if record.completed]
    return int8_networks(completed, {full.trial: full for full in load_retrained(run)})


def networks(*points):
    return [Int8Network(None, accuracy, 0.9, size, 9999, 1, "test", None) for size, accuracy in points]


def sizes(front):
    return [network.size for network in front]


def test_seeds_are_averaged_and_the_largest_file_counts(run, retrained_trial, seeds):
    assert networks_of(run) == []
    quantised(seeds[0], 0.90, 2000)
    quantised(seeds[1], 0.94, 2100)
    (network,) = networks_of(run)
    assert (network.trial, network.size, network.seeds, network.part) == (retrained_trial, 2100, 2, "test")
    assert (network.accuracy, network.folder) == (pytest.approx(0.92), seeds[1])


def test_what_was_not_kept_or_not_quantised_does_not_count(run, seeds):
    quantised(seeds[0], 0.5, kept=False)
    (seeds[1] / "exports.json").write_text(json.dumps({"onnx": {}}))
    assert networks_of(run) == []


@pytest.mark.parametrize(
    "changes",
    [{"accuracy": "high"}, {"accuracy": float("nan")}, {"accuracy": 2}, {"size": 0}, {"kept": 1}, {"size": None}],
)
def test_damaged_measurements_are_one_line(run, seeds, refusal, changes):
    quantised(seeds[0], **changes)
    assert refusal(lambda: networks_of(run)) == f"{seeds[0] / 'exports.json'}: is damaged; delete it and export again"


def test_the_front_is_a_staircase_in_bytes():
    front = int8_front(networks((300, 0.9), (100, 0.8), (200, 0.8), (100, 0.7), (400, 0.9), (500, 0.95)))
    assert [(network.size, network.accuracy) for network in front] == [(100, 0.8), (300, 0.9), (500, 0.95)]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), min_size=1))
def test_no_network_beats_one_of_the_front_and_each_other_one_is_beaten(points):
    front = {(network.size, network.accuracy) for network in int8_front(networks(*points))}
    for size, accuracy in set(points):
        beaten = any(s <= size and a >= accuracy and (s, a) != (size, accuracy) for s, a in points)
        assert ((size, accuracy) in front) == (not beaten)


def test_preferences_and_limits():
    given_networks = networks((100, 0.80), (200, 0.94), (1000, 0.95))
    assert select_int8(given_networks).network.size == 200
    assert select_int8(given_networks, prefer="accuracy").network.size == 1000
    assert select_int8(given_networks, prefer="weights").network.size == 100
    assert sizes(select_int8(given_networks, Constraints(max_size=999)).front) == [100, 200]
    assert select_int8(given_networks, Constraints(min_accuracy=0.94), "weights").network.size == 200
    with pytest.raises(UserError, match=r"^--max-size: no int8 network has at most 99 bytes; the least is 100$"):
        select_int8(given_networks, Constraints(max_size=99))
    with pytest.raises(UserError, match=r"^--min-accuracy: no int8 network reaches 0.99; the best has 0.9500$"):
        select_int8(given_networks, Constraints(min_accuracy=0.99))
    with pytest.raises(UserError, match=r"^--prefer expected: is known of trials of the search"):
        select_int8(given_networks, prefer="expected")


def test_the_report_shows_int8_networks_if_there_are_any(run, seeds, tmp_path):
    assert "int8 networks" not in write_report(run, tmp_path / "before", 0).read_text()
    quantised(seeds[0], 0.9012, 2345)
    page = write_report(run, tmp_path / "after", 0).read_text()
    assert "int8 networks" in page
    assert "2,345" in page
    assert "90.12" in page
