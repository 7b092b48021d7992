"""Tiny ImageNet as it is published: unpacked or in its zip archive, whole or not."""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgnas.search.data import tiny_imagenet
from mgnas.search.data.dataset import Dataset, DataSettings, data_shape, load_dataset


def load(path, **values) -> Dataset:
    return load_dataset(DataSettings(name="tinyimagenet", path=str(path), **values))


# Not in order, as in the archive.
WNIDS = [f"n{(7 * i) % 200:08d}" for i in range(200)]


def jpeg(number: int) -> bytes:
    """64 x 64 noise that is darker for small numbers; every third is greyscale."""
    shape = (64, 64) if number % 3 == 0 else (64, 64, 3)
    noise = np.random.default_rng(number).integers(0, 50 + number % 200, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "jpeg")
    return file.getvalue()


@pytest.fixture(scope="session")
def tiny_files() -> dict[str, bytes]:
    """The archive's layout with 2 training images and 1 validation image a class."""
    files = {"wnids.txt": "\n".join(WNIDS).encode(), "words.txt": b"n00000001\tgoldfish, Carassius auratus\nn1\tx\n"}
    for number, wnid in enumerate(WNIDS):
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b"boxes"
        for i in range(2):
            files[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = jpeg(2 * number + i)
        files[f"val/images/val_{number}.JPEG"] = jpeg(1000 + number)
    lines = [f"val_{number}.JPEG\t{wnid}\t0\t0\t63\t63\n" for number, wnid in enumerate(WNIDS)]
    files["val/val_annotations.txt"] = "".join(lines).encode()
    files["test/images/test_0.JPEG"] = jpeg(0)
    return files


@pytest.fixture(scope="session")
def tiny_folder(tiny_files, tmp_path_factory) -> Path:
    """A folder with the archive unpacked in it."""
    parent = tmp_path_factory.mktemp("tiny")
    for file, content in tiny_files.items():
        path = parent / "tiny-imagenet-200" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return parent


@pytest.fixture
def tiny_zip(tiny_files, tmp_path):
    """Changes (file -> bytes, None: left out) -> the archive with them."""

    def make(changes=None) -> Path:
        path = tmp_path / "tiny-imagenet-200.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file, content in (tiny_files | (changes or {})).items():
                if content is not None:
                    archive.writestr(f"tiny-imagenet-200/{file}", content)
        return path

    return make


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)


def test_tiny_imagenet_is_read_as_published(tiny_files, tiny_folder):
    dataset = load(tiny_folder / "tiny-imagenet-200", validation_fraction=0.5)
    assert (dataset.num_classes, dataset.in_channels, dataset.image_size) == (200, 3, 64)
    assert dataset.class_names[:3] == ("n00000000", "goldfish", "n00000002")
    both = dataset.train + dataset.validation
    found = {(label, image.tobytes()) for image, label in zip(both.images, both.labels, strict=True)}
    assert found == {
        (label, decoded(tiny_files[f"train/{wnid}/images/{wnid}_{i}.JPEG"]).tobytes())
        for label, wnid in enumerate(sorted(WNIDS))
        for i in range(2)
    }
    assert dataset.test.labels.tolist() == [sorted(WNIDS).index(wnid) for wnid in WNIDS]
    expected = [decoded(tiny_files[f"val/images/val_{number}.JPEG"]) for number in range(200)]
    assert np.array_equal(dataset.test.images, expected)


def test_the_parent_folder_the_zip_and_its_folder_give_the_same(tiny_folder, tiny_zip):
    expected = load(tiny_folder / "tiny-imagenet-200")
    archive = tiny_zip()
    for path in (tiny_folder, archive, archive.parent):
        dataset = load(path)
        assert np.array_equal(dataset.train.images, expected.train.images)
        assert np.array_equal(dataset.test.images, expected.test.images)
        assert np.array_equal(dataset.train.labels, expected.train.labels)


def test_tiny_imagenet_can_be_reduced(tiny_folder):
    small, full = (load(tiny_folder, image_size=size) for size in (16, None))
    blocks = full.test.images.reshape(200, 3, 16, 4, 16, 4).mean(axis=(3, 5)).round()
    assert np.array_equal(small.test.images, blocks)


def test_the_shape_of_tiny_imagenet_needs_neither_download_nor_files():
    assert data_shape(DataSettings(name="tinyimagenet")) == (200, 3, 64)
    assert data_shape(DataSettings(name="tinyimagenet", path="nowhere", image_size=32)) == (200, 3, 32)


SMALL = io.BytesIO()
Image.new("RGB", (32, 64)).save(SMALL, "jpeg")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"wnids.txt": None}, ": lacks tiny-imagenet-200/wnids.txt; it is not the official tiny-imagenet-200.zip"),
        ({"wnids.txt": b"n1 n2"}, ": wnids.txt: holds 2 classes; the official archive has 200"),
        (
            {f"train/{WNIDS[5]}/images/{WNIDS[5]}_{i}.JPEG": None for i in range(2)},
            f": train/{WNIDS[5]}/images: holds no images",
        ),
        (
            {f"train/{WNIDS[5]}/images/{WNIDS[5]}_1.JPEG": b"?"},
            f"/train/{WNIDS[5]}/images/{WNIDS[5]}_1.JPEG: not a readable image",
        ),
        (
            {f"train/{WNIDS[5]}/images/{WNIDS[5]}_1.JPEG": jpeg(0)[:900]},
            f"/train/{WNIDS[5]}/images/{WNIDS[5]}_1.JPEG: not a readable image (",
        ),
        ({"val/images/val_3.JPEG": SMALL.getvalue()}, "/val/images/val_3.JPEG: has 32 x 64 pixels; expected 64 x 64"),
        ({"val/images/val_3.JPEG": None}, ": lacks tiny-imagenet-200/val/images/val_3.JPEG"),
        ({"val/val_annotations.txt": None}, ": lacks tiny-imagenet-200/val/val_annotations.txt"),
        ({"val/val_annotations.txt": b""}, ": val/val_annotations.txt: is empty"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn1\n"}, ": val/val_annotations.txt: line 1 names no class"),
        ({"val/val_annotations.txt": b"val_0.JPEG\n"}, ": val/val_annotations.txt: line 1 names no class"),
    ],
)
def test_an_incomplete_archive_is_refused_by_what_is_wrong_in_it(tiny_zip, refusal, changes, problem):
    path = tiny_zip(changes)
    assert refusal(lambda: load(path)).startswith(f"{path}{problem}")


def test_a_zip_that_is_not_the_archive_is_refused(tmp_path, refusal):
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert "it is not the official tiny-imagenet-200.zip" in refusal(lambda: load(path))


@pytest.mark.parametrize("keep", [0, 10, -1000])
def test_a_truncated_zip_is_refused(tiny_zip, refusal, keep):
    path = tiny_zip()
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(lambda: load(path)).startswith(f"{path}: not a readable zip archive (")


def test_a_zip_with_a_damaged_member_is_refused(tiny_files, tiny_zip, refusal):
    path, file = tiny_zip(), f"train/{WNIDS[5]}/images/{WNIDS[5]}_1.JPEG"
    content = path.read_bytes()
    place = content.index(tiny_files[file]) + 500
    path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    assert refusal(lambda: load(path)).startswith(f"{path}: {file}: is damaged (")


def test_a_huge_member_is_not_unpacked(tiny_zip, refusal, monkeypatch):
    monkeypatch.setattr(tiny_imagenet, "MAX_FILE_BYTES", 1_000_000)
    path = tiny_zip({"words.txt": bytes(1_000_001)})
    assert refusal(lambda: load(path)) == f"{path}: words.txt: holds more than 1 MB; download the archive again"


def test_an_unpacked_archive_without_a_file_is_refused(tiny_folder, tmp_path, refusal):
    root = tmp_path / "tiny-imagenet-200"
    (root / "train").mkdir(parents=True)
    assert refusal(lambda: load(root)) == f"{root}: lacks wnids.txt; copy or unpack it again"
    shutil.copy(tiny_folder / "tiny-imagenet-200" / "wnids.txt", root)
    assert refusal(lambda: load(root)) == f"{root}: lacks words.txt; copy or unpack it again"


def test_a_zip_that_is_missing_is_refused_instead_of_downloaded(tmp_path, refusal):
    path = tmp_path / "tiny-imagenet-200.zip"
    assert refusal(lambda: load(path)) == f"{path}: no such file (data.path)"
