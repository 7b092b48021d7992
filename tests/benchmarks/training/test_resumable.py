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
