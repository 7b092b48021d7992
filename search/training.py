"""Training one network: the recipe, visible whole.

SGD with Nesterov momentum, linear warm-up and cosine decay to zero, label smoothing, gradient clipping; data on the
device as uint8, augmented there; channels_last. Everything random derives from (seed, epoch), so an interrupted run
that continues from its checkpoint ends with the same weights as an uninterrupted one, bit for bit on the CPU.
"""

from __future__ import annotations

import math
import os
import pickle
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.build import build_model
from ..models.config import ArchitectureConfig
from ..space.candidate import TrainingSettings
from .data import Images

_EVALUATION_BATCH = 1024


# What torch.load and load_state_dict raise on a file that is truncated, garbled, or of another network.
UNREADABLE = (
    AssertionError,
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
    BadZipFile,
)


class TrainingDivergedError(RuntimeError):
    """The loss is no longer finite."""


class DamagedCheckpointError(ValueError):
    """A file that is no whole checkpoint of this network."""


@dataclass(frozen=True)
class EpochResult:
    """What an epoch has brought.

    Args:
        epoch: counted from 1.
        loss: mean training loss over the epoch.
        accuracy: share of the evaluation images classified correctly after it; None without such images.
        seconds: its duration, evaluation included.
    """

    epoch: int
    loss: float
    accuracy: float | None
    seconds: float


class TrainingRun:
    """A network on its way through its epochs.

    Args:
        architecture: the network.
        settings: the recipe.
        train: images to learn from.
        evaluation: images to measure accuracy on after each epoch; None: nothing is measured.
        seed: of the initial weights, the order of the images and the augmentation.
        device: where to train.
    """

    def __init__(
        self,
        architecture: ArchitectureConfig,
        settings: TrainingSettings,
        train: Images,
        evaluation: Images | None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.architecture, self.settings, self.seed = architecture, settings, seed
        self.device = torch.device(device)
        self.history: list[EpochResult] = []
        self._images, self._labels = _on_device(train, self.device)
        self._evaluation = evaluation and _on_device(evaluation, self.device)
        scaled = self._images.float() / 255
        self._mean = scaled.mean(dim=(0, 2, 3), keepdim=True)
        self._std = scaled.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-3)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_model(architecture)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(
            groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.momentum > 0, fused=True
        )

    @property
    def finished(self) -> bool:
        return len(self.history) >= self.settings.epochs

    def run_epoch(self) -> EpochResult:
        """Train for one epoch and evaluate.

        Raises:
            TrainingDivergedError: the loss is not finite.
        """
        start, settings, epoch = time.perf_counter(), self.settings, len(self.history)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self._labels), generator=generator).to(self.device)
        batch = min(settings.batch_size, len(order))
        steps = len(order) // batch
        total_loss = torch.zeros((), device=self.device)
        self.model.train()
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            images = self._normalised(self._augmented(self._images[chosen], generator))
            rate = learning_rate(settings, epoch + (step + 1) / steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = F.cross_entropy(self.model(images), self._labels[chosen], label_smoothing=settings.label_smoothing)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if settings.gradient_clip:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_clip)
            self.optimizer.step()
            total_loss += loss.detach()
        mean_loss = float(total_loss) / steps
        if not math.isfinite(mean_loss):
            raise TrainingDivergedError(f"the loss became {mean_loss} in epoch {epoch + 1}")
        accuracy = self._accuracy(*self._evaluation) if self._evaluation else None
        result = EpochResult(epoch + 1, mean_loss, accuracy, time.perf_counter() - start)
        self.history.append(result)
        return result

    def evaluate(self, part: Images) -> float:
        """Share of these images that the network classifies correctly."""
        return self._accuracy(*_on_device(part, self.device))

    @torch.inference_mode()
    def _accuracy(self, images: Tensor, labels: Tensor) -> float:
        self.model.eval()
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for start in range(0, len(labels), _EVALUATION_BATCH):
            part = slice(start, start + _EVALUATION_BATCH)
            correct += (self.model(self._normalised(images[part])).argmax(dim=1) == labels[part]).sum()
        return int(correct) / len(labels)

    def normalisation(self) -> dict[str, list[float]]:
        """Mean and standard deviation per channel of images scaled to 0..1, as the network was trained with."""
        return {"mean": self._mean.flatten().tolist(), "std": self._std.flatten().tolist()}

    def _normalised(self, images: Tensor) -> Tensor:
        """uint8 n x c x h x w -> float, zero mean and unit variance per channel, channels_last."""
        return ((images.float() / 255 - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def _augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Random crops and flips, one draw per image: uint8 n x c x h x w -> the same shape."""
        if self.settings.crop_padding:
            images = random_crop(images, self.settings.crop_padding, generator)
        if self.settings.flip:
            mirrored = torch.rand(len(images), generator=generator).to(images.device) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        return images

    def save(self, path: str | os.PathLike) -> None:
        """Write a checkpoint, atomically: at any moment the file holds a whole epoch."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": [asdict(result) for result in self.history],
        }
        temporary = Path(f"{path}.tmp")
        try:
            torch.save(state, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self, path: str | os.PathLike) -> None:
        """Continue from a checkpoint.

        Raises:
            DamagedCheckpointError: the file cannot be used; this run may have been changed in part, so make a new one.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            if not isinstance(state, dict):
                raise TypeError(f"expected a mapping, got {type(state).__name__}")
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.history = [EpochResult(**result) for result in state["history"]]
        except UNREADABLE as error:
            raise DamagedCheckpointError(f"{path}: not a checkpoint of this network") from error


def learning_rate(settings: TrainingSettings, progress: float) -> float:
    """The rate at `progress` epochs: linear from 0 over the warm-up, then half a cosine down to 0 at the end."""
    if progress < settings.warmup_epochs:
        return settings.learning_rate * progress / settings.warmup_epochs
    decay = settings.epochs - settings.warmup_epochs
    if decay <= 0:
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - settings.warmup_epochs) / decay))


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Cut each image at a random place out of itself padded by reflection: n x c x h x w -> the same shape."""
    n, _, height, width = images.shape
    padding = min(padding, height - 1, width - 1)
    padded = F.pad(images.float(), (padding,) * 4, mode="reflect")
    corners = torch.randint(0, 2 * padding + 1, (2, n), generator=generator).to(images.device)
    rows = corners[0][:, None] + torch.arange(height, device=images.device)
    columns = corners[1][:, None] + torch.arange(width, device=images.device)
    cut = padded[torch.arange(n, device=images.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2).to(images.dtype)


def _on_device(part: Images, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(part.images).to(device), torch.from_numpy(part.labels).to(device)
