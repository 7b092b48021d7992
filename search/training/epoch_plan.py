"""All random numbers and learning rates of an epoch, drawn at its beginning.

They reach a GPU in one copy each, so that the steps of the epoch need nothing of the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...space.candidate import TrainingSettings
from .policy import Policy, make_policy

_ASPECT, _TRIES = (3 / 4, 4 / 3), 10
"""Ratios of width to height of resized crops, and how often one is drawn until it fits into the image (torchvision)."""


@dataclass(frozen=True)
class Layout:
    """Which rows of an EpochPlan's choices hold what. The first five are always there.

    For each image they hold its index, the shift of its crop's rows, the shift of its crop's columns, the row of its
    cutout's centre, and the column. Shifts are counted from 0. A mirrored image has 2 padding + 1 more in the columns.

    Args:
        crop: top, left, height and width of a resized crop; no rows without such crops.
        patch: where an image is mixed with the one before it: top, bottom, left and right. No rows without mixing.
        operations: of each stage of the policy two rows, the images by their operations' codes and these codes in that
            order, ascending. No rows without a policy.
        rows: number of all rows.
    """

    crop: slice
    patch: slice
    operations: slice
    rows: int


@dataclass(frozen=True)
class EpochPlan:
    """What the steps of an epoch do, on the CPU.

    Args:
        choices: int64, steps x rows x batch, as in the Layout.
        rates: float64, the learning rate of each step.
        shares: float32, steps x 2 x batch: what each image keeps of itself in its patch, and of its label. None without
            mixing.
    """

    choices: Tensor
    rates: Tensor
    shares: Tensor | None = None


def steps_and_batch(settings: TrainingSettings, images: int) -> tuple[int, int]:
    """Number of steps in an epoch over this number of images, and images in a step. The last few are left out."""
    batch = min(settings.batch_size, images)
    return images // batch, batch


def crop_padding(settings: TrainingSettings, size: int) -> int:
    """Maximum shift of a crop in pixels. Reflection needs it to be less than the image's side."""
    shift = settings.crop_padding
    if settings.augmentation == "standard" and not (shift or settings.random_resized_crop):
        shift = size // 8
    return min(shift, size - 1)


def flips(settings: TrainingSettings) -> bool:
    """Whether images are mirrored."""
    return settings.flip or settings.augmentation == "standard"


def mixes(settings: TrainingSettings) -> bool:
    """Whether images are mixed with others."""
    return bool(settings.mixup or settings.cutmix)


def policy_of(settings: TrainingSettings, size: int) -> Policy | None:
    """The recipe's policy of operations for images of this size; None if it has none."""
    if settings.augmentation == "trivial" or settings.augmentation == "autoaugment":
        return make_policy(settings.augmentation, size)
    return None


def layout_of(settings: TrainingSettings, size: int) -> Layout:
    """The rows of a recipe's choices, for images of this size."""
    policy = policy_of(settings, size)
    crop = 5 + 4 * bool(settings.random_resized_crop)
    patch = crop + 4 * mixes(settings)
    rows = patch + (0 if policy is None else 2 * policy.stages)
    return Layout(slice(5, crop), slice(crop, patch), slice(patch, rows), rows)


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
    choices = torch.zeros((steps, layout_of(settings, size).rows, batch), dtype=torch.int64)
    choices[:, 0] = torch.randperm(len(coins), generator=generator)[: steps * batch].view(steps, batch)
    padding = crop_padding(settings, size)
    # Step by step, so that a seed gives the same training as in earlier versions.
    for step in choices:
        if padding:
            step[1:3] = torch.randint(-padding, padding + 1, (2, batch), generator=generator) + padding
        if settings.cutout:
            step[3:5] = (torch.rand((2, batch), generator=generator) * size).long()
    if flips(settings):
        # Alternating flip (airbench): the two views of an image take turns.
        choices[:, 2] += (coins[choices[:, 0]] ^ (epoch % 2 == 1)) * (2 * padding + 1)
    shares = _draw_further(settings, choices, size, seed, epoch)
    rates = [learning_rate(settings, epoch + (step + 1) / steps) for step in range(steps)]
    return EpochPlan(choices, torch.tensor(rates, dtype=torch.float64), shares)


def _draw_further(settings: TrainingSettings, choices: Tensor, size: int, seed: int, epoch: int) -> Tensor | None:
    """Fill in what the recipe has beyond crops, flips and cutout. Returns the shares.

    Each of these draws from a generator of its own. So switching one on or off leaves the others as they are.
    """
    (steps, _, batch), layout = choices.shape, layout_of(settings, size)
    crops, mixing, operations = (np.random.default_rng([seed, epoch, purpose]) for purpose in range(3))

    def by_step(values: np.ndarray) -> Tensor:
        """rows x steps * batch -> steps x rows x batch."""
        return torch.from_numpy(values).view(-1, steps, batch).transpose(0, 1)

    if settings.random_resized_crop:
        choices[:, layout.crop] = by_step(draw_crops(crops, steps * batch, size, settings.random_resized_crop))
    if (policy := policy_of(settings, size)) is not None:
        codes = by_step(policy.draw(operations, steps * batch))
        order = codes.argsort(dim=2, stable=True)
        choices[:, layout.operations] = torch.stack([order, codes.gather(2, order)], dim=2).flatten(1, 2)
    if not mixes(settings):
        return None
    patches, shares = draw_mixing(mixing, steps * batch, size, settings.mixup, settings.cutmix)
    choices[:, layout.patch] = by_step(patches)
    return by_step(shares).float().contiguous()


def draw_crops(generator: np.random.Generator, count: int, size: int, smallest: float) -> np.ndarray:
    """Crops as torchvision's RandomResizedCrop draws them: int64, 4 x count, with top, left, height and width.

    Args:
        generator: of random numbers.
        count: of crops.
        size: pixels per side of the images.
        smallest: share of the image's area that a crop has at least.
    """
    area = size**2 * generator.uniform(smallest, 1, (_TRIES, count))
    aspect = np.exp(generator.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1]), (_TRIES, count)))
    # A crop that never fits becomes the whole image.
    sides = np.full((2, _TRIES + 1, count), size)
    sides[:, :_TRIES] = np.round(np.sqrt([area / aspect, area * aspect]))
    first = ((sides > 0) & (sides <= size)).all(axis=0).argmax(axis=0)
    height, width = sides[:, first, np.arange(count)]
    return np.stack(
        [generator.integers(size - height + 1), generator.integers(size - width + 1), height, width]
    ).astype(np.int64)


def draw_mixing(
    generator: np.random.Generator, count: int, size: int, mixup: float, cutmix: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where and how strongly images are mixed, by mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

    Args:
        generator: of random numbers.
        count: of images.
        size: pixels per side of the images.
        mixup, cutmix: parameters of the Beta distributions. If one is 0, all images are mixed by the other.

    Returns:
        int64, 4 x count: top, bottom, left and right of the part of the image that is mixed.
        float64, 2 x count: what the image keeps of itself in there, and of its label.
    """
    cuts = generator.random(count) < (0.5 if mixup and cutmix else float(cutmix > 0))
    alpha = np.where(cuts, cutmix, mixup)
    kept = generator.beta(alpha, alpha)
    half = (0.5 * np.sqrt(1 - kept) * size).astype(np.int64)
    centres = generator.integers(size, size=(2, count))
    (top, left), (bottom, right) = np.maximum(centres - half, 0), np.minimum(centres + half, size)
    patch = np.where(cuts, [top, bottom, left, right], np.array([[0], [size], [0], [size]]))
    label = np.where(cuts, 1 - (bottom - top) * (right - left) / size**2, kept)
    return patch, np.stack([np.where(cuts, 0.0, kept), label])


def learning_rate(settings: TrainingSettings, progress: float) -> float:
    """The learning rate after `progress` epochs: a linear rise during the warm-up, then half a cosine down to 0."""
    if progress < settings.warmup_epochs:
        return settings.learning_rate * progress / settings.warmup_epochs
    decay = settings.epochs - settings.warmup_epochs
    if decay <= 0:
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - settings.warmup_epochs) / decay))
