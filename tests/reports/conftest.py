"""What tests of several rooms of reports share: a trained network, and complete trials of known accuracy."""

import json
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

from mgnas.models.config import ArchitectureConfig
from mgnas.reports.deploy.final_training import FinalTraining, train_fully
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.trial_record import CompletedTrial, TrialRecord, TrialState
from mgnas.space.candidate import Candidate, TrainingSettings
from mgnas.space.parameter import Parameter

SMALL = FinalTraining(
    ArchitectureConfig(family="mgnet", base_channels=(8, 16), in_channels=1),
    TrainingSettings(epochs=2, batch_size=32),
    DataSettings(name="digits"),
)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """A folder that `mgnas train` wrote: a small MgNet on digits."""
    folder = tmp_path_factory.mktemp("small") / "model"
    train_fully(SMALL, folder, "cpu")
    return folder


@pytest.fixture
def folder(small_model, tmp_path):
    """A copy of the small model's folder, for tests that write into it."""
    return Path(shutil.copytree(small_model, tmp_path / "model"))


@pytest.fixture(scope="session")
def images():
    """The test images of digits: 360 of 8 x 8 pixels."""
    return load_dataset(SMALL.data).test.images


@pytest.fixture
def new_environment(tmp_path):
    """Requirements -> the Python of a new environment that has them; with `on_top`, also what this one has."""

    def make(*requirements, on_top=False):
        folder = tmp_path / "environment"
        venv.create(folder, with_pip=True)
        python = folder / "bin" / "python"
        if on_top:
            site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
            (site / "below.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        command = [python, "-m", "pip", "install", "--quiet", "--timeout", "20", *requirements]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if "from versions: none" in run.stderr:
            pytest.skip(f"pip reaches no index that has {' '.join(requirements)}")
        assert run.returncode == 0, run.stderr
        return python

    return make


@pytest.fixture(scope="session")
def add_full_trainings():
    """run -> trial 2 (8 channels), whose network two full trainings brought to 91 and 93 % on the test images."""

    def add(run):
        record = run.load()[2]
        folder = run.path / "retrained" / record.candidate.id
        for seed, accuracy in enumerate((0.91, 0.93)):
            (folder / f"seed-{seed}").mkdir(parents=True)
            (folder / f"seed-{seed}" / "result.json").write_text(json.dumps({"test_accuracy": accuracy}))
        choice = {"trial": record.number, "validation_accuracy": record.accuracy}
        (folder / "choice.json").write_text(json.dumps(choice))
        return record.completed

    return add


@pytest.fixture
def retrained_trial(run, add_full_trainings):
    """Trial 2 of the run, after `add_full_trainings`."""
    return add_full_trainings(run)


@pytest.fixture(scope="session")
def reported_run(_known_run, tmp_path_factory, remember_latencies, add_full_trainings):
    """A copy of the known run with latencies, full trainings and a report, for tests that only read it."""
    from mgnas.reports.report import write_report
    from mgnas.search.storage.run_directory import RunDirectory

    run = RunDirectory(shutil.copytree(_known_run, tmp_path_factory.mktemp("reported") / "runs" / _known_run.name))
    remember_latencies(run)
    add_full_trainings(run)
    write_report(run)
    return run


@pytest.fixture(scope="session")
def parameters():
    """Four searched settings, the last of which has no weights."""
    return [
        Parameter.from_yaml("base_channels", [[16], [32], [64]]),
        Parameter.from_yaml("group_size", [2, 4, 8]),
        Parameter.from_yaml("fully_coupled_channels", [4, 8]),
        Parameter.from_yaml("learning_rate", {"low": 0.01, "high": 0.1, "log": True}),
    ]


@pytest.fixture(scope="session")
def make_trials(parameters):
    """accuracy, count -> complete trials at random points; `accuracy` makes theirs from (candidate, rng)."""

    def make(accuracy, count: int = 90) -> list[CompletedTrial]:
        rng = np.random.default_rng(0)
        trials = []
        for number in range(count):
            values = {parameter.name: parameter.sample(rng) for parameter in parameters}
            settings = {parameter.name: parameter.decode(values[parameter.name]) for parameter in parameters[:3]}
            config = ArchitectureConfig(family="mgiad", **settings)
            training = TrainingSettings(learning_rate=values["learning_rate"])
            candidate = Candidate(config, training, 8, values, ("learning_rate",))
            trials.append(CompletedTrial(number, candidate, 0, (accuracy(candidate, rng),), 1.0, None))
        return trials

    return make


@pytest.fixture(scope="session")
def lucky_records():
    """Of twenty widths each is 1 point better than the one before, but trial 12 lies 4 points above its neighbours."""
    records = []
    for number in range(20):
        config = ArchitectureConfig(family="mgnet", base_channels=(4 + number,), in_channels=1)
        accuracy = 0.70 + 0.01 * number + (0.04 if number == 12 else 0.0)
        candidate = Candidate(config, TrainingSettings(), 8, {"base_channels": str(number)})
        records.append(TrialRecord(number, candidate, 0, TrialState.COMPLETE, [accuracy]))
    return records
