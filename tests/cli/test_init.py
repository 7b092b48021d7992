"""mgnas init: the config that it writes."""

import numpy as np
import pytest
import yaml
from PIL import Image

from mgnas.search.config import SearchConfig


def test_init_writes_a_config_that_is_searched_as_it_is(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("init", "digits")
    assert code == 0
    assert out.splitlines()[-1] == "Search: mgnas search digits.yaml"
    assert "1,437 images of 10 classes, 8 x 8 pixels" in out
    assert SearchConfig.load(tmp_path / "digits.yaml").name == "digits"
    code, out, err = command("init", "digits")
    assert (code, out) == (2, "")
    assert (
        err == "mgnas: error: digits.yaml: exists already; choose another with --output, or replace it with --force\n"
    )
    assert command("init", "digits", "--force")[0] == 0
    code, _, err = command("init", "missing")
    assert code == 2
    assert err.startswith("mgnas: error: missing: no such file or folder")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Paths of files -> a folder `photos` with these, noisy images if they can be, in the current directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)

    def make(*files):
        for file in files:
            path = tmp_path / "photos" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".png":
                Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
            else:
                path.touch()
        return tmp_path / "photos"

    return make


def images(folder, count=8):
    return [f"{folder}/{name}/{number}.png".lstrip("/") for name in ("cat", "dog") for number in range(count)]


def test_splits_of_the_folder_are_used_and_what_is_passed_over_is_named_once(photos, command):
    photos(*images("Train"), *images("valid", 2), *images("Testing", 1), "Train/cat/a.gif", "notes/a.txt")
    code, out, err = command("init", "photos")
    assert code == 0
    assert "20 images of 2 classes, 32 x 32 pixels" in out
    assert "4 of them are the data set's own for validation; none is held out" in out
    assert err.splitlines() == [f"{photos()}: not read: 1 .gif; the folder notes"]
    assert (
        "# 16 images to train on and 4 of their own split to compare" in photos().with_name("photos.yaml").read_text()
    )
    assert command("init", "photos", "--force")[2] == ""


def test_linked_class_folders_are_looked_at_as_the_loader_does(photos, command, tmp_path):
    root = photos(*images("elsewhere"))
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("cat", "dog"):
        (linked / name).symlink_to(root / "elsewhere" / name)
    code, out, _ = command("init", "linked")
    assert code == 0
    assert "16 images of 2 classes, 32 x 32 pixels" in out


def test_all_damaged_images_are_named_at_once(photos, command, tmp_path):
    root = photos(*images("."))
    for number in range(5):
        (root / "cat" / f"{number}.png").write_bytes(b"?")
    code, out, err = command("init", "photos")
    assert (code, out) == (2, "")
    *lines, last = err.splitlines()
    assert lines == [f"{root}/cat/{number}.png: not a readable image; replace or delete it" for number in range(5)]
    assert last.startswith(
        f"mgnas: error: {root}: 5 images cannot be read; replace or delete them: cat/0.png, cat/1.png"
    )
    assert not (tmp_path / "photos.yaml").exists()


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (["cat/0.png", "cat/1.png"], "holds 1 folders of images"),
        (["train/0.png", "test/1.png"], "train and test: the images lie in no class folder"),
        (images("chest/a"), "photos/chest/a as data.path"),
        (["a.txt"], "no images in it (1 .txt; read are .bmp, "),
    ],
)
def test_nothing_is_written_for_a_folder_that_cannot_be_searched(photos, command, refused, tmp_path, files, problem):
    photos(*files)
    refused(command("init", "photos"), "photos: ", problem)
    assert not (tmp_path / "photos.yaml").exists()


@pytest.mark.parametrize(
    ("images", "labels", "problem"),
    [
        (np.arange(1280, dtype=np.uint8).reshape(20, 8, 8), np.zeros(20, int), "train_labels: there is one class only"),
        (np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2, "all images are equal, so there is nothing to learn"),
    ],
)
def test_nothing_is_written_for_arrays_that_nothing_can_be_learned_from(
    tmp_path, monkeypatch, command, refused, images, labels, problem
):
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", train_images=images, train_labels=labels)
    refused(command("init", "x.npz"), "x.npz: ", problem)
    assert not (tmp_path / "x.yaml").exists()


def test_many_classes_get_a_budget_that_holds_a_whole_space(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    labels = np.arange(6000) % 3000
    pixels = np.random.default_rng(0).integers(0, 256, (6000, 8, 8), dtype=np.uint8)
    np.savez("many.npz", train_images=pixels, train_labels=labels)
    code, out, _ = command("init", "many.npz")
    assert code == 0
    # Four times what the last layer of the widest network has: 3000 * (64 + 1).
    assert yaml.safe_load((tmp_path / "many.yaml").read_text())["space"]["limits"]["max_weights"] == "780k"
    networks = int(out.split("many.yaml: ")[1].split()[0])
    assert networks > 150


@pytest.mark.parametrize("name", ["it's #1: a", "a\nb", "caf\u00e9 \u732b", "a\tb\u202f"])
def test_any_name_of_a_folder_is_found_again_from_the_config(photos, command, name):
    root = photos(*images("."))
    root = root.rename(root.with_name(name))
    code, _, _ = command("init", name, "--output", "x.yaml")
    assert code == 0
    assert SearchConfig.load("x.yaml").data.path == str(root)
