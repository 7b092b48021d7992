"""npz files: what is read from them, and what is refused."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.errors import UserError
from mgnas.search.data.dataset import DataSettings, load_dataset


@pytest.mark.parametrize(
    ("channels", "stored"),
    [
        pytest.param(1, lambda images: images[:, 0], id="n h w"),
        pytest.param(1, lambda images: images.transpose(0, 2, 3, 1), id="n h w 1"),
        pytest.param(3, lambda images: images.transpose(0, 2, 3, 1), id="n h w 3"),
        pytest.param(1, lambda images: images, id="n 1 h w"),
        pytest.param(3, lambda images: images, id="n 3 h w"),
    ],
)
@pytest.mark.parametrize(
    "labels", [lambda labels: labels, lambda labels: labels[:, None].astype(np.uint8)], ids=["n", "n x 1"]
)
def test_every_layout_of_an_npz_file_gives_the_same_images(write_npz, numbered, numbers, channels, stored, labels):
    train, test = numbered([12, 13], channels=channels), numbered([4, 3], channels=channels)
    path = write_npz(
        train_images=stored(train.images),
        train_labels=labels(train.labels),
        test_images=stored(test.images),
        test_labels=labels(test.labels),
    )
    dataset = load_dataset(DataSettings(name="npz", path=path))
    used = dataset.train + dataset.validation
    order = np.argsort(numbers(used))
    assert np.array_equal(used.images[order], train.images)
    assert np.array_equal(used.labels[order], train.labels)
    assert np.array_equal(dataset.test.images, test.images)
    assert np.array_equal(dataset.test.labels, test.labels)
    assert dataset.test.labels.dtype == np.int64
    assert (dataset.num_classes, dataset.in_channels, dataset.image_size) == (2, channels, 8)


def test_a_set_that_is_downloaded_can_come_from_an_npz_file(numbered, numbers, write_npz):
    train = numbered([2] * 10, size=28)
    path = write_npz(train_images=train.images, train_labels=train.labels)
    dataset = load_dataset(DataSettings(name="fashion_mnist", path=path))
    assert np.array_equal(np.sort(numbers(dataset.train + dataset.validation)), np.arange(20))


@pytest.mark.parametrize(("counts", "size", "channels"), [([2] * 9, 32, 3), ([2] * 10, 28, 3), ([2] * 10, 32, 1)])
def test_an_npz_file_with_other_images_than_its_name_says_is_refused(
    numbered, write_npz, refusal, counts, size, channels
):
    train = numbered(counts, size, channels)
    path = write_npz(train_images=train.images, train_labels=train.labels)
    message = refusal(lambda: load_dataset(DataSettings(name="cifar10", path=path)))
    holds = f"it holds {len(counts)} classes, {channels} channels, {size} pixels"
    assert message == f"{path}: is not cifar10: {holds}; use data: {{name: npz}} for other images"


def test_classes_have_the_names_in_the_file_or_their_numbers(write_npz, numbered):
    train = numbered([5, 6])
    arrays = {"train_images": train.images, "train_labels": train.labels}
    named = load_dataset(DataSettings(name="npz", path=write_npz(**arrays, classes=np.array(["cat", "dog"]))))
    assert named.class_names == ("cat", "dog")
    assert load_dataset(DataSettings(name="npz", path=write_npz(**arrays))).class_names == ("0", "1")


def test_tiny_imagenet_can_come_from_an_npz_file(numbered, write_npz, refusal):
    train = numbered([2] * 200, size=64, channels=3)
    path = write_npz(train_images=train.images, train_labels=train.labels)
    assert load_dataset(DataSettings(name="tinyimagenet", path=path)).num_classes == 200
    assert f"{path}: is not cifar10" in refusal(lambda: load_dataset(DataSettings(name="cifar10", path=path)))


# --------------------------------------------------------------------------------------------------------------- errors


def changed(**arrays):
    """Ten fine images of two classes, with single arrays replaced; None leaves one out."""
    fine = {"train_images": np.zeros((10, 8, 8), np.uint8), "train_labels": np.repeat([0, 1], 5)}
    return {key: value for key, value in (fine | arrays).items() if value is not None}


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (changed(train_images=None), "train_images: is missing"),
        (changed(train_labels=None), "train_labels: is missing"),
        (changed(test_images=np.zeros((2, 8, 8), np.uint8)), "test_images and test_labels: give both"),
        (changed(test_labels=np.array([0, 1])), "test_images and test_labels: give both"),
        (changed(train_images=np.zeros((10, 8, 8))), "train_images: holds float64; expected uint8"),
        (changed(train_images=np.zeros((10, 8, 9), np.uint8)), "train_images: has shape (10, 1, 8, 9)"),
        (changed(train_images=np.zeros((10, 7, 7), np.uint8)), "train_images: has shape (10, 1, 7, 7)"),
        (changed(train_images=np.zeros((10, 2, 8, 8), np.uint8)), "train_images: has shape (10, 2, 8, 8)"),
        (changed(train_images=np.zeros((10, 64), np.uint8)), "train_images: has shape (10, 64)"),
        (changed(train_images=np.zeros((0, 8, 8), np.uint8)), "train_images: has shape (0, 1, 8, 8)"),
        (changed(train_labels=np.repeat([0, 1], 6)), "train_labels: has shape (12,)"),
        (changed(train_labels=np.eye(10, dtype=int)), "train_labels: has shape (10, 10)"),
        (changed(train_labels=np.repeat([0.0, 1.0], 5)), "train_labels: has shape (10,) of float64"),
        (changed(train_labels=np.repeat([-1, 1], 5)), "train_labels: run from -1 to 1"),
        (changed(train_labels=np.repeat([0, 65536], 5)), "train_labels: run from 0 to 65536"),
        (changed(train_labels=np.repeat([0, 2], 5)), "train_labels: class 1 has 0 images"),
        (changed(train_labels=np.array([0] * 9 + [1])), "train_labels: class 1 has 1 images"),
        (changed(classes=np.array(["a", "b", "c"])), "classes: has shape (3,); expected the 2 classes' names"),
        (
            changed(test_images=np.zeros((2, 8, 8), np.uint8), test_labels=np.array([0, 2])),
            "test_labels: class 2 never occurs in train_labels",
        ),
        (
            changed(test_images=np.zeros((2, 9, 9), np.uint8), test_labels=np.array([0, 1])),
            "test_images: (1, 9, 9) differs",
        ),
        (
            changed(test_images=np.zeros((2, 8, 8, 3), np.uint8), test_labels=np.array([0, 1])),
            "test_images: (3, 8, 8) differs",
        ),
    ],
)
def test_unusable_arrays_are_refused_by_file_and_key(write_npz, refusal, arrays, problem):
    path = write_npz(**arrays)
    message = refusal(lambda: load_dataset(DataSettings(name="npz", path=path)))
    assert message.startswith(f"{path}: {problem}")


def load_file(path):
    return load_dataset(DataSettings(name="npz", path=str(path)))


def outcome(call) -> str:
    """The message of the UserError, if there is one; nothing else may be raised."""
    try:
        call()
    except UserError as error:
        return str(error)
    return "fine"


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", pickle.dumps([1, 2])])
def test_a_file_that_is_no_npz_is_refused(tmp_path, refusal, content):
    path = tmp_path / "images.npz"
    path.write_bytes(content)
    assert refusal(lambda: load_file(path)).startswith(f"{path}: not a readable npz file")


def test_a_single_array_is_no_npz(tmp_path, refusal):
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((10, 8, 8), np.uint8))
    assert refusal(lambda: load_file(path)).startswith(f"{path}: not a readable npz file")


def test_a_missing_file_and_a_folder_are_refused(tmp_path, refusal):
    assert refusal(lambda: load_file(tmp_path / "none.npz")) == f"{tmp_path / 'none.npz'}: no such file (data.path)"
    assert refusal(lambda: load_file(tmp_path)).startswith(f"{tmp_path}: not a readable npz file")


def npz_bytes(save) -> bytes:
    file = io.BytesIO()
    save(file, train_images=np.arange(640, dtype=np.uint8).reshape(10, 8, 8) // 4, train_labels=np.repeat([0, 1], 5))
    return file.getvalue()


COMPRESSED, PLAIN = npz_bytes(np.savez_compressed), npz_bytes(np.savez)


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_npz_is_refused(new_path, refusal, share):
    path = new_path("images.npz")
    path.write_bytes(PLAIN[: int(share * len(PLAIN))])
    assert refusal(lambda: load_file(path)).startswith(f"{path}: not a readable npz file")


@pytest.mark.parametrize("content", [PLAIN, COMPRESSED], ids=["plain", "compressed"])
@given(share=st.floats(0, 1, exclude_max=True), flipped=st.integers(1, 255))
def test_a_damaged_npz_is_refused_if_it_cannot_be_read(new_path, content, share, flipped):
    place = int(share * len(content))
    path = new_path("images.npz")
    path.write_bytes(content[:place] + bytes([content[place] ^ flipped]) + content[place + 1 :])
    assert len(outcome(lambda: load_file(path)).splitlines()) == 1


def test_a_damaged_compressed_array_is_refused(tmp_path, refusal):
    path = tmp_path / "images.npz"
    # After the local header (30 bytes, the name train_images.npy and 20 bytes of zip64 sizes) the deflated data begin.
    start = COMPRESSED.index(b"train_images.npy") + 16 + 20
    path.write_bytes(COMPRESSED[:start] + b"\xff" * 16 + COMPRESSED[start + 16 :])
    assert refusal(lambda: load_file(path)).startswith(f"{path}: not a readable npz file")


class Touch:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_objects_in_an_npz_are_never_loaded(tmp_path, write_npz, refusal):
    trace = tmp_path / "unpickled"
    path = write_npz(train_images=np.array([Touch(trace)] * 4), train_labels=np.array([0, 0, 1, 1]))
    assert refusal(lambda: load_file(path)).startswith(f"{path}: not a readable npz file")
    assert not trace.exists()
    # The trap works: numpy would have sprung it.
    np.load(path, allow_pickle=True)["train_images"]
    assert trace.exists()
