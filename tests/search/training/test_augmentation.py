"""Crops, mirror images, cutout, mixup and CutMix, compared with what they are defined to be."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from mgnas.search.training.augmentation import Augmentation, before, crop_table, cutout_table
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


# ------------------------------------------------------------------------------------------------------- resized crops


def resized(images: torch.Tensor, boxes: list[tuple[int, ...]], mirrored: bool = False, indices=None) -> torch.Tensor:
    choices = torch.zeros((9, len(boxes)), dtype=torch.int64)
    choices[2], choices[5:] = int(mirrored), torch.tensor(boxes).T
    return augmentation(images.shape[-1], random_resized_crop=0.1, flip=True).moved(images, indices, choices)


BOXES = [(0, 0, 8, 8), (1, 2, 6, 4), (3, 0, 5, 8), (7, 7, 1, 1), (2, 3, 3, 5)]


@pytest.mark.parametrize("channels", [1, 3])
def test_resized_crops_are_torchvisions(channels):
    images = pixels(5, channels, 8, 8)
    for image, box, result in zip(images, BOXES, resized(images, BOXES), strict=True):
        # Of float images, because torchvision's function for bytes rounds its weights.
        expected = F.resized_crop(image.float(), *box, size=[8, 8], antialias=True)
        assert (result.float() - expected).abs().max() <= 0.501, box
        assert result.dtype == torch.uint8


def test_a_resized_crop_may_be_mirrored():
    images = pixels(5, 3, 8, 8)
    assert torch.equal(resized(images, BOXES, mirrored=True), resized(images, BOXES).flip(3))


def test_a_resized_crop_of_the_whole_image_is_the_image():
    images = pixels(4, 3, 9, 9)
    assert torch.equal(resized(images, [(0, 0, 9, 9)] * 4), images)


def test_images_to_resize_are_taken_by_their_indices():
    images, indices = pixels(4, 1, 8, 8), torch.tensor([3, 0])
    assert torch.equal(resized(images, BOXES[1:3], indices=indices), resized(images[indices], BOXES[1:3]))


# -------------------------------------------------------------------------------------------------------------- mixing


def mixed(images: torch.Tensor, patch: tuple[int, ...], kept: float) -> torch.Tensor:
    choices = torch.zeros((9, len(images)), dtype=torch.int64)
    choices[5:] = torch.tensor(patch)[:, None]
    shares = torch.tensor([kept, 0.123])[:, None].expand(2, len(images))
    return augmentation(images.shape[-1], mixup=0.2).mixed(images, choices, shares)


def test_mixup_is_a_weighted_mean_with_the_image_before():
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 2, 8, 8)
    results = mixed(images, (0, 8, 0, 8), kept=0.75)
    # 0.75 of 0, 1, 2, 3 and 0.25 of 3, 0, 1, 2.
    assert torch.equal(results[:, 0, 0, 0], torch.tensor([0.75, 0.75, 1.75, 2.75]))
    assert torch.equal(results, results[:, :1, :1, :1].expand_as(results))


def test_cutmix_takes_a_rectangle_of_the_image_before():
    images = torch.randn(3, 2, 8, 8)
    results = mixed(images, (1, 4, 2, 8), kept=0.0)
    expected = images.clone()
    expected[:, :, 1:4, 2:8] = images[[2, 0, 1]][:, :, 1:4, 2:8]
    assert torch.equal(results, expected)


@pytest.mark.parametrize(("patch", "kept"), [((0, 8, 0, 8), 1.0), ((3, 3, 2, 7), 0.0)])
def test_an_image_that_keeps_everything_is_not_changed(patch, kept):
    images = torch.randn(3, 2, 8, 8)
    assert torch.equal(mixed(images, patch, kept), images)


def test_without_mixing_images_stay():
    images = torch.ones(2, 1, 8, 8)
    assert augmentation(8).mixed(images, torch.zeros((5, 2), dtype=torch.int64), torch.empty(0)) is images


def test_mixed_images_keep_their_memory_layout():
    images = torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)
    assert mixed(images, (0, 8, 0, 8), 0.5).is_contiguous(memory_format=torch.channels_last)


def test_the_partner_of_the_first_is_the_last():
    assert before(torch.arange(4)).tolist() == [3, 0, 1, 2]
