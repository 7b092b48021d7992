"""Augmentation of a batch on its device. What an image undergoes is looked up in tables, by numbers drawn before."""

from __future__ import annotations

import torch
from torch import Tensor

from ...space.candidate import TrainingSettings
from .epoch_plan import crop_padding


class Augmentation:
    """Crops, mirror images and cutouts.

    Args:
        settings: the recipe.
        size: pixels per side of the images.
        device: the device of the images.
    """

    def __init__(self, settings: TrainingSettings, size: int, device: torch.device) -> None:
        padding = crop_padding(settings, size)
        self._moves, self._cuts = bool(padding or settings.flip), settings.cutout > 0
        shifts = crop_table(size, padding)
        self._pixels = torch.cat([shifts, shifts.flip(1)]).to(device)
        self._covered = cutout_table(size, settings.cutout).to(device)

    def moved(self, images: Tensor, indices: Tensor | None, choices: Tensor) -> Tensor:
        """Crops of images, some of them mirrored: uint8 m x c x h x w -> uint8 n x c x h x w.

        Args:
            images: all images, or the n images of the batch.
            indices: n int64, which of all images to take; None: those of the batch.
            choices: int64, 5 x n, as in an EpochPlan.
        """
        if not self._moves:
            return images if indices is None else images[indices]
        if indices is None:
            indices = torch.arange(len(images), device=images.device)
        rows, columns = self._pixels[choices[1]], self._pixels[choices[2]]
        return images[indices[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def cut(self, images: Tensor, choices: Tensor) -> Tensor:
        """Set a square of each image to 0, in place (DeVries & Taylor 2017). Part of it may lie outside the image.

        Args:
            images: float n x c x h x w, normalised, so that 0 is the mean.
            choices: int64, 5 x n, as in an EpochPlan.
        """
        if not self._cuts:
            return images
        rows, columns = self._covered[choices[3]], self._covered[choices[4]]
        return images.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def crop_table(length: int, padding: int) -> Tensor:
    """Pixels that a crop reads along one side: int64, (2 padding + 1) x length.

    Row i holds the crop that is shifted by i - padding. Pixels outside the image are read at their mirror images.
    """
    pixels = (torch.arange(-padding, padding + 1)[:, None] + torch.arange(length)).abs()
    return torch.where(pixels < length, pixels, 2 * (length - 1) - pixels)


def cutout_table(length: int, size: int) -> Tensor:
    """Pixels that a cutout of this size covers along one side, by its centre: booleans, length x length."""
    first, pixels = torch.arange(length)[:, None] - size // 2, torch.arange(length)
    return (pixels >= first) & (pixels < first + size)
