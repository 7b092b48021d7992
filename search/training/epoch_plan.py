"""All random numbers and learning rates of an epoch, drawn at its beginning.

They reach a GPU in one copy, so that the steps of the epoch need nothing of the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...space.candidate import TrainingSettings


@dataclass(frozen=True)
class EpochPlan:
    """What the steps of an epoch do, on the CPU.

    Args:
        choices: int64, steps x 5 x batch. For each image its index, the shift of its crop's rows, the shift of its
            crop's columns, the row of its cutout's centre, and the column. Shifts are counted from 0. A mirrored image
            has 2 padding + 1 more in the columns.
        rates: float64, the learning rate of each step.
    """

    choices: Tensor
    rates: Tensor


def steps_and_batch(settings: TrainingSettings, images: int) -> tuple[int, int]:
    """Number of steps in an epoch over this number of images, and images in a step. The last few are left out."""
    batch = min(settings.batch_size, images)
    return images // batch, batch


def crop_padding(settings: TrainingSettings, size: int) -> int:
    """Maximum shift of a crop in pixels. Reflection needs it to be less than the image's side."""
    return min(settings.crop_padding, size - 1)


def draw_epoch(settings: TrainingSettings, coins: Tensor, size: int, seed: int, epoch: int) -> EpochPlan:
    """The plan of an epoch. It depends on these arguments alone.

    Args:
        settings: the recipe.
        coins: n booleans, one for each training image: whether it is mirrored in even epochs or in odd ones.
        size: pixels per side of the images.
        seed: of the training.
        epoch: counted from 0.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    steps, batch = steps_and_batch(settings, len(coins))
    choices = torch.zeros((steps, 5, batch), dtype=torch.int64)
    choices[:, 0] = torch.randperm(len(coins), generator=generator)[: steps * batch].view(steps, batch)
    padding = crop_padding(settings, size)
    # Step by step, so that a seed gives the same training as in earlier versions.
    for step in choices:
        if settings.crop_padding:
            step[1:3] = torch.randint(-padding, padding + 1, (2, batch), generator=generator) + padding
        if settings.cutout:
            step[3:5] = (torch.rand((2, batch), generator=generator) * size).long()
    if settings.flip:
        # Alternating flip (airbench): the two views of an image take turns.
        choices[:, 2] += (coins[choices[:, 0]] ^ (epoch % 2 == 1)) * (2 * padding + 1)
    rates = [learning_rate(settings, epoch + (step + 1) / steps) for step in range(steps)]
    return EpochPlan(choices, torch.tensor(rates, dtype=torch.float64))


def learning_rate(settings: TrainingSettings, progress: float) -> float:
    """The learning rate after `progress` epochs: a linear rise during the warm-up, then half a cosine down to 0."""
    if progress < settings.warmup_epochs:
        return settings.learning_rate * progress / settings.warmup_epochs
    decay = settings.epochs - settings.warmup_epochs
    if decay <= 0:
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - settings.warmup_epochs) / decay))
