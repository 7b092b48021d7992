import shutil

from mgnas.reports.analysis.run_data import distinct_names, load_run_data
from mgnas.search.storage.run_directory import RunDirectory


def test_everything_that_is_known_of_a_run(run, retrained_trial, remember_latencies):
    remember_latencies(run, except_for=(4,))
    data = load_run_data(run, latency_seconds=600)
    assert [trial.number for trial in data.finished] == [0, 1, 2, 3, 4]
    assert [trial.number for trial in data.front] == [0, 2, 3, 4]
    measured = data.latencies.pop(4)
    assert measured[1] > 0
    assert measured[32] > 0
    assert data.latencies == {0: {1: 1, 32: 8}, 2: {1: 3, 32: 24}, 3: {1: 4, 32: 32}}
    assert data.expected == {}  # Five complete trials are too few.
    assert {number: network.accuracies for number, network in data.retrained.items()} == {2: (0.91, 0.93)}
    assert (data.name, data.dataset, data.elapsed) == (run.path.name, "digits", 75.0)


def test_no_time_is_no_latency(run):
    assert load_run_data(run, latency_seconds=0).latencies == {}


def test_runs_of_the_same_name_are_called_by_their_parent_folders_too(run, tmp_path):
    other = RunDirectory(shutil.copytree(run.path, tmp_path / "elsewhere" / run.path.name))
    third = RunDirectory(shutil.copytree(run.path, tmp_path / "third"))
    names = distinct_names([load_run_data(directory, 0) for directory in (run, other, third)])
    assert names == [f"runs/{run.path.name}", f"elsewhere/{run.path.name}", "third"]
