"""Pausing through real Ray: a paused trial leaves its worker, its checkpoint stays, and it goes on where it stopped."""

import json
import sys
from pathlib import Path

import optuna
import pytest
import ray.cloudpickle

from mgnas.search.config import SearchConfig
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.strategy import factory
from mgnas.search.strategy.pausing import PausingRule
from mgnas.search.trial_record import TrialState
from mgnas.search.tuner.ray_tune import run_search

EPOCHS = 4
GOOD = 8
CONFIG = f"""
data: {{name: digits}}
space:
  fixed: {{family: mgnet}}
  parameters: {{base_channels: [[4], [6], [8], [10], [12], [14], [16], [18], [20], [22], [24], [26], [28], [30]]}}
training: {{epochs: {EPOCHS}}}
search: {{trials: 14, sampler: random, stopping: pareto}}
resources: {{workers: 2}}
"""


class ScriptedWorker:
    """The first trials learn, the later ones hardly; the epochs that were run are counted in the checkpoint."""

    def __init__(self, task) -> None:
        self.number, self.checkpoint = task.number, Path(task.checkpoint)

    def step(self):
        done = json.loads(self.checkpoint.read_text()) if self.checkpoint.exists() else []
        share = (len(done) + 1) / EPOCHS
        rise = 0.6 + 0.01 * self.number if self.number < GOOD else 0.05
        done.append(0.2 + rise * share)
        self.checkpoint.write_text(json.dumps(done))
        finished = len(done) == EPOCHS
        return {"curve": done, "loss": 1.0, "seconds": float(len(done)), "finished": finished, "failure": None}


class LetsAllGo(PausingRule):
    """Resumes every paused trial."""

    def pause(self, record, records):
        return None

    def resume(self, records, last, spare):
        return next(((record, "why not") for record in records if record.state is TrialState.PAUSED), None)


@pytest.fixture(autouse=True)
def _pickle_workers_of_this_file():
    module = sys.modules[ScriptedWorker.__module__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.slow
def test_hopeless_trials_are_paused_and_can_go_on(tmp_path, monkeypatch):
    (tmp_path / "paused.yaml").write_text(CONFIG)
    run = RunDirectory.create(SearchConfig.load(tmp_path / "paused.yaml"), tmp_path / "runs")
    run_search(run, worker=ScriptedWorker)
    records = run.load()
    paused = [record for record in records if record.state is TrialState.PAUSED]
    assert paused, [record.state for record in records]
    for record in records:
        rivals = [other for other in records if other.accuracy is not None and other.weights <= record.weights]
        hopeless = record.number >= GOOD and any(other.number < GOOD for other in rivals)
        assert (record.state is TrialState.PAUSED) is hopeless
    for record in paused:
        assert len(record.curve) < EPOCHS
        assert record.accuracy is None
        assert record.decisions[-1].startswith(f"epoch {len(record.curve)}: paused, ")
        assert record.seconds == len(record.curve)
        assert json.loads(run.checkpoint(record.number).read_text()) == record.curve
    study = optuna.load_study(study_name="mgnas", storage=f"sqlite:///{run.path / 'study.db'}")
    waiting = [trial.number for trial in study.trials if trial.state is optuna.trial.TrialState.WAITING]
    assert waiting == [record.number for record in paused]

    monkeypatch.setattr(factory, "make_pausing_rule", lambda *arguments: LetsAllGo())
    run_search(run, worker=ScriptedWorker)
    again = {record.number: record for record in run.load()}
    assert all(record.state is TrialState.COMPLETE for record in again.values())
    for record in paused:
        later = again[record.number]
        assert later.curve[: len(record.curve)] == record.curve
        assert later.decisions == [*record.decisions, f"epoch {len(record.curve)}: resumed, why not"]
        assert not run.checkpoint(record.number).exists()
