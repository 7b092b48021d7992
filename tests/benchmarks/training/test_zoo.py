"""benchmarks/training/zoo.py: a retrained network is put into the zoo as it is, and the page tells all seeds."""

import json
import shutil

import numpy as np
import pytest
import torch

import mgnas
import zoo
from mgnas.models import ArchitectureConfig
from mgnas.reports.deploy.final_training import FinalTraining, train_fully
from mgnas.search.data.dataset import DataSettings
from mgnas.space.candidate import TrainingSettings


@pytest.fixture(scope="module")
def trained(dark_or_light, tmp_path_factory):
    """One training, as `mgnas retrain` leaves it."""
    folder = tmp_path_factory.mktemp("retrained")
    config = ArchitectureConfig(family="mgnet", base_channels=(4,), num_classes=2)
    data = DataSettings(name="npz", path=str(dark_or_light))
    train_fully(FinalTraining(config, TrainingSettings(epochs=1, batch_size=32), data), folder / "seed-0", "cpu")
    return folder


@pytest.fixture
def retrained(trained, tmp_path):
    """Two seeds with test accuracies of 90 and 94 %, and int8 ones of 89 and 93 %."""
    folder = tmp_path / "retrained"
    for seed, accuracy in enumerate((0.9, 0.94)):
        copied = shutil.copytree(trained / "seed-0", folder / f"seed-{seed}")
        result = json.loads((copied / "result.json").read_text())
        result |= {"seed": seed, "test_accuracy": accuracy, "seconds": 3600.0}
        (copied / "result.json").write_text(json.dumps(result))
        (copied / "exports.json").write_text(json.dumps({"int8": {"accuracy": accuracy - 0.01, "size": 4321}}))
    return folder


def call(tmp_path, *arguments):
    return zoo.main(["--zoo", str(tmp_path / "zoo"), "--page", str(tmp_path / "page.md"), *map(str, arguments)])


def test_a_network_of_the_zoo_is_seed_0_and_its_page_tells_all_seeds(retrained, tmp_path, capsys):
    commands = ["mgnas search small.yaml", "mgnas retrain run --seeds 2"]
    assert call(tmp_path, "--add", retrained, "--name", "dark-or-light", "--command", *commands) == 0
    folder, images = tmp_path / "zoo" / "dark-or-light", torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    loaded, original = mgnas.load(folder), mgnas.load(retrained / "seed-0")
    with torch.inference_mode():
        assert torch.equal(loaded(images), original(images))
    assert str(retrained) not in "".join(file.read_text() for file in folder.glob("*.json"))
    recorded = json.loads((folder / "logits.json").read_text())
    np.testing.assert_allclose(recorded, zoo.generated_logits(loaded), rtol=1e-5)
    assert np.shape(recorded) == (zoo.IMAGES, 2)
    text = (tmp_path / "page.md").read_text()
    assert "| 92.00 +- 2.83 (2 seeds) | 91.00 +- 2.83 (2 seeds) | 4,321 | 1 | 1.00 |" in text
    assert f"```\n{commands[0]}\n{commands[1]}\n```" in text
    assert "92.00 % +- 2.83" in (folder / "model_card.md").read_text()
    assert capsys.readouterr().out in text


def test_a_network_of_the_zoo_is_exported_without_its_images(retrained, tmp_path, caplog):
    call(tmp_path, "--add", retrained, "--name", "one")
    assert mgnas.export(tmp_path / "zoo" / "one", "onnx", output=tmp_path / "one.onnx").is_file()
    assert "no real images" in caplog.text


def test_a_seed_that_follows_is_the_same_as_one_that_came_along(retrained, tmp_path):
    call(tmp_path, "--add", retrained, "--name", "at-once", "--command", "first", "second")
    shutil.move(retrained / "seed-1", tmp_path / "later" / "seed-1")
    call(tmp_path, "--add", retrained, "--name", "in-turns", "--command", "first")
    for _ in range(2):  # A seed that is added again takes its own place.
        assert call(tmp_path, "--add", tmp_path / "later", "--name", "in-turns", "--command", "second") == 0
    at_once, in_turns = (
        json.loads((tmp_path / "zoo" / name / "training.json").read_text()) for name in ("at-once", "in-turns")
    )
    assert at_once["trainings"] == in_turns["trainings"]
    assert in_turns["commands"] == ["first", "second"]
    assert "92.00 % +- 2.83" in (tmp_path / "zoo" / "in-turns" / "model_card.md").read_text()


@pytest.mark.parametrize(
    ("part", "changed"), [("training", {"epochs": 2}), ("images", "others"), ("architecture", {"base_channels": [8]})]
)
def test_a_seed_of_another_training_is_refused_and_changes_nothing(retrained, tmp_path, capsys, part, changed):
    shutil.move(retrained / "seed-1", tmp_path / "later" / "seed-1")
    call(tmp_path, "--add", retrained, "--name", "one")
    notes = (tmp_path / "zoo" / "one" / "training.json").read_text()
    file = tmp_path / "later" / "seed-1" / "result.json"
    result = json.loads(file.read_text())
    file.write_text(json.dumps(result | {part: result[part] | changed if isinstance(changed, dict) else changed}))
    capsys.readouterr()
    assert call(tmp_path, "--add", tmp_path / "later", "--name", "one") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"seed-1: its {part} differs" in line
    assert (tmp_path / "zoo" / "one" / "training.json").read_text() == notes


def test_what_cannot_be_done_is_one_line(retrained, tmp_path, capsys):
    shutil.rmtree(retrained / "seed-0")
    for arguments, words in (
        (["--add", retrained, "--name", "one"], "no seed-0/result.json, and no network one"),
        (["--add", tmp_path, "--name", "one"], "no seed-0/result.json; give a folder"),
        (["--add", retrained], "--add and --name"),
        ([], "no networks; --add puts one there"),
    ):
        assert call(tmp_path, *arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
