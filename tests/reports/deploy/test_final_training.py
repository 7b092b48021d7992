import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

from mgnas.errors import UserError
from mgnas.files import write_yaml
from mgnas.models.config import ArchitectureConfig
from mgnas.reports.analysis.pareto import pareto_front
from mgnas.reports.deploy.classifier import load_model
from mgnas.reports.deploy.final_training import FinalTraining, selection, train_fully
from mgnas.reports.deploy.training_progress import read_progress
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.training.trainer import Trainer
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
    progress = read_progress(tmp_path)
    assert (progress.epoch, progress.epochs, progress.seconds) == (1, 3, pytest.approx(seen[0].seconds, abs=1e-3))
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
    ("searched", "final", "expected"),
    [
        (("learning_rate", "label_smoothing"), {"learning_rate": 0.05}, ("sgd", 0.2, 0.1)),
        (("learning_rate", "label_smoothing"), {"optimizer": "adamw", "learning_rate": 0.004}, ("adamw", 0.004, 0.1)),
        (("optimizer", "label_smoothing"), {"optimizer": "adamw", "learning_rate": 0.004}, ("sgd", 0.004, 0.1)),
    ],
)
def test_a_trials_own_rate_is_not_for_another_optimizer(run, searched, final, expected):
    trial = pareto_front(run.load())[0]
    own = TrainingSettings(learning_rate=0.2, label_smoothing=0.1)
    candidate = replace(trial.candidate, training=own, searched_training_settings=searched)
    training = asdict(TrainingSettings(**final))
    recipe = selection(replace(trial, candidate=candidate), "a run", {}, training)["training"]
    assert (recipe["optimizer"], recipe["learning_rate"], recipe["label_smoothing"]) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": {"name": "digits"}}, "architecture: is required and missing"),
        ({"architecture": {"family": "mgnet", "base_channels": [8]}}, "data: is required and missing"),
        ({"name": "x", "space": {}}, "is the config of a search; train takes what `mgnas select` writes"),
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


def test_images_that_are_too_small_for_the_levels_are_refused(tmp_path):
    deep = replace(TASK, architecture=replace(TASK.architecture, base_channels=(8,) * 5))
    with pytest.raises(UserError, match=r"architecture\.base_channels: 5 levels need images of at least 9 x 9 pixels"):
        train_fully(deep, tmp_path / "deep", "cpu")
    assert not (tmp_path / "deep").exists()


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


# ------------------------------------------------------------------------------------- what goes on must be the same


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes, all images of which are equal, so that only names and pixels tell the classes apart."""
    for name, grey in (("cat", 40), ("dog", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            image = np.full((8, 8), grey, np.uint8)
            image[0, 0] = 255 - grey
            Image.fromarray(image).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def of_photos(photos, epochs=2):
    architecture = ArchitectureConfig(family="mgnet", base_channels=(4,), in_channels=1, num_classes=2)
    return FinalTraining(architecture, TrainingSettings(epochs=epochs), DataSettings(name="folder", path=str(photos)))


def interrupted(task, folder):
    """Train one epoch, and be interrupted in the second."""

    def interrupt(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    load_dataset.cache_clear()
    with pytest.raises(KeyboardInterrupt):
        train_fully(task, folder, "cpu", interrupt)


def swap_classes(photos):
    (photos / "cat").rename(photos / "old cat")
    (photos / "dog").rename(photos / "cat")
    (photos / "old cat").rename(photos / "dog")


def rename_a_class(photos):
    (photos / "dog").rename(photos / "wolf")


def exchange_an_image(photos):
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(photos / "cat" / "3.png")


@pytest.mark.parametrize("change", [swap_classes, rename_a_class, exchange_an_image])
def test_an_interrupted_training_does_not_go_on_with_other_images_or_names(photos, tmp_path, refusal, change):
    task, folder = of_photos(photos), tmp_path / "out"
    interrupted(task, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    change(photos)
    load_dataset.cache_clear()
    message = refusal(lambda: train_fully(task, folder, "cpu"))
    assert message.startswith(f"{folder}: the images are not those that the training here began with, or their classes")
    assert "restore them, or choose another folder with --output" in message
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_an_interrupted_training_goes_on_after_its_images_have_moved(photos, tmp_path):
    folder = tmp_path / "out"
    interrupted(of_photos(photos), folder)
    moved = photos.rename(tmp_path / "moved")
    epochs = []
    train_fully(of_photos(moved), folder, "cpu", lambda result: epochs.append(result.epoch))
    assert epochs == [2]


def test_a_training_of_version_0_1_0_goes_on(photos, tmp_path):
    """Its task.yaml has an absolute path, no digest, and none of the settings that came later."""
    task, folder = of_photos(photos), tmp_path / "out"
    interrupted(task, folder)
    before = task.to_dict()
    assert before["data"].pop("background", "missing") is None
    for name in ("optimizer", "augmentation", "random_resized_crop", "mixup", "cutmix"):
        del before["training"][name]
    write_yaml(folder / "task.yaml", before)
    epochs = []
    train_fully(task, folder, "cpu", lambda result: epochs.append(result.epoch))
    assert epochs == [2]


def test_no_file_of_the_folder_holds_an_absolute_path(photos, tmp_path):
    folder = tmp_path / "out"
    interrupted(of_photos(photos), folder)
    assert str(tmp_path) not in (folder / "task.yaml").read_text()
    result = train_fully(of_photos(photos), folder, "cpu")
    assert result["data"]["path"] == "../photos"
    for file in folder.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file.name


def test_a_second_training_in_the_same_folder_is_refused_while_the_first_runs(photos, tmp_path, refusal):
    task, folder = of_photos(photos), tmp_path / "out"

    def second(epoch):
        message = refusal(lambda: train_fully(task, folder, "cpu"))
        assert message.startswith(f"{folder}: another process is training here already; wait for it")

    train_fully(task, folder, "cpu", second)
    assert {file.name for file in folder.iterdir()} == {"model.pt", "model_card.md", "result.json", "task.yaml"}


def test_a_killed_training_leaves_the_folder_free_and_its_half_written_files_go(photos, tmp_path):
    write_yaml(
        tmp_path / "task.yaml", {key: value for key, value in of_photos(photos).to_dict().items() if key != "seed"}
    )
    folder = tmp_path / "out"
    script = f"""
import os, signal
from pathlib import Path
from mgnas.reports.deploy.final_training import FinalTraining, train_fully
def kill(epoch):
    if epoch.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
train_fully(FinalTraining.load({str(tmp_path / "task.yaml")!r}), Path({str(folder)!r}), "cpu", kill)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert (folder / "train.lock").exists()
    (folder / ".checkpoint.pt.abcd").write_bytes(b"half")
    epochs = []
    train_fully(of_photos(photos), folder, "cpu", lambda result: epochs.append(result.epoch))
    assert epochs == [2]
    assert {file.name for file in folder.iterdir()} == {"model.pt", "model_card.md", "result.json", "task.yaml"}


def test_a_training_that_was_killed_between_model_and_result_is_finished(photos, tmp_path):
    task, folder = of_photos(photos, epochs=1), tmp_path / "out"
    expected = train_fully(task, folder, "cpu")
    (tmp_path / "again").mkdir()
    # The state after the last epoch: the checkpoint is there, result and card are not.
    trainer = Trainer(task.architecture, task.training, load_dataset(task.data).train, None, 0, "cpu")
    trainer.run_epoch()
    trainer.save(tmp_path / "again" / "checkpoint.pt")
    for name in ("model.pt", "task.yaml"):
        shutil.copy(folder / name, tmp_path / "again" / name)
    result = train_fully(task, tmp_path / "again", "cpu")
    assert result["validation_accuracy"] == expected["validation_accuracy"]


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


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays(photos, tmp_path, refusal):
    (tmp_path / "out").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "out" / "train.lock").symlink_to(tmp_path / "mine.txt")
    assert "out: cannot be written (" in refusal(lambda: train_fully(of_photos(photos), tmp_path / "out", "cpu"))
    assert (tmp_path / "mine.txt").read_text() == "mine"
