"""Crops, mirror images and cutout, compared with what they are defined to be."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.training.augmentation import Augmentation, crop_table, cutout_table
from mgnas.space import TrainingSettings

CPU = torch.device("cpu")


def augmentation(size: int, **changes) -> Augmentation:
    return Augmentation(TrainingSettings(**changes), size, CPU)


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def crop_by_hand(image: np.ndarray, padding: int, row: int, column: int) -> np.ndarray:
    """The crop of a c x h x w image that is padded by reflection, from this corner on."""
    padded = np.pad(image, [(0, 0), (padding, padding), (padding, padding)], mode="reflect")
    return padded[:, row : row + image.shape[1], column : column + image.shape[2]]


@given(size=st.integers(2, 9), channels=st.integers(1, 3), padding=st.integers(0, 12), data=st.data())
def test_a_crop_is_a_window_of_the_reflected_image_mirrored_if_chosen(size, channels, padding, data):
    reach = min(padding, size - 1)
    images, shift = pixels(5, channels, size, size), st.integers(0, 2 * reach)
    row, column, flip = (data.draw(values) for values in (shift, shift, st.booleans()))
    choices = torch.zeros((5, 3), dtype=torch.int64)
    choices[1], choices[2] = row, column + flip * (2 * reach + 1)
    indices = torch.tensor([4, 0, 2])
    moved = augmentation(size, crop_padding=padding, flip=True).moved(images, indices, choices)
    assert moved.dtype == torch.uint8
    for index, result in zip(indices.tolist(), moved.numpy(), strict=True):
        expected = crop_by_hand(images[index].numpy(), reach, row, column)
        assert np.array_equal(result, expected[:, :, ::-1] if flip else expected)


def test_a_batch_is_taken_in_its_own_order():
    images, choices = pixels(4, 2, 8, 8), torch.tensor([[3, 2, 1, 0], [2] * 4, [2] * 4, [0] * 4, [0] * 4])
    whole = augmentation(8, crop_padding=2)
    assert torch.equal(whole.moved(images, None, choices), images)
    assert torch.equal(whole.moved(images, choices[0], choices), images.flip(0))


def test_nothing_is_moved_without_crops_and_flips():
    images, choices = pixels(4, 2, 8, 8), torch.tensor([[3, 2, 1, 0], *([[0] * 4] * 4)])
    still = augmentation(8)
    assert still.moved(images, None, choices) is images
    assert torch.equal(still.moved(images, choices[0], choices), images.flip(0))


@pytest.mark.parametrize(
    ("length", "padding", "expected"),
    [
        (3, 0, [[0, 1, 2]]),
        (3, 1, [[1, 0, 1], [0, 1, 2], [1, 2, 1]]),
        (2, 1, [[1, 0], [0, 1], [1, 0]]),
    ],
)
def test_the_table_of_crops(length, padding, expected):
    assert crop_table(length, padding).tolist() == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        (2, [[1, 0, 0], [1, 1, 0], [0, 1, 1]]),
        (3, [[1, 1, 0], [1, 1, 1], [0, 1, 1]]),
        (9, [[1, 1, 1]] * 3),
    ],
)
def test_the_table_of_cutouts(size, expected):
    assert cutout_table(3, size).int().tolist() == expected


@given(size=st.integers(1, 12), row=st.integers(0, 7), column=st.integers(0, 7))
def test_cutout_blanks_the_square_around_its_centre(size, row, column):
    choices = torch.tensor([[0], [0], [0], [row], [column]])
    image = augmentation(8, cutout=size).cut(torch.ones(1, 2, 8, 8), choices)[0]
    expected = np.ones((8, 8))
    top, left = row - size // 2, column - size // 2
    expected[max(top, 0) : top + size, max(left, 0) : left + size] = 0
    assert np.array_equal(image[0].numpy(), expected)
    assert torch.equal(image[0], image[1])


def test_without_cutout_images_stay():
    images = torch.ones(2, 1, 8, 8)
    assert augmentation(8).cut(images, torch.zeros((5, 2), dtype=torch.int64)) is images
