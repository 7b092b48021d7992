"""benchmarks/training/resumable.py: what identifies a training, and a file that was cut off."""

import argparse
import json

import pytest
from resumable import Job, Results, add_options, train, train_missing

from mgnas.errors import UserError
from mgnas.models import ArchitectureConfig
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.training.trainer import Trainer
from mgnas.space.candidate import TrainingSettings

NETWORK = ArchitectureConfig(family="mgnet", base_channels=(4, 8), in_channels=1)


@pytest.fixture
def options(tmp_path):
    """Options of the command line -> those that `train_missing` reads."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    return lambda *more: parser.parse_args(["--out", str(tmp_path / "out.jsonl"), *more])


def job(seed: int = 0, rate: float = 0.1, path: str | None = None) -> Job:
    training = TrainingSettings(epochs=1, learning_rate=rate)
    return Job({"data": "small"}, seed, NETWORK, training, DataSettings(name="cifar10", path=path))


def line(of: Job, accuracy: float | None = 0.5) -> dict:
    return {"job": of.identity(), "accuracy": accuracy, "failure": None, "seconds": 1.0, "weights": 2}


def test_a_training_is_the_same_wherever_its_images_lie(tmp_path):
    results = Results(tmp_path / "out.jsonl")
    results.add(line(job(path="a.npz")))
    assert job(path="b.npz") in results
    assert job(path="b.npz") in Results(tmp_path / "out.jsonl")
    assert job(seed=1) not in results
    assert job(rate=0.2) not in results


def test_a_line_that_was_cut_off_does_not_count_and_does_not_spoil_the_next(tmp_path):
    (tmp_path / "out.jsonl").write_text(json.dumps(line(job())) + "\n" + json.dumps(line(job(1)))[:-9])
    results = Results(tmp_path / "out.jsonl")
    assert (job() in results, job(1) in results) == (True, False)
    results.add(line(job(1)))
    assert all(one in Results(tmp_path / "out.jsonl") for one in (job(), job(1)))


def test_a_training_that_diverges_has_its_reason_in_place_of_an_accuracy():
    diverging = TrainingSettings(epochs=2, learning_rate=1e30, warmup_epochs=0, gradient_clip=0)
    one = Job({"data": "digits"}, 0, NETWORK, diverging, DataSettings(name="digits", train_images=200))
    digits = load_dataset(one.images)
    row = train(one, Trainer(NETWORK, diverging, digits.train, None), digits, threads=1)
    assert row["accuracy"] is None
    assert "nan" in row["failure"] or "inf" in row["failure"]
    assert row["job"]["training"]["learning_rate"] == 1e30


def test_jobs_are_not_looked_at_if_results_are_only_shown(tmp_path, options):
    def no_jobs():
        raise AssertionError
        yield

    assert train_missing(no_jobs(), lambda *_: {}, options("--show")).rows == []


def test_a_folder_in_place_of_the_file_is_refused(tmp_path, options):
    with pytest.raises(UserError, match=r"cannot be read .*; choose another --out"):
        train_missing([], lambda *_: {}, options("--out", str(tmp_path)))


@pytest.mark.parametrize("processes", ["1", "3"])
def test_processes_share_the_trainings(options, processes, monkeypatch, capsys):
    """Each training is done once, and what is there already is not done again."""
    monkeypatch.setattr("resumable.load_dataset", lambda _: None)
    jobs = [job(seed) for seed in range(7)]
    chosen = options("--processes", processes)
    Results(chosen.out).add(line(jobs[2]))
    rows = train_missing(jobs, lambda one, _: line(one, one.seed / 10), chosen).rows
    assert sorted(row["job"]["seed"] for row in rows) == list(range(7))
    assert sorted(row["accuracy"] for row in rows) == [0.0, 0.1, 0.3, 0.4, 0.5, 0.5, 0.6]


def test_a_process_that_fails_ends_the_others(options, monkeypatch):
    monkeypatch.setattr("resumable.load_dataset", lambda _: None)

    def fails(one: Job, _: object) -> dict:
        raise ValueError(one.name)

    with pytest.raises(RuntimeError, match="one of 2 trials ended with status 1"):
        train_missing([job(seed) for seed in range(3)], fails, options("--processes", "2"))
