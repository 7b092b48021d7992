"""Augmentation of a batch as tensor operations on the device the batch is on."""

from __future__ import annotations

import torch
from torch import Tensor


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Cut each image at a random place out of itself padded by reflection: n x c x h x w -> the same shape.

    Args:
        images: of any type; the result is channels_last.
        padding: at most so many pixels off the centre, and at most a pixel less than the image has.
        generator: a CPU generator.
    """
    n, _, height, width = images.shape
    padding = min(padding, height - 1, width - 1)
    offsets = torch.randint(-padding, padding + 1, (2, n), generator=generator).to(images.device)
    # No padded copy is made: a pixel outside is read at its mirror image inside.
    rows = _reflected(offsets[0][:, None] + torch.arange(height, device=images.device), height)
    columns = _reflected(offsets[1][:, None] + torch.arange(width, device=images.device), width)
    which = torch.arange(n, device=images.device)[:, None, None]
    return images[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _reflected(places: Tensor, length: int) -> Tensor:
    """Places from -length + 1 to 2 length - 2, mirrored at the first and the last pixel into 0 to length - 1."""
    places = places.abs()
    return torch.where(places < length, places, 2 * (length - 1) - places)


def mirror(images: Tensor, which: Tensor) -> Tensor:
    """The chosen images mirrored left to right: n x c x h x w images, n booleans -> n x c x h x w."""
    return torch.where(which[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Set a size x size square around a random pixel of each image to 0, in place (DeVries & Taylor 2017).

    Args:
        images: n x c x h x w, normalised, so that 0 is the mean.
        size: of the square; parts of it may lie outside the image.
        generator: a CPU generator.
    """
    n, _, height, width = images.shape
    centres = torch.rand((2, n), generator=generator).to(images.device)
    rows, columns = (torch.arange(length, device=images.device) for length in (height, width))
    first_row = (centres[0] * height).long()[:, None] - size // 2
    first_column = (centres[1] * width).long()[:, None] - size // 2
    in_rows = (rows >= first_row) & (rows < first_row + size)
    in_columns = (columns >= first_column) & (columns < first_column + size)
    return images.masked_fill_((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0)
