"""Augmentation of a batch on its device, by numbers that were drawn before.

An image is cropped and mirrored (`moved`), undergoes the operations of a policy (`operated`), is normalised, loses a
square (`cut`), and is mixed with another image (`mixed`). All but the policy takes nothing of the host, so a recorded
step contains it. The policy's groups of images vary in size from step to step, so it comes before the recorded step.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...space.candidate import TrainingSettings
from .epoch_plan import crop_padding, flips, layout_of, mixes, policy_of


class Augmentation:
    """Crops, mirror images, operations of a policy, cutouts and mixing.

    Choices are always int64, rows x n, as in an EpochPlan.

    Args:
        settings: the recipe.
        size: pixels per side of the images.
        device: the device of the images.
    """

    def __init__(self, settings: TrainingSettings, size: int, device: torch.device) -> None:
        padding, self._layout = crop_padding(settings, size), layout_of(settings, size)
        self._resizes, self.mixes = settings.random_resized_crop > 0, mixes(settings)
        self._moves, self._cuts = bool(padding or flips(settings)), settings.cutout > 0
        shifts = crop_table(size, padding)
        self._pixels = torch.cat([shifts, shifts.flip(1)]).to(device)
        self._covered = cutout_table(size, settings.cutout).to(device)
        self._numbers = torch.arange(size, device=device)
        self._places = torch.arange(settings.batch_size, device=device)
        self._operations = None
        if (policy := policy_of(settings, size)) is not None:
            # Importing torchvision takes seconds.
            from .operations import PolicyOperations

            self._operations = PolicyOperations(policy, size, device)

    @property
    def has_policy(self) -> bool:
        """Whether `operated` does anything."""
        return self._operations is not None

    def moved(self, images: Tensor, indices: Tensor | None, choices: Tensor) -> Tensor:
        """Crops of images, some of them mirrored: uint8 m x c x h x w -> uint8 n x c x h x w.

        Args:
            images: all images, or the n images of the batch, which are at most `settings.batch_size`.
            indices: n int64, which of all images to take; None: those of the batch.
            choices: of the n images.
        """
        if self._resizes:
            return self._resized(images if indices is None else images[indices], choices)
        if not self._moves:
            return images if indices is None else images[indices]
        if indices is None:
            indices = self._places[: len(images)]
        rows, columns = self._pixels[choices[1]], self._pixels[choices[2]]
        return images[indices[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def _resized(self, images: Tensor, choices: Tensor) -> Tensor:
        """Rectangles of the images, resized to the whole image by bilinear interpolation, some of them mirrored.

        Crops are enlarged, never reduced, so that the result is that of torchvision's resized_crop.
        """
        top, left, height, width = choices[self._layout.crop][:, :, None]
        size = len(self._numbers)
        # Pixels outside the crop have no part in it, as if the crop had been cut out before.
        rows, columns = (
            first + ((self._numbers + 0.5) * (length / size) - 0.5).clamp(min=0).minimum(length - 1)
            for first, length in ((top, height), (left, width))
        )
        columns = torch.where((choices[2] > 0)[:, None], columns.flip(1), columns)
        grid = torch.stack([columns[:, None, :].expand(-1, size, -1), rows[:, :, None].expand(-1, -1, size)], dim=3)
        grid = grid * (2 / (size - 1)) - 1
        return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=True).round_().to(torch.uint8)

    def operated(self, images: Tensor, choices: Tensor, host_choices: Tensor) -> Tensor:
        """The images after the operations of the policy: uint8 n x c x h x w.

        Args:
            images: uint8 n x c x h x w.
            choices: of the images.
            host_choices: the same on the CPU.
        """
        if self._operations is None:
            return images
        rows, host_rows = choices[self._layout.operations], host_choices[self._layout.operations]
        for stage in range(0, len(rows), 2):
            images = self._operations(images, rows[stage], rows[stage + 1], host_rows[stage + 1])
        return images

    def cut(self, images: Tensor, choices: Tensor) -> Tensor:
        """Set a square of each image to 0, in place (DeVries & Taylor 2017). Part of it may lie outside the image.

        Args:
            images: float n x c x h x w, normalised, so that 0 is the mean.
            choices: of the images.
        """
        if not self._cuts:
            return images
        rows, columns = self._covered[choices[3]], self._covered[choices[4]]
        return images.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0)

    def mixed(self, images: Tensor, choices: Tensor, shares: Tensor) -> Tensor:
        """Each image mixed with the one before it in the batch, and the first one with the last (mixup, CutMix).

        Args:
            images: float n x c x h x w.
            choices: of the images.
            shares: float32, 2 x n, as in an EpochPlan.
        """
        if not self.mixes:
            return images
        top, bottom, left, right = choices[self._layout.patch][:, :, None]
        rows = (self._numbers >= top) & (self._numbers < bottom)
        columns = (self._numbers >= left) & (self._numbers < right)
        taken = (rows[:, :, None] & columns[:, None, :]) * (1 - shares[0])[:, None, None]
        return images.lerp(before(images), taken[:, None])


def before(batch: Tensor) -> Tensor:
    """The batch moved by one, so that each entry has the place of the next one, and the last one that of the first."""
    # NOTE: On a GPU torch.roll would lose the channels_last layout.
    return torch.cat([batch[-1:], batch[:-1]])


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
