"""One training step, from the images to the new weights, as one function without arguments.

All that changes from step to step lies in the device's memory. So a recorded step can be replayed without the host, and
the same function serves eager, compiled and recorded execution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ...space.candidate import TrainingSettings
from .augmentation import Augmentation, before
from .device_images import DeviceImages, Normalisation
from .epoch_plan import EpochPlan
from .memory import activations
from .optimization import Optimization


class TrainingStep:
    """A step of a training. `begin` starts an epoch, and each call is its next step.

    Args:
        optimization: changes the weights.
        forward: the network's forward pass.
        images: to learn from.
        normalisation: of the images.
        settings: the recipe.
        size: pixels per side of the images.
        device: the device to train on.
        precision: the type in which convolutions compute; None: float32.
    """

    def __init__(
        self,
        optimization: Optimization,
        forward: Callable[[Tensor], Tensor],
        images: DeviceImages,
        normalisation: Normalisation,
        settings: TrainingSettings,
        size: int,
        device: torch.device,
        precision: torch.dtype | None,
    ) -> None:
        self._optimization, self._forward, self._images = optimization, forward, images
        self._normalisation, self._label_smoothing = normalisation, settings.label_smoothing
        self._augmentation = Augmentation(settings, size, device)
        self._device, self._precision = device, precision
        self._choices = self._rates = self._shares = self._batch = torch.empty(0)
        self._number = torch.zeros(1, dtype=torch.int64, device=device)
        self._total_loss = torch.zeros((), device=device)
        self.offloads = False
        """Whether activations are kept in the host's memory. Such a step is neither recorded nor compiled."""
        self.keeps_batch = device.type == "cuda"
        """Whether every batch comes into the same memory, as a recorded step needs it."""

    def begin(self, plan: EpochPlan) -> None:
        """Start an epoch."""
        self._plan, self._fetched = plan, 0
        if self._choices.shape != plan.choices.shape:
            self._choices = torch.empty_like(plan.choices, device=self._device)
            self._rates = torch.empty_like(plan.rates, dtype=self._optimization.rate.dtype, device=self._device)
        self._choices.copy_(plan.choices)
        self._rates.copy_(plan.rates)
        if plan.shares is not None:
            if self._shares.shape != plan.shares.shape:
                self._shares = torch.empty_like(plan.shares, device=self._device)
            self._shares.copy_(plan.shares)
        self._number.zero_()
        self._total_loss.zero_()

    def fetch(self) -> None:
        """Prepare the images of the next step, as far as a recorded step cannot.

        Images that are not on the device are read, and a policy's operations are applied. Otherwise nothing is done.
        """
        number, resident = self._fetched, self._images.resident
        self._fetched += 1
        if resident is not None and not self._augmentation.has_policy:
            return
        host_choices = self._plan.choices[number]
        batch = self._images.gather(host_choices[0]) if resident is None else resident
        if self._augmentation.has_policy:
            choices = self._choices[number]
            batch = self._augmentation.moved(batch, None if resident is None else choices[0], choices)
            batch = self._augmentation.operated(batch, choices, host_choices)
        if self.keeps_batch and self._batch.shape == batch.shape:
            self._batch.copy_(batch)
        else:
            self._batch = batch

    def __call__(self) -> None:
        """Train on the next batch."""
        optimization = self._optimization
        choices = self._choices.index_select(0, self._number)[0]
        torch.index_select(self._rates, 0, self._number, out=optimization.rate)
        shares = self._shares.index_select(0, self._number)[0] if self._augmentation.mixes else self._shares
        self._number.add_(1)
        labels = self._images.labels[choices[0]]
        images = self._augmentation.mixed(self._augmented(choices), choices, shares)
        forward = optimization.model if self.offloads else self._forward
        with autocast(self._device, self._precision), activations(self.offloads, self._device):
            loss = self._loss(forward(images), labels, shares)
        optimization.step(loss)
        self._total_loss += loss.detach()

    def total_loss(self) -> float:
        """The sum of the losses of the epoch's steps. Waits for the device."""
        return float(self._total_loss)

    def _augmented(self, choices: Tensor) -> Tensor:
        """The batch, augmented and normalised, but not mixed: float n x c x h x w, channels_last."""
        moved, resident = self._batch, self._images.resident
        if not self._augmentation.has_policy:
            batch, indices = (self._batch, None) if resident is None else (resident, choices[0])
            moved = self._augmentation.moved(batch, indices, choices)
        return self._augmentation.cut(self._normalisation(moved), choices)

    def _loss(self, logits: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
        """The mean cross-entropy. If images are mixed, labels are, too: the loss is linear in them."""
        if not self._augmentation.mixes:
            return F.cross_entropy(logits, labels, label_smoothing=self._label_smoothing)
        own, other = (
            F.cross_entropy(logits, each, label_smoothing=self._label_smoothing, reduction="none")
            for each in (labels, before(labels))
        )
        return other.lerp(own, shares[1]).mean()


def autocast(device: torch.device, precision: torch.dtype | None) -> torch.autocast:
    """A context in which convolutions compute in this type; None: in float32.

    Its cache is off, because a recorded step must not use half-precision weights that were made outside of it. Modules
    that use a weight repeatedly convert it once (layers.Convolution.repeatedly).
    """
    return torch.autocast(device.type, precision, enabled=precision is not None, cache_enabled=False)
