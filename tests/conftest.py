"""What the tests of several packages share: hypothesis' profile, and a run directory with known trials.

Fixtures import what needs Optuna or Ray when they are first used, so that tests of networks and of training run
on machines without them.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

# For torch, which reads it when it is imported, here and in what tests start: on several threads the sums of a network
# come out otherwise, and tiny networks are no faster; threads would wait for each other, and very long where other
# processes take the cores. For Ray: its workers would give way to whatever else the machine does.
os.environ.update(OMP_NUM_THREADS="1", RAY_worker_niceness="0")

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, settings

from mgnas.errors import UserError
from mgnas.models import ArchitectureConfig, layers, mgiad, shared_weights, smoothers
from mgnas.search.data.images import ImageDataset
from mgnas.search.trial_record import ExpectedGain, TrialRecord, TrialState
from mgnas.space import TrainingSettings

if TYPE_CHECKING:
    from mgnas.search.storage.run_directory import RunDirectory
    from mgnas.space import SearchSpace

# No deadline and no speed check, because machines are shared. The fast profile is derandomised, so that every run has
# the same examples. The slow one has new and more examples in every run, and prints how to reproduce a failure.
SHARED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fast", derandomize=True, **SHARED)
settings.register_profile("slow", max_examples=300, print_blob=True, **SHARED)
settings.load_profile("fast")


def pytest_configure(config: pytest.Config) -> None:
    """Load the slow profile if slow tests are selected, as by `-m slow` or `-m 'slow or not slow'`."""
    if "slow" in config.option.markexpr.replace("not slow", ""):
        settings.load_profile("slow")


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
    """What the tests, and the processes they start, keep for a user does not end up in the user's own folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MGNAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
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


@pytest.fixture(scope="session")
def _known_run(tmp_path_factory) -> Path:
    """The run directory of which each test has its own copy."""
    from mgnas.search.config import SearchConfig
    from mgnas.search.storage.run_directory import RunDirectory

    folder = tmp_path_factory.mktemp("known")
    (folder / "known.yaml").write_text(CONFIG)
    directory = RunDirectory.create(SearchConfig.load(folder / "known.yaml"), folder / "runs")
    space = directory.space
    accuracies = {"4": 0.80, "12": 0.88, "8": 0.90, "16": 0.95, "32": 0.96}
    records = [finished_record(space, i, label, accuracy) for i, (label, accuracy) in enumerate(accuracies.items())]
    failed = TrialRecord(
        5, space.candidate({"base_channels": "24"}), 5, TrialState.FAILED, reason="<b>& loss became nan"
    )
    running = TrialRecord(6, space.candidate({"base_channels": "28"}), 6, TrialState.RUNNING, [0.999])
    for record in [*records, failed, running]:
        directory.record_start(record)
        directory.record_epoch(record)
        if record.state is not TrialState.RUNNING:
            directory.record_end(record)
    directory.elapsed = 75.0
    directory.close()
    return directory.path


@pytest.fixture
def run(tmp_path: Path, _known_run: Path) -> RunDirectory:
    """Seven trials: 8 channels dominate 12; 4, 8, 16 and 32 are on the front; 24 has failed, 28 is running."""
    from mgnas.search.storage.run_directory import RunDirectory

    return RunDirectory(shutil.copytree(_known_run, tmp_path / "runs" / _known_run.name))


@pytest.fixture(scope="session")
def _lucky_run(tmp_path_factory) -> Path:
    """The run directory of which each test has its own copy."""
    from mgnas.search.config import SearchConfig
    from mgnas.search.storage.run_directory import RunDirectory

    config = yaml.safe_load(CONFIG)
    config["space"]["parameters"]["base_channels"] = [[width] for width in range(4, 24)]
    directory = RunDirectory.create(SearchConfig.from_mapping(config), tmp_path_factory.mktemp("runs"), "lucky")
    for number in range(20):
        accuracy = 0.70 + 0.01 * number + (0.04 if number == 12 else 0.0)
        record = finished_record(directory.space, number, str(4 + number), accuracy)
        if number > 16:
            record.gain = ExpectedGain(20, 0.002)
        directory.record_start(record)
        directory.record_epoch(record)
        directory.record_end(record)
    directory.close()
    return directory.path


@pytest.fixture
def lucky_run(tmp_path: Path, _lucky_run: Path) -> RunDirectory:
    """Twenty complete trials: each width is 1 point better than the one before; trial 12 lies 4 points above that.

    After the last three, 20 more trials were expected to bring 0.2 %.
    """
    from mgnas.search.storage.run_directory import RunDirectory

    return RunDirectory(shutil.copytree(_lucky_run, tmp_path / "runs" / _lucky_run.name))


@pytest.fixture(scope="session")
def remember_latencies():
    """run -> its networks are in its file of latencies, so that they are not measured, which takes 2 s for each.

    Trial n takes n + 1 ms for one image, and 8 times that for 32. `except_for` names trials that the file leaves out.
    """
    from mgnas.reports.deploy.latency.measure import BATCHES
    from mgnas.reports.deploy.latency.meter import machine
    from mgnas.reports.deploy.latency.untrained import network_key

    def remember(run: RunDirectory, except_for: tuple[int, ...] = ()) -> None:
        records = [record for record in run.load() if record.number not in except_for]
        milliseconds = {network_key(record.candidate): [record.number + 1, 8 * record.number + 8] for record in records}
        content = {"machine": machine(), "batches": BATCHES, "milliseconds": milliseconds}
        (run.path / "latency.json").write_text(json.dumps(content))

    return remember


@pytest.fixture
def ended_run(run: RunDirectory) -> RunDirectory:
    """The same run, whose seventh and last trial has failed."""
    (record,) = (record for record in run.load() if record.state is TrialState.RUNNING)
    record.state, record.reason = TrialState.FAILED, "given up"
    run.record_end(record)
    return run


@pytest.fixture(autouse=True)
def _quiet_optuna():
    """Of all the studies made here, none needs to say so."""
    try:
        import optuna
    except ModuleNotFoundError:
        yield
        return
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture(scope="session")
def refusal():
    """call -> the message of the UserError that it must raise, which must be one line."""

    def message_of(call) -> str:
        with pytest.raises(UserError) as caught:
            call()
        message = str(caught.value)
        assert len(message.splitlines()) == 1, message
        return message

    return message_of


@pytest.fixture(scope="session")
def new_path(tmp_path_factory):
    """name -> a path that no test, and no example of a property test, has used before."""
    numbers = itertools.count()

    def make(name: str):
        folder = tmp_path_factory.getbasetemp() / f"unused-{next(numbers)}"
        folder.mkdir()
        return folder / name

    return make


@pytest.fixture(scope="session")
def write_npz(new_path):
    """arrays -> a new npz file with them."""

    def write(**arrays) -> str:
        path = str(new_path("images.npz"))
        np.savez(path, **arrays)
        return path

    return write


@pytest.fixture(scope="session")
def numbered():
    """Images per class -> uint8 images n x channels x size x size with mixed labels, image i showing its number i.

    The first pixel is i // 256 and the second i % 256; all others are noise.
    """

    def make(counts, size: int = 8, channels: int = 1) -> ImageDataset:
        rng = np.random.default_rng(0)
        labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        images = rng.integers(0, 256, (len(labels), channels, size, size), dtype=np.uint8)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(len(labels)), 256)
        return ImageDataset(images, labels)

    return make


@pytest.fixture(scope="session")
def tiny():
    """The smallest useful network, for 8 x 8 images of one channel; keywords change it."""

    def make(**changes) -> ArchitectureConfig:
        base = {"family": "mgnet", "base_channels": (4,), "smoothing_steps": 1, "in_channels": 1}
        return ArchitectureConfig(**base | changes)

    return make


@pytest.fixture
def gpu_form(monkeypatch):
    """Networks take the form that a GPU trains."""
    for module in (layers, mgiad, shared_weights, smoothers):
        monkeypatch.setattr(module, "trains_on_cpu", lambda *_: False)


@pytest.fixture(scope="session")
def make_space():
    """parameters, limits -> a space over images of 8 x 8 pixels and 10 classes, trained for 2 epochs."""

    def make(parameters, limits=None, fixed=None, epochs: int = 2) -> SearchSpace:
        from mgnas.space import SearchSpace

        mapping = {"parameters": parameters, "limits": limits or {}, "fixed": fixed or {}}
        return SearchSpace(mapping, TrainingSettings(epochs=epochs), num_classes=10, in_channels=1, image_size=8)

    return make


@pytest.fixture(scope="session")
def small_space(make_space):
    """72 points, of which many are invalid (4 of 6 channels a group), the same or too heavy: 17 candidates are left."""
    parameters = {
        "family": ["mgnet", "mgiad"],
        "base_channels": [[4], [6], [4, 8]],
        "smoothing_steps": {"low": 1, "high": 2},
        "sharing": ["A", "AB"],
        "group_size": [2, 3, 4],
    }
    return make_space(parameters, {"max_weights": 1500}, {"fully_coupled_channels": 2})


@pytest.fixture(scope="session")
def wide_space(make_space):
    """960 points, nearly all of them different networks."""
    parameters = {
        "base_channels": [[4, 8], [4, 16], [8, 8], [8, 16], [8, 32]],
        "channel_scaling": [1, 2, 3, 4, 5, 6, 7, 8],
        "smoothing_steps": {"low": 1, "high": 8},
        "sharing": ["A", "AB", "none"],
    }
    return make_space(parameters, fixed={"family": "mgnet"})


@pytest.fixture
def search_file(tmp_path):
    """Sections in place of the default ones (None: left out) -> a new YAML file with a small search on digits."""

    def write(file: str = "small.yaml", **sections):
        content = {
            "name": "small",
            "data": {"name": "digits"},
            "space": {
                "fixed": {"family": "mgnet", "base_channels": [4]},
                "parameters": {"smoothing_steps": [1, 2], "sharing": ["A", "AB"]},
            },
            "training": {"epochs": 2, "batch_size": 256},
            "search": {"sampler": "random", "trials": 3},
        }
        content = {key: value for key, value in (content | sections).items() if value is not None}
        path = tmp_path / file
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def small_search(search_file):
    """Sections in place of the default ones -> the search that they describe."""
    from mgnas.search.config import SearchConfig

    return lambda **sections: SearchConfig.load(search_file(**sections))


@pytest.fixture
def command(capsys):
    """Runs a command; returns (exit code, standard output, standard error)."""
    from mgnas.cli.main import main

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
