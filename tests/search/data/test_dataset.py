"""Data sets: what is read, how it is split, and what is refused."""

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
def test_the_split_is_exact_disjoint_and_within_one_image_per_class(npz, numbered, numbers, counts, fraction, seed):
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
def test_any_number_of_training_images_is_taken_unless_a_class_would_be_without(npz, numbered, numbers, counts, data):
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


# ----------------------------------------------------------------------------------------------------- shapes and sizes


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


@pytest.mark.parametrize("size", [9, 16, 48])
def test_a_size_that_does_not_divide_is_refused_with_those_that_do(npz, numbered, refusal, size):
    message = refusal(lambda: npz(numbered([5, 5], size=24), image_size=size))
    assert message == f"data.image_size: {size} does not divide the images' 24 pixels; use one of 8, 12, 24"


def test_test_images_may_be_missing(npz, numbered):
    assert npz(numbered([5, 5])).test is None


@pytest.mark.parametrize("values", [{"name": "npz"}, {"name": "digits", "path": "images.npz"}])
def test_a_path_that_is_missing_or_without_effect_is_refused(values):
    with pytest.raises(ConfigError) as caught:
        build(DataSettings, values, "data")
    assert caught.value.key == "data.path"
