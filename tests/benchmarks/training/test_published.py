"""benchmarks/training/published.py: slices continue one another, and the table says what was trained and how."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "training" / "published.py"
ROW = "mgiad-lambda1-cifar10"
SETTINGS = {
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "warmup_epochs": 1.0,
    "label_smoothing": 0.1,
    "gradient_clip": 1.0,
    "crop_padding": 1,
    "flip": True,
    "image_size": 8,
    "train_images": None,
    "training_images": 40,
    "test_images": 20,
}


@pytest.fixture(scope="module")
def published():
    spec = importlib.util.spec_from_file_location("published_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """40 training and 20 test images in CIFAR-10's shape, brighter with the class."""
    path, generator = tmp_path_factory.mktemp("images") / "cifar10.npz", np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 40), ("test", 20)):
        labels = np.arange(count) % 10
        noise = generator.integers(0, 30, (count, 32, 32, 3))
        arrays |= {f"{part}_images": (noise + 22 * labels[:, None, None, None]).astype(np.uint8)}
        arrays |= {f"{part}_labels": labels.astype(np.uint8)}
    np.savez(path, **arrays)
    return path


@pytest.fixture
def run(published, images, tmp_path):
    """Call the script with small settings; further options are appended and win."""

    def call(*more, work="work"):
        small = ["--rows", ROW, "--image-size", "8", "--batch-size", "16", "--epochs", "2", "--device", "cpu"]
        places = ["--data-cifar10", images, "--work", tmp_path / work, "--results", tmp_path / f"{work}-results"]
        return published.main([str(argument) for argument in [*small, *places, *more]])

    return call


def store(work, seed, row=ROW, name="result.json", settings=None, **more):
    """What a training leaves in the work folder, as written by hand."""
    where = {"hardware": "a GPU, 8 CPU cores", "versions": "Python 3.11.0, torch 2.14.1, mgnas 0.1.0"}
    state = {"row": row, "seed": seed, "settings": SETTINGS | (settings or {}), "environments": [where], "epoch": 2}
    folder = work / f"{row}-seed{seed}{'' if settings is None else '-other'}"
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(state | more))


def row_of(rows, name=ROW):
    (found,) = [row for row in rows if row["row"] == name]
    return found


def test_slices_of_no_minutes_continue_one_another_and_equal_one_run(run, tmp_path, capsys):
    def result(work):
        state = json.loads((tmp_path / work / f"{ROW}-seed0" / "result.json").read_text())
        return {key: value for key, value in state.items() if key != "seconds"}

    assert run("--minutes", "0") == 0
    printed = capsys.readouterr().out
    assert f"left: {ROW} seed 0, epoch 1 of 2\n" in printed
    assert f"continue: python benchmarks/training/published.py --rows {ROW} --image-size 8" in printed
    first = json.loads((tmp_path / "work-results" / "published.json").read_text())
    assert row_of(first)["progress"] == ["seed 0: epoch 1 of 2"]
    assert row_of(first)["accuracy"] is None
    checkpoint = torch.load(tmp_path / "work" / f"{ROW}-seed0" / "checkpoint.pt", weights_only=True)
    assert len(checkpoint["history"]) == 1

    assert run("--minutes", "0") == 0
    last_epoch = [line for line in capsys.readouterr().out.splitlines() if "epoch 2 of 2, loss" in line]
    assert run(work="whole") == 0
    printed = capsys.readouterr().out.splitlines()
    assert last_epoch == [line for line in printed if "epoch 2 of 2, loss" in line]
    assert not [line for line in printed if line.startswith("left")]
    assert result("work") == result("whole")
    assert result("work")["settings"] | SETTINGS == result("work")["settings"]
    assert [path.name for path in (tmp_path / "work" / f"{ROW}-seed0").iterdir()] == ["result.json"]

    before = (tmp_path / "work-results" / "published.md").read_bytes()
    assert run() == 0
    assert "loss" not in capsys.readouterr().out
    assert (tmp_path / "work-results" / "published.md").read_bytes() == before


@pytest.mark.parametrize(("recipe", "augmentation"), [("published", "none"), ("published-autoaugment", "autoaugment")])
def test_the_recipe_of_the_published_rows(published, images, recipe, augmentation):
    given = published.parse(["--recipe", recipe, "--data-cifar10", str(images)])
    training = published.Task.of(published.published_model(ROW), given, 0).training
    assert (training.epochs, training.batch_size, training.learning_rate) == (400, 128, 0.1)
    assert (training.optimizer, training.momentum, training.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (training.crop_padding, training.flip, training.augmentation) == (4, True, augmentation)
    assert (training.label_smoothing, training.warmup_epochs, training.gradient_clip) == (0, 0, 0)


def test_recipes_stand_in_folders_and_rows_of_their_own(run, published, tmp_path, capsys):
    for recipe in published.RECIPES:
        assert run("--recipe", recipe, "--epochs", "1") == 0
    assert f"{ROW} published-autoaugment seed 0: epoch 1 of 1, loss" in capsys.readouterr().out
    folders = {path.name for path in (tmp_path / "work").iterdir()}
    assert folders == {f"{ROW}-seed0", f"{ROW}-published-seed0", f"{ROW}-published-autoaugment-seed0"}
    rows = [row for row in published.table(tmp_path / "work") if row["n"]]
    assert [row["row"] for row in rows] == [ROW] * 3
    page = (tmp_path / "work-results" / "published.md").read_text()
    # Options change a recipe: these have one epoch, and batches of 16.
    plain = "batch 16, learning rate 0.1, warm-up 0, momentum 0.9, weight decay 0.0001, label smoothing 0, "
    assert f"| {plain}gradient clip 0, crop padding 1 |" in page
    assert f"| {plain}gradient clip 0, crop padding 1, autoaugment |" in page


def test_a_precision_that_was_asked_for_stands_with_the_hardware(run, published, tmp_path):
    assert run("--epochs", "1", "--precision", "bfloat16", "--execution", "eager") == 0
    (row,) = [row for row in published.table(tmp_path / "work") if row["n"]]
    assert row["hardware"][0].endswith(", bfloat16")


def test_mean_and_spread_over_seeds(published, tmp_path):
    store(tmp_path, 0, test_accuracy=0.90, seconds=10.0)
    store(tmp_path, 1, test_accuracy=0.92, seconds=20.0)
    row = row_of(published.table(tmp_path))
    assert (row["accuracy"], row["n"], row["seeds"], row["seconds_per_training"]) == (0.91, 2, [0, 1], 15.0)
    # Deviations of -0.01 and +0.01 from the mean, over n - 1 = 1: sqrt(0.0002).
    assert row["std"] == pytest.approx(0.0141421, abs=1e-6)
    assert (row["accuracy_published"], row["weights_published"], row["dataset"]) == (0.9082, "139k", "cifar10")
    assert round(row["weights_counted"] / 1000) == 139
    assert row["note"].startswith("the row says g_s=8")
    page = published.markdown(published.table(tmp_path))
    cells = f"| cifar10 | 139k | {row['weights_counted']:,} | 90.82 | 91.00 (std 1.41, n = 2) |"
    assert f"MGiaD lambda=1, g_s=8 {cells}\n" in page
    assert "| 2 | 40 | 20 | 8 | batch 16, learning rate 0.1, warm-up 1, momentum 0.9, weight decay 0.0005" in page
    assert "| a GPU, 8 CPU cores | Python 3.11.0, torch 2.14.1, mgnas 0.1.0 | 15.0 |\n" in page
    assert f"- {ROW}: the row says g_s=8" in page


def test_rows_not_trained_stand_in_the_table_most_valuable_first(published, tmp_path):
    rows = published.table(tmp_path)
    assert [row["row"] for row in rows] == list(published.DEFAULT_ROWS)
    assert len(rows) == 8
    assert "| 1 | MGiaD lambda=3, g_s=8 | cifar10 | 1,269k |" in published.markdown(rows)
    assert published.markdown(rows).count("| not trained |") == 8


def test_a_row_asked_for_by_name_joins_the_table(published, tmp_path):
    store(tmp_path, 0, row="mgnet256-cifar100", test_accuracy=0.79, seconds=1.0)
    rows = published.table(tmp_path)
    assert len(rows) == 9
    assert row_of(rows, "mgnet256-cifar100")["accuracy_published"] == 0.7994


def test_unfinished_and_diverged_trainings_have_no_part_in_the_mean(published, tmp_path):
    store(tmp_path, 0, test_accuracy=0.90, seconds=10.0)
    store(tmp_path, 1, name="progress.json", epoch=1, seconds=99.0)
    store(tmp_path, 2, test_accuracy=None, seconds=99.0, failure="the loss became nan in epoch 2")
    row = row_of(published.table(tmp_path))
    assert (row["accuracy"], row["std"], row["n"], row["seconds_per_training"]) == (0.90, None, 1, 10.0)
    page = published.markdown(published.table(tmp_path))
    assert "| 90.00 (n = 1); seed 1: epoch 1 of 2; seed 2: the loss became nan in epoch 2 |" in page


@pytest.mark.parametrize("change", [{"epochs": 3}, {"training_images": 20}, {"image_size": 16}])
def test_different_settings_never_mix_in_a_mean(published, tmp_path, change):
    store(tmp_path, 0, test_accuracy=0.90, seconds=1.0)
    store(tmp_path, 1, test_accuracy=0.50, seconds=1.0, settings=change)
    rows = [row for row in published.table(tmp_path) if row["row"] == ROW]
    assert sorted((row["accuracy"], row["n"]) for row in rows) == [(0.5, 1), (0.9, 1)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--epochs", "3"), "epochs 2, not 3"),
        (("--batch-size", "8"), "batch_size 16, not 8"),
        (("--train-images", "30"), "train_images None, not 30"),
        (("--image-size", "16"), "image_size 8, not 16"),
    ],
)
def test_changed_settings_are_refused_in_one_line(run, published, tmp_path, capsys, change, message):
    architecture = published.published_model(ROW).config.to_dict()
    folder = tmp_path / "work" / f"{ROW}-seed0"
    store(tmp_path / "work", 0, name="progress.json", seconds=1.0, settings=SETTINGS | {"architecture": architecture})
    (tmp_path / "work" / f"{ROW}-seed0-other").rename(folder)
    assert run(*change) == 1
    assert capsys.readouterr().err == (
        f"error: {ROW} seed 0: was begun with {message}; give the same settings or another --work\n"
    )
    assert [path.name for path in folder.iterdir()] == ["progress.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--rows", "resnet19-cifar10"), "preset: unknown name 'resnet19-cifar10'; there are resnet18-cifar10,"),
        (("--epochs", "0"), "training.epochs: "),
        (("--image-size", "12"), "data.image_size: 12 does not divide"),
        (("--data-cifar10", "missing.npz"), "missing.npz: "),
    ],
)
def test_bad_options_are_one_line(run, capsys, change, message):
    assert run(*change) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert printed.count("\n") == 1
