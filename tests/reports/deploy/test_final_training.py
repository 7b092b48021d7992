import json
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch

from mgnas.errors import UserError
from mgnas.files import write_yaml
from mgnas.models.config import ArchitectureConfig
from mgnas.reports.analysis.pareto import pareto_front
from mgnas.reports.deploy.classifier import load_model
from mgnas.reports.deploy.final_training import FinalTraining, selection, train_fully
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.space.candidate import TrainingSettings

TASK = FinalTraining(
    ArchitectureConfig(family="mgnet", base_channels=(8, 16), in_channels=1),
    TrainingSettings(epochs=3, batch_size=32, crop_padding=1),
    DataSettings(name="digits"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return folder, train_fully(TASK, folder, "cpu")


def test_result_is_measured_on_the_test_images(trained):
    folder, result = trained
    assert result == json.loads((folder / "result.json").read_text())
    test = load_dataset(TASK.data).test
    predicted = load_model(folder).predict(torch.from_numpy(test.images))
    assert result["test_accuracy"] == (predicted.numpy() == test.labels).mean()
    by_class = [(predicted.numpy() == test.labels)[test.labels == label].mean() for label in range(10)]
    assert result["test_balanced_accuracy"] == pytest.approx(np.mean(by_class))
    counts = np.bincount(test.labels)
    assert result["largest_class"] == {"name": str(counts.argmax()), "share": counts.max() / 360}
    assert result["test_images"] == 360
    assert result["training_images"] == 1437
    assert result["test_accuracy"] > 0.5


def test_no_checkpoint_is_left(trained):
    folder, _ = trained
    assert {path.name for path in folder.iterdir()} == {"model.pt", "model_card.md", "result.json", "task.yaml"}


def test_interrupted_training_continues_to_the_same_model(trained, tmp_path):
    class InterruptedTrainingError(Exception):
        pass

    def interrupt(epoch):
        # The first epoch is not on disk when it is announced, so the interruption costs it; the second stays.
        if len(seen) == 1:
            raise InterruptedTrainingError
        seen.append(epoch)

    seen = []
    with pytest.raises(InterruptedTrainingError):
        train_fully(TASK, tmp_path, "cpu", interrupt)
    assert (tmp_path / "checkpoint.pt").exists()
    train_fully(TASK, tmp_path, "cpu")
    folder, _ = trained
    expected, continued = (load_model(path).state_dict() for path in (folder, tmp_path))
    assert all(torch.equal(expected[key], continued[key]) for key in expected)


def test_a_disk_that_is_full_is_one_line_and_leaves_no_half_written_file(trained, tmp_path):
    """The system refuses to let any file of that process grow beyond 4 kB; a checkpoint has more."""
    write_yaml(tmp_path / "task.yaml", {key: value for key, value in TASK.to_dict().items() if key != "seed"})
    command = ["train", tmp_path / "task.yaml", "--output", tmp_path / "out", "--device", "cpu"]
    script = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
sys.argv = ["mgnas", *{[str(word) for word in command]}]
runpy.run_module("mgnas.cli", run_name="__main__")
"""
    # Without the measurement of coverage, which could not write its file.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=env)
    assert run.returncode == 2
    place = tmp_path / "out" / "checkpoint.pt"
    assert run.stderr == f"mgnas: error: {place}: cannot be written (File too large); choose a folder that can\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["task.yaml"]


def test_folder_of_another_training_is_kept(trained, tmp_path):
    folder, _ = trained
    with pytest.raises(UserError, match="holds a trained model already"):
        train_fully(TASK, folder, "cpu")
    write_yaml(tmp_path / "task.yaml", TASK.to_dict() | {"seed": 5})
    with pytest.raises(UserError, match="another, unfinished training"):
        train_fully(TASK, tmp_path, "cpu")


def test_selection_is_what_training_takes(run, tmp_path):
    config = run.config
    chosen = pareto_front(run.load())[0]
    path = tmp_path / "selected.yaml"
    write_yaml(path, selection(chosen, str(run.path), asdict(config.data), asdict(config.final_training)))
    task = FinalTraining.load(path, seed=3)
    assert task.architecture.id == chosen.candidate.architecture.id
    assert task.training == config.final_training
    assert task.training.batch_size == 256
    assert task.data == config.data
    assert task.seed == 3
    assert FinalTraining.load(path, epochs=7).training.epochs == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": {"name": "digits"}}, "architecture: is required and missing"),
        ({"architecture": {"family": "mgnet", "base_channels": [8]}}, "data: is required and missing"),
        ({"architectur": {}}, "architectur: unknown key; did you mean architecture"),
        ({"architecture": {"family": "mgx"}, "data": {"name": "digits"}}, "architecture.family: should be"),
        (
            {"architecture": {"family": "mgnet", "base_channels": [8]}, "data": {"name": "digits"}, "training": 3},
            "training: expected a mapping",
        ),
    ],
)
def test_malformed_selection_is_one_line_naming_the_key(tmp_path, content, message):
    path = tmp_path / "selected.yaml"
    write_yaml(path, content)
    with pytest.raises(UserError) as caught:
        FinalTraining.load(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_network_that_does_not_fit_the_data(tmp_path):
    wrong = FinalTraining(ArchitectureConfig(family="mgnet", base_channels=(8,)), TASK.training, TASK.data)
    with pytest.raises(UserError, match="num_classes: 10, in_channels: 1"):
        train_fully(wrong, tmp_path, "cpu")


def test_without_test_images_the_validation_images_stay_unseen(tmp_path):
    rng = np.random.default_rng(0)
    file = tmp_path / "own.npz"
    np.savez(file, train_images=rng.integers(0, 256, (40, 8, 8), dtype=np.uint8), train_labels=np.arange(40) % 2)
    data = DataSettings(name="npz", path=str(file), validation_fraction=0.25)
    architecture = ArchitectureConfig(family="mgnet", base_channels=(4,), in_channels=1, num_classes=2)
    result = train_fully(FinalTraining(architecture, TrainingSettings(epochs=1), data), tmp_path / "out", "cpu")
    assert result["training_images"] == 30
    assert result["validation_images"] == 10
    assert "test_accuracy" not in result


def test_damaged_checkpoint_starts_anew(trained, tmp_path):
    write_yaml(tmp_path / "task.yaml", TASK.to_dict())
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    train_fully(TASK, tmp_path, "cpu")
    folder, _ = trained
    expected, anew = (load_model(path).state_dict() for path in (folder, tmp_path))
    assert all(torch.equal(expected[key], anew[key]) for key in expected)


def test_a_large_class_does_not_hide_that_nothing_was_learned(tmp_path):
    """98 of 100 images are of one class, and all are noise: 98 % are classified correctly, and 50 % of each class."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, counts in (("train", [98, 2]), ("test", [49, 1])):
        arrays[f"{split}_labels"] = np.repeat([0, 1], counts)
        arrays[f"{split}_images"] = rng.integers(0, 256, (sum(counts), 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", **arrays, classes=["common", "rare"])
    task = FinalTraining(
        ArchitectureConfig(family="mgnet", base_channels=(8,), in_channels=1, num_classes=2),
        TrainingSettings(epochs=1, batch_size=50),
        DataSettings(name="npz", path=str(tmp_path / "x.npz")),
    )
    result = train_fully(task, tmp_path / "trained", "cpu")
    assert result["largest_class"] == {"name": "common", "share": 0.98}
    assert result["test_accuracy"] == 0.98
    assert result["test_balanced_accuracy"] == 0.5


def test_images_that_are_all_equal_are_refused_before_a_folder_is_made(tmp_path, refusal):
    images = np.full((20, 8, 8), 7, np.uint8)
    np.savez(tmp_path / "x.npz", train_images=images, train_labels=np.arange(20) % 2)
    data = DataSettings(name="npz", path=str(tmp_path / "x.npz"))
    task = FinalTraining(TASK.architecture, TASK.training, data)
    message = refusal(lambda: train_fully(task, tmp_path / "trained", "cpu"))
    assert message.startswith(f"{tmp_path}/x.npz: all images are equal")
    assert not (tmp_path / "trained").exists()
