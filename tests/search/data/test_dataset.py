"""Data sets: what is read, how it is split, and what is refused."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mgnas.errors import ConfigError, UserError
from mgnas.search.data.dataset import DataSettings, ImageDataset, data_shape, load_dataset
from mgnas.settings import build

# scikit-learn's digits run from 0 to 16; rounded i * 255 / 16, halves to even.
GREYS = np.array([0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255])


def rows(images: np.ndarray) -> list[tuple]:
    """The images as a multiset that does not depend on their order."""
    return sorted(map(tuple, images.reshape(len(images), -1)))


def numbers(part: ImageDataset) -> np.ndarray:
    """Which of the numbered images these are."""
    return part.images[:, 0, 0, :2].astype(int) @ (256, 1)


def digits(**values):
    return load_dataset(DataSettings(name="digits", **values))


@pytest.fixture(scope="session")
def npz(write_npz):
    """Images and settings -> the data set read from a new npz file."""

    def load(train: ImageDataset, test: ImageDataset | None = None, **values):
        arrays = {"train_images": train.images, "train_labels": train.labels}
        if test is not None:
            arrays |= {"test_images": test.images, "test_labels": test.labels}
        return load_dataset(DataSettings(name="npz", path=write_npz(**arrays), **values))

    return load


# --------------------------------------------------------------------------------------------------------------- digits


def test_digits_come_as_uint8_images_and_int64_labels():
    dataset = digits()
    for part, count in ((dataset.train, 1150), (dataset.validation, 287), (dataset.test, 360)):
        assert part.images.shape == (count, 1, 8, 8)
        assert part.images.dtype == np.uint8
        assert part.labels.shape == (count,)
        assert part.labels.dtype == np.int64
    assert (dataset.num_classes, dataset.in_channels, dataset.image_size) == (10, 1, 8)


def test_the_three_parts_of_digits_are_scikit_learns_images_each_once():
    from sklearn.datasets import load_digits

    original, dataset = load_digits(), digits()
    together = dataset.train + dataset.validation + dataset.test
    labelled = np.concatenate([together.images.reshape(-1, 64), together.labels[:, None]], axis=1)
    expected = np.concatenate([GREYS[original.data.astype(int)], original.target[:, None]], axis=1)
    assert rows(labelled) == rows(expected)


def test_digits_are_stratified_within_one_image_per_class():
    dataset = digits(validation_fraction=0.3, split_seed=3)
    train, validation, test = (np.bincount(part.labels) for part in (dataset.train, dataset.validation, dataset.test))
    assert np.abs(validation - (train + validation) * 431 / 1437).max() <= 1
    assert np.abs(test - (train + validation + test) * 360 / 1797).max() <= 1


def test_the_test_part_does_not_depend_on_the_split():
    first, second = digits(), digits(validation_fraction=0.5, split_seed=7, train_images=200)
    assert np.array_equal(first.test.images, second.test.images)
    assert np.array_equal(first.test.labels, second.test.labels)


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    first = digits(split_seed=1)
    load_dataset.cache_clear()
    again, other = digits(split_seed=1), digits(split_seed=2)
    assert np.array_equal(first.validation.images, again.validation.images)
    assert rows(first.validation.images) != rows(other.validation.images)


def test_a_process_reads_a_data_set_once():
    assert digits(split_seed=4) is digits(split_seed=4)


# ---------------------------------------------------------------------------------------------------------------- split


@settings(max_examples=50)
@given(
    counts=st.lists(st.integers(5, 40), min_size=2, max_size=4),
    fraction=st.floats(0.05, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_split_is_exact_disjoint_and_within_one_image_per_class(npz, numbered, counts, fraction, seed):
    train = numbered(counts)
    dataset = npz(train, validation_fraction=fraction, split_seed=seed)
    kept, held_out = numbers(dataset.train), numbers(dataset.validation)
    assert np.array_equal(np.sort(np.concatenate([kept, held_out])), np.arange(len(train)))
    assert len(held_out) == max(round(fraction * len(train)), len(counts))
    quotas = np.array(counts) * len(held_out) / len(train)
    shares = np.bincount(dataset.validation.labels, minlength=len(counts))
    # A class whose share is under one image still gets one, at the cost of the others.
    assert np.abs(shares - quotas).max() <= 1 or quotas.min() < 1
    assert shares.min() >= 1
    for part in (dataset.train, dataset.validation):
        assert (np.diff(numbers(part)) > 0).all()
        assert np.array_equal(part.labels, train.labels[numbers(part)])
        assert np.array_equal(part.images, train.images[numbers(part)])


@settings(max_examples=50)
@given(counts=st.lists(st.integers(2, 60), min_size=2, max_size=4), fraction=st.floats(0.05, 0.95))
@example(counts=[98, 2], fraction=0.8)
@example(counts=[98, 2], fraction=0.1)
def test_a_split_gives_both_parts_an_image_of_every_class_or_is_refused(npz, numbered, counts, fraction):
    train, classes = numbered(counts), len(counts)
    held_out = max(round(fraction * len(train)), classes)
    if len(train) - held_out < classes:
        with pytest.raises(UserError, match=r"data\.validation_fraction"):
            npz(train, validation_fraction=fraction)
        return
    dataset = npz(train, validation_fraction=fraction)
    assert len(dataset.validation) == held_out
    for part in (dataset.train, dataset.validation):
        assert np.bincount(part.labels, minlength=classes).min() >= 1


@settings(max_examples=50)
@given(counts=st.lists(st.integers(2, 60), min_size=2, max_size=4), data=st.data())
def test_any_number_of_training_images_is_taken_unless_a_class_would_be_without(npz, numbered, counts, data):
    train, classes = numbered(counts), len(counts)
    wanted = data.draw(st.integers(1, len(train) + 1), label="train_images")
    if wanted < min(2 * classes, len(train)):
        with pytest.raises(UserError, match=r"data\.train_images"):
            npz(train, train_images=wanted)
        return
    dataset = npz(train, train_images=wanted)
    used = numbers(dataset.train + dataset.validation)
    assert len(set(used)) == len(used) == min(wanted, len(train))
    for part in (dataset.train, dataset.validation):
        assert np.bincount(part.labels, minlength=classes).min() >= 1


def test_all_training_images_but_one_can_be_used():
    dataset = digits(train_images=1436)
    assert len(dataset.train) + len(dataset.validation) == 1436


def test_a_subset_of_the_training_images_keeps_the_share_of_every_class():
    everything, subset = digits(), digits(train_images=500)
    used = subset.train + subset.validation
    available = everything.train + everything.validation
    assert len(used) == 500
    assert set(rows(used.images)) <= set(rows(available.images))
    assert np.abs(np.bincount(used.labels) - np.bincount(available.labels) * 500 / 1437).max() <= 1


def test_more_training_images_than_there_are_means_all():
    assert len(digits(train_images=10_000).train) == 1150


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"train_images": 19}, "data.train_images"), ({"validation_fraction": 0.999}, "data.validation_fraction")],
)
def test_a_class_without_images_is_refused(refusal, changes, key):
    assert refusal(lambda: digits(**changes)).startswith(f"{key}: ")


def test_a_split_seed_beyond_the_generators_range_is_refused(refusal):
    message = refusal(lambda: load_dataset(build(DataSettings, {"name": "digits", "split_seed": 2**32}, "data")))
    assert "split_seed" in message


# ------------------------------------------------------------------------------------------------------------------ npz


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
def test_every_layout_of_an_npz_file_gives_the_same_images(write_npz, numbered, channels, stored, labels):
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


def test_a_set_that_is_downloaded_can_come_from_an_npz_file(numbered, write_npz):
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


def test_test_images_may_be_missing(npz, numbered):
    assert npz(numbered([5, 5])).test is None


def test_reduction_means_over_blocks(npz, numbered):
    labels = np.repeat([0, 1], 5)
    images = np.zeros((10, 3, 16, 16), dtype=np.uint8)
    images[:, 0, :2, :2] = [[0, 1], [2, 4]]  # mean 1.75
    images[:, 0, :2, 2:4] = 255
    images[:, 0, 2:4, :2] = [[0, 0], [1, 0]]  # mean 0.25
    images[:, 1, 14:, 14:] = [[200, 100], [50, 51]]  # mean 100.25
    expected = np.zeros((3, 8, 8), dtype=np.uint8)
    expected[0, 0, 0], expected[0, 0, 1], expected[0, 1, 0], expected[1, 7, 7] = 2, 255, 0, 100
    dataset = npz(ImageDataset(images, labels), ImageDataset(images, labels), image_size=8)
    for part in (dataset.train, dataset.validation, dataset.test):
        assert part.images.dtype == np.uint8
        assert (part.images == expected).all()


def test_reduction_by_three(npz):
    image = np.kron(np.arange(64).reshape(8, 8), np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2]])).astype(np.uint8)
    images = ImageDataset(np.tile(image, (10, 1, 1, 1)), np.repeat([0, 1], 5))
    assert (npz(images, image_size=8).train.images == np.arange(64).reshape(8, 8)).all()


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ({"name": "digits"}, (10, 1, 8)),
        ({"name": "cifar10"}, (10, 3, 32)),
        ({"name": "cifar100", "image_size": 16}, (100, 3, 16)),
        ({"name": "fashion_mnist", "image_size": 14}, (10, 1, 14)),
    ],
)
def test_shapes_of_known_sets_need_no_download(values, shape):
    assert data_shape(DataSettings(**values)) == shape


def test_the_shape_of_an_npz_file_is_read_from_it(write_npz, numbered):
    train = numbered([5, 6, 7], size=16, channels=3)
    path = write_npz(train_images=train.images, train_labels=train.labels)
    assert data_shape(DataSettings(name="npz", path=path, image_size=8)) == (3, 3, 8)


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


@pytest.mark.parametrize("size", [9, 16, 48])
def test_a_size_that_does_not_divide_is_refused_with_those_that_do(npz, numbered, refusal, size):
    message = refusal(lambda: npz(numbered([5, 5], size=24), image_size=size))
    assert message == f"data.image_size: {size} does not divide the images' 24 pixels; use one of 8, 12, 24"


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


@pytest.mark.parametrize("values", [{"name": "npz"}, {"name": "digits", "path": "images.npz"}])
def test_a_path_that_is_missing_or_without_effect_is_refused(values):
    with pytest.raises(ConfigError) as caught:
        build(DataSettings, values, "data")
    assert caught.value.key == "data.path"
