"""Crops, mirror images and cutout, compared with what they are defined to be."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.training.augmentation import cutout, mirror, random_crop


def crops_of(image: np.ndarray, padding: int) -> list[np.ndarray]:
    """All crops of one c x h x w image out of itself padded by reflection."""
    height, width = image.shape[1:]
    padded = np.pad(image, [(0, 0), (padding, padding), (padding, padding)], mode="reflect")
    corners = [(row, column) for row in range(2 * padding + 1) for column in range(2 * padding + 1)]
    return [padded[:, row : row + height, column : column + width] for row, column in corners]


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(2, 9), st.integers(2, 9)),
    padding=st.integers(0, 12),
    seed=st.integers(0, 1000),
)
def test_a_random_crop_is_a_window_of_the_reflected_image(shape, padding, seed):
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    cut = random_crop(images, padding, torch.Generator().manual_seed(seed))
    assert cut.dtype == torch.uint8
    assert cut.shape == images.shape
    reach = min(padding, shape[2] - 1, shape[3] - 1)
    for image, result in zip(images.numpy(), cut.numpy(), strict=True):
        assert any(np.array_equal(result, crop) for crop in crops_of(image, reach))


@pytest.mark.parametrize(("size", "padding", "reach"), [(8, 1, 1), (8, 2, 2), (3, 9, 2)])
def test_every_crop_occurs_and_each_image_has_its_own(size, padding, reach):
    image = np.arange(size**2, dtype=np.uint8).reshape(1, size, size)
    images = torch.from_numpy(image).expand(400, 1, size, size)
    cut = random_crop(images, padding, torch.Generator().manual_seed(0)).numpy()
    assert {crop.tobytes() for crop in cut} == {crop.tobytes() for crop in crops_of(image, reach)}


def test_a_crop_without_padding_is_the_image():
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(random_crop(images, 0, torch.Generator()), images)


def test_crops_are_fixed_by_the_generator():
    images = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8)
    first, again, other = (random_crop(images, 2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_only_the_chosen_images_are_mirrored():
    images = torch.arange(24, dtype=torch.uint8).reshape(2, 1, 3, 4)
    mirrored = mirror(images, torch.tensor([False, True]))
    assert torch.equal(mirrored[0], images[0])
    assert mirrored[1, 0].tolist() == [row[::-1] for row in images[1, 0].tolist()]


@given(size=st.integers(1, 12), seed=st.integers(0, 100))
def test_cutout_blanks_one_square_around_a_pixel_of_each_image(size, seed):
    images = torch.ones(20, 2, 8, 9)
    cutout(images, size, torch.Generator().manual_seed(seed))
    for image in images:
        assert torch.equal(image[0], image[1])
        rows, columns = np.nonzero(image[0].numpy() == 0)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width
        # A square that begins inside and ends inside is whole.
        assert height == size or rows.min() == 0 or rows.max() == 7
        assert width == size or columns.min() == 0 or columns.max() == 8
        assert height <= size
        assert width <= size


def test_cutout_reaches_every_pixel():
    images = torch.ones(2000, 1, 8, 8)
    cutout(images, 1, torch.Generator().manual_seed(0))
    assert (images == 0).sum(dim=(1, 2, 3)).tolist() == [1] * 2000
    assert (images == 0).any(dim=0).all()
