"""npz files: what is read from them, and what is refused."""

import io
import logging
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgnas.search.data import npz
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


def test_names_of_classes_may_be_bytes(write_npz, numbered):
    train = numbered([5, 6])
    names = np.array(["caf\u00e9".encode(), b"cat"])
    path = write_npz(train_images=train.images, train_labels=train.labels, classes=names)
    assert load_file(path).class_names == ("caf\u00e9", "cat")


def test_a_file_in_the_format_of_medmnist_brings_its_validation_images(write_npz, numbered, numbers, caplog):
    """n x h x w x 3 images and n x 1 labels of three splits."""
    splits = {
        name: numbered(counts, channels=3) for name, counts in (("train", [6, 5]), ("val", [1, 2]), ("test", [2, 2]))
    }
    images = {f"{name}_images": split.images.transpose(0, 2, 3, 1) for name, split in splits.items()}
    labels = {f"{name}_labels": split.labels[:, None].astype(np.uint8) for name, split in splits.items()}
    path = write_npz(**images, **labels)
    with caplog.at_level(logging.INFO):
        dataset = load_dataset(DataSettings(name="npz", path=path, validation_fraction=0.5))
    for name, part in (("train", dataset.train), ("val", dataset.validation), ("test", dataset.test)):
        assert np.array_equal(part.images, splits[name].images)
        assert np.array_equal(part.labels, splits[name].labels)
    assert dataset.own_validation
    assert "it brings 3 validation images, so none are held out" in caplog.messages
    ignored = f"data.validation_fraction has no effect, because {path} brings 3 validation images of its own"
    assert caplog.messages.count(ignored) == 1
    caplog.clear()
    load_dataset(DataSettings(name="npz", path=path))
    assert caplog.messages == []
    # A subset is one of the training images alone, and may have one image of a class.
    subset = load_dataset(DataSettings(name="npz", path=path, train_images=2))
    assert sorted(subset.train.labels) == [0, 1]
    assert np.array_equal(numbers(subset.validation), [0, 1, 2])


def test_validation_images_of_the_file_are_reduced_as_the_others_are(write_npz, numbered):
    train = numbered([3, 3], size=16)
    arrays = {f"{name}_{kind}": getattr(train, kind) for name in ("train", "val") for kind in ("images", "labels")}
    dataset = load_dataset(DataSettings(name="npz", path=write_npz(**arrays), image_size=8))
    assert np.array_equal(dataset.train.images, dataset.validation.images)
    assert dataset.validation.shape == (6, 1, 8, 8)


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


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        (changed(train_labels=np.eye(10, dtype=int)), "; the labels are one-hot, so store train_labels.argmax(axis=1)"),
        (changed(train_labels=np.eye(10) > 0), "; the labels are one-hot, so store train_labels.argmax(axis=1)"),
        (changed(train_labels=np.full((10, 2), 0.5)), "; the labels are shares of the classes, so store train_labels."),
        (changed(train_labels=np.ones((10, 14), np.uint8)), "; several labels an image are not supported, every image"),
        (changed(train_labels=np.full((10, 2), 7)), "; several labels an image are not supported, every image has one"),
        (changed(train_labels=np.repeat([0.0, 1.0], 5)), "; store train_labels.astype(numpy.int64)"),
        (changed(train_labels=np.repeat([False, True], 5)), "; store train_labels.astype(numpy.int64)"),
        (changed(train_labels=np.repeat(["a", "b"], 5)), "; for names store numpy.unique(train_labels, return_inverse"),
        (changed(train_labels=np.repeat([0.5, 1.0], 5)), "expected 10 whole numbers"),
        (changed(train_images=np.zeros((10, 8, 8))), "store (255 * train_images).round().astype(numpy.uint8) if the"),
        (changed(train_images=np.zeros((10, 8, 8), int)), "store train_images.astype(numpy.uint8)"),
        (
            changed(train_labels=np.zeros(10, int)),
            "train_labels: there is one class only; a classifier needs at least 2",
        ),
        (changed(val_images=np.zeros((2, 8, 8), np.uint8)), "val_images and val_labels: give both or neither"),
        (changed(val_labels=np.array([0, 1])), "val_images and val_labels: give both or neither"),
        (
            changed(val_images=np.zeros((2, 8, 8), np.uint8), val_labels=np.array([0, 2])),
            "val_labels: class 2 never occurs in train_labels",
        ),
        (
            changed(val_images=np.zeros((2, 9, 9), np.uint8), val_labels=np.array([0, 1])),
            "val_images: (1, 9, 9) differs from the training images' shape, (1, 8, 8)",
        ),
        (
            changed(val_image=np.zeros((2, 8, 8), np.uint8), val_label=np.array([0, 1])),
            "val_image, val_label: unknown arrays; known are train_images, train_labels, val_images, val_labels, test",
        ),
        (changed(Val_Images=np.zeros(3)), "did you mean val_images?"),
        (changed(weights=np.zeros(3)), "weights: unknown arrays; known are"),
        (changed(classes=np.array([b"caf\xe9", b"cat"])), "classes: holds names that are not UTF-8; store text (str)"),
        (changed(classes=np.array(["cat", "cat"])), "classes: cat stands 2 times; every class needs its own name"),
        (changed(classes=np.array([0.5, 1.5])), "classes: holds float64; expected text: store classes.astype(str)"),
        (
            changed(classes=np.array(["a", "b"], object)),
            "classes is an array of Python objects); store classes.astype(str)",
        ),
        (changed(train_labels=np.array([0, 1] * 5, object)), "store train_labels.astype(numpy.int64); images must"),
        (changed(train_images=np.zeros((10, 8, 8), object)), "store train_images.astype(numpy.uint8); images must"),
    ],
)
def test_what_is_wrong_with_an_array_comes_with_a_remedy(write_npz, refusal, arrays, expected):
    path = write_npz(**arrays)
    message = refusal(lambda: load_file(path))
    assert message.startswith(f"{path}: ")
    assert expected in message


@pytest.mark.parametrize("content", ["notes.txt", "train_images.npy", "a\nb.npy"])
def test_members_that_are_no_arrays_or_stand_twice_are_refused(write_npz, refusal, content):
    path = write_npz(**changed())
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of the second one of its name.
        archive.writestr(content, b"hello")
    message = refusal(lambda: load_file(path))
    name = content.removesuffix(".npy")
    expected = "train_images: stands twice" if name == "train_images" else f"{ascii(name)[1:-1]}: unknown arrays"
    assert message.startswith(f"{path}: {expected}")


def load_file(path):
    return load_dataset(DataSettings(name="npz", path=str(path)))


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
def test_a_damaged_npz_is_refused_if_it_cannot_be_read(new_path, outcome, content, share, flipped):
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


@pytest.mark.parametrize("count", [11, 10**9, 10**12, 10**18, -1])
def test_an_array_that_claims_more_images_than_the_file_holds_is_refused(tmp_path, refusal, count):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|u1", "fortran_order": False, "shape": (count, 8, 8)})
    path = tmp_path / "images.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_images.npy", content.getvalue() + bytes(640))
        labels = io.BytesIO()
        np.save(labels, np.repeat([0, 1], 5))
        archive.writestr("train_labels.npy", labels.getvalue())
    assert refusal(lambda: load_file(path)).startswith(f"{path}: not a readable npz file (")


def test_arrays_that_the_memory_cannot_hold_are_refused_before_they_are_unpacked(write_npz, refusal, monkeypatch):
    path = write_npz(**changed())
    monkeypatch.setattr(npz, "usable_memory", lambda: 600)
    assert refusal(lambda: load_file(path)).startswith(f"{path}: holds 0.0 GB of arrays, and there are 0.0 GB")


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


KEYS = st.sampled_from(
    ["train_images", "train_labels", "val_images", "val_labels", "test_images", "classes", "x", "\n"]
)
DTYPES = st.sampled_from(
    [np.uint8, np.int64, np.uint64, np.int8, bool, np.float32, "U3", "S3", "m8[s]", "M8[s]", "c8", "V4", "O"]
)
SHAPES = st.one_of(
    st.lists(st.integers(0, 12), max_size=5).map(tuple),
    st.sampled_from([(4, 8, 8), (4, 8, 8, 3), (4, 3, 8, 8), (4,), (4, 1), (4, 2), (2,), (4, 8, 8, 4)]),
)


@settings(max_examples=200)
@given(
    kinds=st.dictionaries(KEYS, st.tuples(DTYPES, SHAPES, st.integers(0, 3)), max_size=5),
    fine=st.sets(st.sampled_from(["train_images", "train_labels"])),
)
def test_any_arrays_are_read_or_refused_in_one_line(write_npz, outcome, kinds, fine):
    rng = np.random.default_rng(0)
    arrays = {
        key: rng.integers(0, high + 1, shape).astype("m8[s]" if dtype == "m8[s]" else "U3" if dtype == "V4" else dtype)
        for key, (dtype, shape, high) in kinds.items()
    }
    good = {"train_images": rng.integers(0, 256, (4, 8, 8), dtype=np.uint8), "train_labels": np.array([0, 1, 1, 0])}
    path = write_npz(**(arrays | {key: good[key] for key in fine}))
    text = outcome(lambda: load_file(path))
    assert text == "fine" or text.startswith(f"{path}: ")
    assert len(text.splitlines()) == 1
    assert len(text) < 600
