"""What the tests of several packages share: hypothesis' profile, and a run directory with known trials."""

import os
from pathlib import Path

# For torch, which reads it when it is imported, here and in what tests start: on several threads the sums of a network
# come out otherwise, and tiny networks are no faster; threads would wait for each other, and very long where other
# processes take the cores. For Ray: its workers would give way to whatever else the machine does.
os.environ.update(OMP_NUM_THREADS="1", RAY_worker_niceness="0")

import pytest
import torch
from hypothesis import HealthCheck, settings

from mgnas.search.run_directory import RunDirectory
from mgnas.search.search_config import SearchConfig
from mgnas.search.trial_record import TrialRecord, TrialState

# Derandomised, so that a run says the same twice; no deadline and no speed check, because machines are shared.
settings.register_profile("mgnas", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mgnas")

CONFIG = """
name: known
data: {name: digits}
space:
  fixed: {family: mgnet, sharing: AB}
  parameters:
    base_channels: [[4], [8], [12], [16], [20], [24], [28], [32]]
training: {epochs: 3}
search: {trials: 8}
final_training: {epochs: 1, batch_size: 256}
"""


def finished_record(space, number, label, accuracy, epochs=3):
    """A complete trial whose curve rises to `accuracy`."""
    candidate = space.candidate({"base_channels": label})
    curve = [round(accuracy * (epoch + 1) / epochs, 6) for epoch in range(epochs)]
    return TrialRecord(number, candidate, number, TrialState.COMPLETE, curve, seconds=1.0, finished=10.0 * number)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Converted data sets of the tests, and of the processes they start, do not end up in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MGNAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    """Workers under test change the number of threads."""
    yield
    torch.set_num_threads(1)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "known.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def run(tmp_path: Path, config_file: Path) -> RunDirectory:
    """Six trials: 8 channels dominate 12; 4, 8, 16 and 32 are on the front; 24 has failed, 28 is running."""
    directory = RunDirectory.create(SearchConfig.load(config_file), tmp_path / "runs")
    space = directory.space
    accuracies = {"4": 0.80, "12": 0.88, "8": 0.90, "16": 0.95, "32": 0.96}
    records = [finished_record(space, i, label, accuracy) for i, (label, accuracy) in enumerate(accuracies.items())]
    failed = TrialRecord(
        5, space.candidate({"base_channels": "24"}), 5, TrialState.FAILED, reason="<b>& loss became nan"
    )
    running = TrialRecord(6, space.candidate({"base_channels": "28"}), 6, TrialState.RUNNING, [0.999])
    for record in [*records, failed, running]:
        directory.study.start(record)
        directory.study.epoch(record) if record.curve else None
        if record.state is not TrialState.RUNNING:
            directory.study.end(record)
    directory.elapsed = 75.0
    return directory
