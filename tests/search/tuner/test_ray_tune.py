"""The search through real Ray: results, failures of every kind, workers that die."""

import os
from pathlib import Path

import optuna
import pytest
import ray.cloudpickle
from ray import tune

from mgnas.errors import UserError
from mgnas.search.config import SearchConfig
from mgnas.search.storage.journal import Journal
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.trial_record import TrialState
from mgnas.search.tuner import ray_tune
from mgnas.search.tuner.ray_tune import run_search
from mgnas.search.tuner.worker import TrialWorker

CONFIG = """
data: {name: digits, train_images: 200}
space:
  fixed: {family: mgnet}
  parameters:
    base_channels: [[4], [6], [8], [10], [4, 8], [8, 8]]
    smoothing_steps: [1, 2]
training: {epochs: 2, batch_size: 64}
search: {trials: 8, sampler: random}
resources: {workers: 2}
"""


class UnluckyWorker(TrialWorker):
    """Meets with every kind of failure, by the trial's number."""

    def step(self):
        number = self.task.number
        result = super().step()
        if number == 1:
            return result | {"curve": [float("nan")]}
        if number == 2:
            raise ValueError("a bug in the worker")
        if number == 3:
            os._exit(1)
        if number == 4 and len(result["curve"]) == 1:
            marker = Path(self.task.checkpoint).with_suffix(".died")
            if not marker.exists():
                marker.touch()
                os._exit(1)
        if number == 5:
            return result | {"failure": "no memory left"}
        return result


@pytest.fixture
def new_run(tmp_path):
    def make(**changes):
        path = tmp_path / "small.yaml"
        path.write_text(CONFIG)
        return RunDirectory.create(SearchConfig.load(path).override(**changes), tmp_path / "runs")

    return make


@pytest.fixture(autouse=True)
def _pickle_workers_of_this_file():
    import sys

    module = sys.modules[UnluckyWorker.__module__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(module)


def test_search_trains_every_trial_once(new_run, logged):
    run = new_run(gpus_per_trial="auto")
    progress = run_search(run, lister=lambda cluster: [])
    records = run.load()
    assert RunDirectory(run.path).config.resources.gpus_per_trial == 0.0
    assert [record.state for record in records] == [TrialState.COMPLETE] * 8
    assert len({record.candidate.id for record in records}) == 8
    assert all(len(record.curve) == 2 and 0 < record.accuracy <= 1 for record in records)
    assert all(record.seconds > 0 for record in records)
    assert 0 < max(record.finished for record in records) <= run.elapsed
    assert progress.count(TrialState.COMPLETE) == 8
    assert list((run.path / "trials").iterdir()) == []
    for record in records:
        curves = logged(run.path / "tensorboard" / f"{record.number:05d}")
        assert [value for _, value in curves["accuracy"]] == pytest.approx(record.curve)
        assert len(curves["loss"]) == 2
    assert Journal(run.path / "journal.jsonl").read(run.space) == records
    study = optuna.load_study(study_name="mgnas", storage=f"sqlite:///{run.path / 'study.db'}")
    assert [trial.values for trial in study.trials] == [[record.accuracy, record.weights] for record in records]


def test_failures_are_recorded_and_the_search_goes_on(new_run):
    run = new_run()
    run_search(run, worker=UnluckyWorker)
    records = run.load()
    reasons = {record.number: record.reason for record in records if record.state is TrialState.FAILED}
    assert set(reasons) == {1, 2, 3, 5}, reasons
    assert "nan" in reasons[1]
    assert "a bug in the worker" in reasons[2]
    assert reasons[3].startswith("the worker died: The actor died unexpectedly")
    assert reasons[5] == "no memory left"
    # The worker of trial 4 died once, after its first epoch; its retry continued from the checkpoint.
    assert len(records[4].curve) == 2


class TrialsAtTheEnd(tune.Callback):
    """Tune's own trials when its experiment is over."""

    def on_experiment_end(self, trials, **info):
        self.trials = trials


def test_search_ends_when_the_space_is_exhausted(new_run, monkeypatch):
    run, end = new_run(trials=100), TrialsAtTheEnd()
    monkeypatch.setattr(ray_tune, "make_loggers", lambda *args: [end])
    progress = run_search(run)
    # Of ended trials Tune keeps no statistics, as they would fill the memory of a long search.
    assert [trial.metric_analysis for trial in end.trials] == [{}] * len(progress.records)
    assert all(trial.last_result["curve"] for trial in end.trials)
    assert len(progress.records) == len(list(run.space.enumerate())) < 100
    assert progress.count(TrialState.COMPLETE) == len(progress.records)


def test_trials_that_need_more_than_there_is_are_refused(new_run):
    run = new_run(gpus_per_trial=64.0)
    with pytest.raises(UserError, match="a trial wants 1 CPU, 64 GPU, but there are"):
        run_search(run)
