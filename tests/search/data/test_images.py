"""Images as indices into an array: what they show, and what they copy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mgnas.search.data.images import ImageDataset, pixel_sums


@pytest.fixture
def three_of_ten(numbered):
    """Ten images as an array, and the images 7, 2 and 5 of them."""
    everything = numbered([4, 6], channels=3)
    indices = np.array([7, 2, 5])
    return everything.images, ImageDataset(everything.images, everything.labels[indices], indices)


def test_images_are_those_of_the_indices_in_their_order(three_of_ten):
    array, part = three_of_ten
    assert len(part) == 3
    assert part.shape == (3, 3, 8, 8)
    assert np.array_equal(part.images, array[[7, 2, 5]])


@pytest.mark.parametrize(
    ("which", "expected"),
    [(np.array([2, 0, 2]), [5, 7, 5]), (slice(1, 3), [2, 5]), (slice(2, 99), [5]), (np.array([], int), [])],
)
def test_gathered_images_are_a_copy_of_those_asked_for(three_of_ten, which, expected):
    array, part = three_of_ten
    before, gathered = array.copy(), part.gather(which)
    assert np.array_equal(gathered, array[expected])
    gathered[:] = 0
    assert np.array_equal(array, before)


@pytest.mark.parametrize("which", [np.array([3, 1]), slice(2, 4)])
def test_images_in_an_array_of_their_own_are_copied_when_gathered(numbered, which):
    part = numbered([5, 5])
    gathered = part.gather(which)
    assert np.array_equal(gathered, part.images[which])
    assert not np.shares_memory(gathered, part.images)


def test_a_subset_of_a_subset_is_in_ascending_order_of_its_indices(three_of_ten):
    array, part = three_of_ten
    taken = part.take(np.array([2, 0]))
    assert np.array_equal(taken.images, array[[7, 5]])
    assert np.array_equal(taken.labels, part.labels[[0, 2]])


def test_two_parts_of_an_array_are_added_without_copying_it(numbered):
    everything = numbered([4, 6])
    array = everything.images
    first, second = everything.take(np.array([1, 3])), everything.take(np.array([0]))
    both = first + second
    assert np.array_equal(both.images, array[[1, 3, 0]])
    assert np.array_equal(both.labels, everything.labels[[1, 3, 0]])
    # A change in the array shows in all that see it.
    array[3] = 77
    assert (both.gather(np.array([1])) == 77).all()


def test_images_of_different_arrays_can_be_added(numbered):
    first, second = numbered([4, 6]).take(np.array([1, 3])), numbered([2, 2])
    both = first + second
    assert np.array_equal(both.images, np.concatenate([first.images, second.images]))
    assert np.array_equal(both.labels, np.concatenate([first.labels, second.labels]))
    assert both.mean_std()[0] == pytest.approx(both.images.mean() / 255)


def test_the_largest_class_is_known_by_its_share(numbered):
    assert numbered([2, 5, 1]).largest_class() == (1, 5 / 8)
    assert numbered([3, 3]).largest_class() == (0, 0.5)


@pytest.mark.parametrize("known", [True, False])
def test_images_are_equal_only_if_every_pixel_is(known):
    images = np.random.default_rng(0).integers(0, 256, (1, 1, 8, 8), dtype=np.uint8).repeat(600, axis=0)
    # The same pixels in another order: sums do not tell them apart.
    images[577] = images[577, :, ::-1]
    sums = pixel_sums(images) if known else None
    assert not ImageDataset(images, np.zeros(600, int), sums=sums).all_equal()
    others = np.delete(np.arange(600), 577)
    assert ImageDataset(images, np.zeros(599, int), others, sums).all_equal()


@given(
    images=arrays(np.uint8, st.tuples(st.integers(1, 6), st.sampled_from([1, 3]), st.just(3), st.just(3))),
    known=st.booleans(),
    data=st.data(),
)
def test_mean_and_deviation_are_those_of_the_chosen_pixels(images, known, data):
    indices = np.array(data.draw(st.lists(st.integers(0, len(images) - 1), min_size=1, max_size=8)))
    part = ImageDataset(images, np.zeros(len(indices), int), indices, pixel_sums(images) if known else None)
    mean, std = part.mean_std()
    pixels = images[indices] / 255
    assert mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-12)
    assert std == pytest.approx(pixels.std(axis=(0, 2, 3), ddof=1), abs=1e-12)


def test_the_mean_of_many_images_does_not_overflow():
    # 300 images, so more than one chunk; all pixels 255 but those of one channel of one image.
    images = np.full((300, 3, 64, 64), 255, np.uint8)
    images[7, 1] = 0
    mean, std = ImageDataset(images, np.zeros(300, int)).mean_std()
    assert mean.tolist() == [1, 299 / 300, 1]
    n = 300 * 64 * 64
    assert std == pytest.approx([0, np.sqrt(299 / 300**2 * n / (n - 1)), 0], abs=1e-15)
