"""Augmentation of a batch, as tensor operations on the batch's device."""

from __future__ import annotations

import torch
from torch import Tensor


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Random crops of the images, each padded by reflection: n x c x h x w -> the same shape.

    Args:
        images: tensor of any type. The result is channels_last.
        padding: maximum shift of a crop in pixels. It is reduced to the image's side minus one if it is larger.
        generator: a CPU generator.
    """
    n, _, height, width = images.shape
    padding = min(padding, height - 1, width - 1)
    offsets = torch.randint(-padding, padding + 1, (2, n), generator=generator).to(images.device)
    # No padded copy is made. A pixel outside the image is read at its mirror image inside.
    rows = _reflected(offsets[0][:, None] + torch.arange(height, device=images.device), height)
    columns = _reflected(offsets[1][:, None] + torch.arange(width, device=images.device), width)
    image_indices = torch.arange(n, device=images.device)[:, None, None]
    return images[image_indices, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _reflected(indices: Tensor, length: int) -> Tensor:
    """Indices from -length + 1 to 2 length - 2, mirrored at the ends of the range 0 to length - 1."""
    indices = indices.abs()
    return torch.where(indices < length, indices, 2 * (length - 1) - indices)


def mirror(images: Tensor, mask: Tensor) -> Tensor:
    """Mirror the images with a true `mask` left to right: n x c x h x w images, n booleans -> n x c x h x w."""
    return torch.where(mask[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Set a size x size square around a random pixel of each image to 0, in place (DeVries & Taylor 2017).

    Args:
        images: n x c x h x w, normalised, so that 0 is the mean.
        size: side of the square in pixels. A part of the square may lie outside the image.
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
