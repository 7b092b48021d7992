"""Training one network: the whole recipe.

The recipe is SGD with Nesterov momentum, linear warm-up and cosine decay to zero, label smoothing and gradient
clipping, optionally with an exponential moving average of the weights. Images are uint8 and are augmented on the
device. Networks use the channels_last layout, and half precision if it is faster.

Everything random derives from (seed, epoch). So a training that continues from a checkpoint ends with the same weights
as an uninterrupted one, bit for bit on a CPU. The same holds for a training that runs out of memory and repeats an
epoch with less memory (memory.py).
"""

from __future__ import annotations

import io
import logging
import math
import os
import pickle
import time
from dataclasses import asdict, dataclass
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mgnas.files import write_bytes

from ...models.build import build_model
from ...models.config import ArchitectureConfig
from ...space.candidate import TrainingSettings
from ..data.images import ImageDataset
from .augmentation import cutout, mirror, random_crop
from .device_images import DeviceImages
from .execution import Execution, TrainingForward
from .memory import NotEnoughMemoryError, activations, host_copy, is_out_of_memory, within_memory
from .precision import Precision, autocast_type

logger = logging.getLogger(__name__)

_EVALUATION_BATCH = 1024

# What torch.load and load_state_dict raise for a file that is truncated, garbled, or of another network.
UNREADABLE = (AssertionError, OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError)
UNREADABLE += (pickle.UnpicklingError, BadZipFile)


class TrainingDivergedError(RuntimeError):
    """The loss is no longer finite."""


class DamagedCheckpointError(ValueError):
    """A file is not a complete checkpoint of this network."""


@dataclass(frozen=True)
class EpochResult:
    """The result of an epoch.

    Args:
        epoch: counted from 1.
        loss: mean training loss over the epoch.
        accuracy: share of the evaluation images that are classified correctly; None without such images.
        seconds: duration of the epoch, with its evaluation.
    """

    epoch: int
    loss: float
    accuracy: float | None
    seconds: float


class Trainer:
    """Trains a network, one epoch at a time.

    Args:
        architecture: the network.
        settings: the recipe.
        train: images to learn from.
        evaluation: images to measure accuracy on after each epoch; None: nothing is measured.
        seed: seed of the initial weights, the order of the images and the augmentation.
        device: the device to train on.
        precision: the type in which convolutions compute; see autocast_type.
        execution: how training steps are executed; see TrainingForward.
    """

    def __init__(
        self,
        architecture: ArchitectureConfig,
        settings: TrainingSettings,
        train: ImageDataset,
        evaluation: ImageDataset | None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        precision: Precision = "auto",
        execution: Execution = "eager",
    ) -> None:
        self.architecture, self.settings, self.seed = architecture, settings, seed
        self.device = torch.device(device)
        self.history: list[EpochResult] = []
        self._train = DeviceImages(train, self.device)
        self._evaluation = None if evaluation is None else DeviceImages(evaluation, self.device)
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=self.device).reshape(1, -1, 1, 1)
            for values in train.mean_std()
        )
        self._std.clamp_min_(1e-3)
        # Alternating flip (airbench): a coin is tossed once for each image, whose two views then take turns.
        self._coins = torch.rand(len(train), generator=torch.Generator().manual_seed(seed)) < 0.5
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_model(architecture)
        # torch declares no overload with memory_format.
        self.model = model.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(
            groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.momentum > 0, fused=True
        )
        self._average: AveragedModel | None = None
        if settings.ema_decay:
            averaging = get_ema_multi_avg_fn(settings.ema_decay)
            self._average = AveragedModel(self.model, multi_avg_fn=averaging, use_buffers=True)
        images = min(settings.batch_size, len(train))
        activation = images * architecture.channels[0] * train.shape[-2] * train.shape[-1]
        self.precision = autocast_type(precision, self.device, activation)
        self._forward = TrainingForward(self.model, execution)
        self._scaler = self._new_scaler()
        self._offloads, self._evaluation_batch = False, _EVALUATION_BATCH
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()

    @property
    def finished(self) -> bool:
        return len(self.history) >= self.settings.epochs

    def run_epoch(self) -> EpochResult:
        """Train for one epoch and evaluate.

        Raises:
            TrainingDivergedError: the loss is not finite.
            NotEnoughMemoryError: memory has run out, even with activations in the host's memory.
        """
        start, before = time.perf_counter(), host_copy(self._state())
        loss = within_memory(self._train_epoch, lambda: self._start_over(before))
        if not math.isfinite(loss):
            raise TrainingDivergedError(f"the loss became {loss} in epoch {len(self.history) + 1}")
        accuracy = self._accuracy(self._evaluation) if self._evaluation else None
        result = EpochResult(len(self.history) + 1, loss, accuracy, time.perf_counter() - start)
        self.history.append(result)
        return result

    def _train_epoch(self) -> float:
        """Pass once over the training images. Returns the mean loss."""
        settings, epoch = self.settings, len(self.history)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self._train), generator=generator)
        batch = min(settings.batch_size, len(order))
        steps = len(order) // batch
        total_loss = torch.zeros((), device=self.device)
        self.model.train()
        for step in range(steps):
            indices = order[step * batch : (step + 1) * batch]
            images = self._augmented(indices, epoch, generator)
            labels = self._train.labels[indices.to(self.device)]
            rate = learning_rate(settings, epoch + (step + 1) / steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            with self._autocast(), activations(self._offloads, self.device):
                loss = F.cross_entropy(self._forward(images), labels, label_smoothing=settings.label_smoothing)
            self.optimizer.zero_grad(set_to_none=True)
            self._scaler.scale(loss).backward()
            if settings.gradient_clip:
                self._scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_clip)
            self._scaler.step(self.optimizer)
            self._scaler.update()
            if self._average is not None:
                self._average.update_parameters(self.model)
            total_loss += loss.detach()
        return float(total_loss) / steps

    def _start_over(self, before: dict[str, Any]) -> None:
        """Restore the state before the epoch, and keep activations in the host's memory from now on."""
        if self._offloads:
            raise NotEnoughMemoryError(self.architecture, self.settings.batch_size, self.device)
        logger.warning("out of memory: epoch %d starts over", len(self.history) + 1)
        self._offloads = True
        self._forward.be_eager()
        self.optimizer.zero_grad(set_to_none=True)
        self._restore(before)

    def evaluate(self, images: ImageDataset) -> float:
        """Share of these images that the network classifies correctly.

        Raises:
            NotEnoughMemoryError: there is not enough memory for a single image.
        """
        return self._accuracy(DeviceImages(images, self.device))

    @property
    def trained_model(self) -> nn.Module:
        """The network to evaluate and keep: with the averaged weights if the recipe has an average."""
        return self.model if self._average is None else self._average.module

    def _accuracy(self, images: DeviceImages) -> float:
        return within_memory(lambda: self._correct(images), lambda: self._halve_evaluation_batch(images)) / len(images)

    def _halve_evaluation_batch(self, images: DeviceImages) -> None:
        batch = min(self._evaluation_batch, len(images))
        if batch == 1:
            raise NotEnoughMemoryError(self.architecture, batch, self.device)
        self._evaluation_batch = batch // 2
        logger.warning("out of memory; evaluating with batches of %d images", self._evaluation_batch)

    @torch.inference_mode()
    def _correct(self, images: DeviceImages) -> int:
        """Number of these images that the network classifies correctly."""
        model = self.trained_model.eval()
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for start in range(0, len(images), self._evaluation_batch):
            batch = slice(start, start + self._evaluation_batch)
            with self._autocast():
                logits = model(self._normalised(images.gather(batch)))
            correct += (logits.argmax(dim=1) == images.labels[batch]).sum()
        return int(correct)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision is not None)

    def _new_scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)

    def normalisation(self) -> dict[str, list[float]]:
        """Mean and standard deviation per channel of the training images, scaled to 0..1."""
        return {"mean": self._mean.flatten().tolist(), "std": self._std.flatten().tolist()}

    def _normalised(self, images: Tensor) -> Tensor:
        """uint8 n x c x h x w -> float, zero mean and unit variance per channel, channels_last."""
        scaled = images.to(torch.float32, memory_format=torch.channels_last)
        return scaled.sub_(255 * self._mean).div_(255 * self._std)

    def _augmented(self, indices: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """The training images with these indices, augmented and normalised: float n x c x h x w."""
        images = self._train.gather(indices)
        if self.settings.crop_padding:
            images = random_crop(images, self.settings.crop_padding, generator)
        if self.settings.flip:
            images = mirror(images, (self._coins[indices] ^ (epoch % 2 == 1)).to(self.device))
        images = self._normalised(images)
        return cutout(images, self.settings.cutout, generator) if self.settings.cutout else images

    def _state(self) -> dict[str, Any]:
        """Everything that training an epoch changes. It is not a copy."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        # A new scaler, because the old one may be in the middle of a step.
        self._scaler = self._new_scaler()
        self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])

    def checkpoint(self) -> memoryview:
        """The state of the training, in the format that `load` reads."""
        buffer = io.BytesIO()
        torch.save(self._state() | {"history": [asdict(result) for result in self.history]}, buffer)
        return buffer.getbuffer()

    def save(self, path: str | os.PathLike) -> None:
        """Write a checkpoint atomically, so that the file always holds the state after a whole epoch.

        Raises:
            UserError: the file cannot be written.
        """
        write_bytes(path, self.checkpoint())

    def load(self, path: str | os.PathLike) -> None:
        """Continue from a checkpoint.

        Raises:
            DamagedCheckpointError: the file cannot be used. This trainer may be half changed then, so make a new one.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            if not isinstance(state, dict):
                raise TypeError(f"expected a mapping, got {type(state).__name__}")
            self._restore(state)
            self.history = [EpochResult(**result) for result in state["history"]]
        except UNREADABLE as error:
            if is_out_of_memory(error):
                raise
            raise DamagedCheckpointError(f"{path}: not a checkpoint of this network") from error


def learning_rate(settings: TrainingSettings, progress: float) -> float:
    """The learning rate after `progress` epochs: a linear rise during the warm-up, then half a cosine down to 0."""
    if progress < settings.warmup_epochs:
        return settings.learning_rate * progress / settings.warmup_epochs
    decay = settings.epochs - settings.warmup_epochs
    if decay <= 0:
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - settings.warmup_epochs) / decay))
