"""A trainer that looks at its network after each of the last epochs, and at the moving average of the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from resumable import Job
from torch import Tensor, nn

from mgnas.search.data.dataset import Dataset
from mgnas.search.training.step import autocast
from mgnas.search.training.trainer import EpochResult, Trainer

LAST_EPOCHS = 3
"""Epochs at the end of a training after which the network is observed."""

_BATCH = 500


@dataclass(frozen=True)
class Quality:
    """How well a network answers images.

    Args:
        accuracy: share of the images that are classified correctly.
        probability: mean probability of the right class.
        cross_entropy: mean, in nats.
    """

    accuracy: float
    probability: float
    cross_entropy: float

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> Quality:
        """Of logits, n x classes, and labels, n."""
        logs = torch.log_softmax(logits.double(), dim=1).gather(1, labels[:, None])[:, 0]
        correct = (logits.argmax(dim=1) == labels).double()
        return cls(correct.mean().item(), logs.exp().mean().item(), -logs.mean().item())


class ObservedTrainer(Trainer):
    """Observes the weights and their moving average after each of the last epochs. The average changes no weights.

    Args:
        job: the training.
        dataset: its images; the validation images are those that the network is observed on.
        ema_decay: decay per step of the averaged weights, if the recipe has no average of its own.
        device: the device to train on.

    Attributes:
        plain, averaged: the quality of both after each of the last epochs.
    """

    def __init__(self, job: Job, dataset: Dataset, ema_decay: float, device: str = "cpu") -> None:
        settings = replace(job.training, ema_decay=job.training.ema_decay or ema_decay)
        super().__init__(job.architecture, settings, dataset.train, None, job.seed, device)
        self.plain: list[Quality] = []
        self.averaged: list[Quality] = []
        self._validation = dataset.validation
        self._recipe_averages = bool(job.training.ema_decay)

    @property
    def trained_model(self) -> nn.Module:
        return super().trained_model if self._recipe_averages else self.model

    def run_epoch(self) -> EpochResult:
        result = super().run_epoch()
        if self.settings.epochs - len(self.history) < LAST_EPOCHS:
            self.plain.append(self._quality(self.model))
            self.averaged.append(self._quality(super().trained_model))
        return result

    @torch.inference_mode()
    def _quality(self, model: nn.Module) -> Quality:
        model.eval()
        images = torch.from_numpy(self._validation.gather(slice(None))).to(self.device)
        with autocast(self.device, self.precision):
            logits = [model(self._normalisation(part)) for part in images.split(_BATCH)]
        return Quality.of(torch.cat(logits), torch.from_numpy(self._validation.labels).to(self.device))
