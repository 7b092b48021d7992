"""Searches on GPUs, with a real Ray that believes to have some. The workers here do not train."""

import logging
import os
import sys
import time
from pathlib import Path

import pytest
import ray.cloudpickle

from mgnas.launch import resumed_run
from mgnas.search.config import SearchConfig
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.trial_record import TrialState
from mgnas.search.tuner.gpu_share import Gpu, GpuNode
from mgnas.search.tuner.ray_tune import run_search

CONFIG = """
data: {name: digits}
space:
  fixed: {family: mgnet}
  parameters: {base_channels: [[4], [8], [12], [16], [4, 8], [8, 8]]}
training: {epochs: 1, batch_size: 64}
search: {trials: 6, sampler: random, loggers: []}
"""
NODE = GpuNode("here", 8, (Gpu("NVIDIA H100", 80 * 2**30),) * 2, mps=True)
ILLEGAL = "RuntimeError: CUDA error: an illegal memory access was encountered"
BROKEN = {"curve": [], "loss": None, "seconds": 0.0, "finished": False, "failure": ILLEGAL, "broken": True}


class NotingWorker:
    """Notes each trial with its process and its GPUs, and takes a moment."""

    def __init__(self, task):
        self.task = task

    def step(self):
        time.sleep(0.5)
        self.note("notes.txt", f"{os.getpid()} {self.task.gpus}")
        return {"curve": [0.5], "loss": 1.0, "seconds": 0.5, "finished": True, "failure": None}

    def note(self, file: str, line: str) -> None:
        with (Path(self.task.checkpoint).parents[1] / file).open("a") as notes:
            notes.write(f"{self.task.number} {line}\n")


class FailingGpuWorker(NotingWorker):
    """The first attempt of trial 1, and every attempt of trial 3, break CUDA for good in their process."""

    def step(self):
        number, process = self.task.number, sys.modules["os"]
        first = not (Path(self.task.checkpoint).parents[1] / "broken.txt").exists()
        if hasattr(process, "cuda_is_broken") or number == 3 or (number == 1 and first):
            process.cuda_is_broken = True
            self.note("broken.txt", str(os.getpid()))
            return BROKEN
        return super().step()


@pytest.fixture(autouse=True)
def _two_gpus(monkeypatch):
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 2, "CPU": 8}')
    module = sys.modules[NotingWorker.__module__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    path = tmp_path / "shared.yaml"
    path.write_text(CONFIG)
    return RunDirectory.create(SearchConfig.load(path), tmp_path / "runs")


def notes(run: RunDirectory, file: str = "notes.txt") -> list[list[str]]:
    return [line.split() for line in (run.path / file).read_text().splitlines()]


def states(run: RunDirectory) -> list[TrialState]:
    return [record.state for record in run.load()]


def search(run: RunDirectory, worker: type = NotingWorker) -> None:
    run_search(run, worker=worker, lister=lambda cluster: [NODE])


def test_trials_share_the_gpus_and_the_search_stays_on_them(run, caplog, monkeypatch, refusal):
    caplog.set_level(logging.INFO, "mgnas.search.tuner.gpus")
    search(run)
    assert states(run) == [TrialState.COMPLETE] * 6
    # Six trials on two GPUs: three share one, although four would fit.
    assert caplog.messages == ["2 GPUs (NVIDIA H100, 80 GiB): 3 trainings share one"]
    assert {gpus for _, _, gpus in notes(run)} == {"0.3333"}
    stored = RunDirectory(run.path)
    assert (stored.config.resources.gpus_per_trial, stored.trained_on_gpus) == (0.3333, True)

    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 0, "CPU": 8}')
    with resumed_run(run.path, trials=7) as resumed:
        message = refusal(lambda: search(resumed))
    assert message.startswith("resources: a trial wants 1 CPU, 0.3333 GPU, but there are 8 CPU, 0 GPU; ")
    assert message.endswith("train on CPUs with --gpus-per-trial 0")
    with resumed_run(run.path, trials=7, gpus_per_trial=2) as resumed:
        refusal(lambda: search(resumed))
    stored = RunDirectory(run.path).config
    assert (stored.search.trials, stored.resources.gpus_per_trial) == (6, 0.3333), "what was refused is not stored"
    with resumed_run(run.path, gpus_per_trial=0) as forced:
        assert forced.trained_on_gpus is False
        assert forced.config.resources.gpus_per_trial == 0.0


@pytest.mark.slow
def test_a_search_on_cpus_stays_there_until_gpus_are_forced(run, caplog):
    caplog.set_level(logging.INFO, "mgnas.search.tuner.gpus")
    run.change_config(run.config.override(gpus_per_trial=0))
    run.store_config()
    for trials, forced, expected in ((3, None, 0.0), (6, "auto", 0.3333)):
        with resumed_run(run.path, trials=trials, gpus_per_trial=forced) as resumed:
            search(resumed)
        stored = RunDirectory(run.path).config
        assert (stored.search.trials, stored.resources.gpus_per_trial) == (trials, expected)
    assert sorted((number, gpus) for number, _, gpus in notes(run)) == [
        *((str(number), "0.0") for number in range(3)),
        *((str(number), "0.3333") for number in range(3, 6)),
    ]
    assert caplog.messages == [
        "2 GPUs not used, because gpus_per_trial is 0; --gpus-per-trial auto changes that",
        "2 GPUs (NVIDIA H100, 80 GiB): 3 trainings share one",
    ]


@pytest.mark.slow
def test_a_process_whose_gpu_has_failed_is_replaced_before_the_next_trial(run):
    run.change_config(run.config.override(workers=1))
    run.store_config()
    search(run, FailingGpuWorker)
    failed = {record.number: record.reason for record in run.load() if record.state is TrialState.FAILED}
    assert failed == {3: f"the worker died: RuntimeError: the process can no longer use its GPU ({ILLEGAL})"}
    assert states(run).count(TrialState.COMPLETE) == 5
    # A process that has broken notes every trial that it is given. None was given a second one.
    broken = notes(run, "broken.txt")
    assert [number for number, _ in broken] == ["1", "3", "3"]
    assert len({process for _, process in broken}) == 3
