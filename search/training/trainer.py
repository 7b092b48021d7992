"""Training one network: the whole recipe.

The recipe is SGD with Nesterov momentum or AdamW, linear warm-up and cosine decay to zero, label smoothing and gradient
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
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mgnas.files import write_bytes

from ...models.build import build_model
from ...models.config import ArchitectureConfig
from ...space.candidate import TrainingSettings
from ..data.images import ImageDataset
from .device_images import DeviceImages, Normalisation
from .epoch_plan import draw_epoch, steps_and_batch
from .execution import Execution, RecordingError, make_forward, make_runner
from .memory import NotEnoughMemoryError, host_copy, is_out_of_memory, within_memory
from .optimization import Optimization
from .precision import Precision, autocast_type
from .step import TrainingStep, autocast
from .torch_file import UNREADABLE, read_torch_file

logger = logging.getLogger(__name__)

EVALUATION_BATCH = 1024

_MANY_STEPS = 10_000
"""Steps of a training from which cuDNN searches for the fastest algorithms.

On an H200 the search took 14 s for an MGiaD of four levels and at most 3 s for an MgNet and a ResNet18. Then the MgNet
trained 14 % and the MGiaD 6 % faster, the ResNet18 no faster (benchmarks/results/gpu_h200.md).
"""


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
        balanced_accuracy: mean over the classes of the share that is classified correctly; None as above.
    """

    epoch: int
    loss: float
    accuracy: float | None
    seconds: float
    balanced_accuracy: float | None = None


def balanced_accuracy(correct: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes of the share of their images that is classified correctly (Brodersen et al. 2010).

    It shows a network that answers the largest class always, which a high accuracy hides if that class is large.

    Args:
        correct: number of images classified correctly, for each class. Classes without images do not count.
        labels: of all images.
    """
    sizes = np.bincount(labels, minlength=len(correct))
    return float((correct[sizes > 0] / sizes[sizes > 0]).mean())


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
        execution: how training steps are executed.
        model: a network to train, in place, instead of the one that `architecture` describes. It takes the same images.
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
        execution: Execution = "auto",
        model: nn.Module | None = None,
    ) -> None:
        self.architecture, self.settings, self.seed = architecture, settings, seed
        self.device = torch.device(device)
        self.history: list[EpochResult] = []
        self._train, self._size = DeviceImages(train, self.device), train.shape[-1]
        self._evaluation = None if evaluation is None else DeviceImages(evaluation, self.device)
        self._evaluation_labels = None if evaluation is None else evaluation.labels
        self._normalisation = Normalisation(train, self.device)
        self._coins = torch.rand(len(train), generator=torch.Generator().manual_seed(seed)) < 0.5
        if model is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = build_model(architecture)
        # torch declares no overload with memory_format.
        self.model = model.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        images = min(settings.batch_size, len(train))
        self.precision = autocast_type(precision, self.device, images * architecture.channels[0] * self._size**2)
        self._optimization = Optimization(self.model, settings, self.device, self.precision is torch.float16)
        self._step = TrainingStep(
            self._optimization,
            make_forward(self.model, execution),
            self._train,
            self._normalisation,
            settings,
            self._size,
            self.device,
            self.precision,
        )
        self._runner = make_runner(execution, self.device)
        self._offload_until, self._offload_epochs = 0, 1
        self._evaluation_batch = EVALUATION_BATCH

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._optimization.optimizer

    @property
    def finished(self) -> bool:
        return len(self.history) >= self.settings.epochs

    def run_epoch(self) -> EpochResult:
        """Train for one epoch and evaluate.

        Raises:
            TrainingDivergedError: the loss is not finite.
            NotEnoughMemoryError: memory has run out, even with activations in the host's memory.
        """
        start, before = time.perf_counter(), host_copy(self._optimization.state())
        self._step.offloads = len(self.history) < self._offload_until
        try:
            loss = within_memory(self._train_epoch, lambda: self._save_memory(before))
        except RecordingError as error:
            logger.warning("CUDA graphs cannot be used (%s); epoch %d starts over", error, len(self.history) + 1)
            self._runner.recorder = None
            self._start_over(before)
            loss = within_memory(self._train_epoch, lambda: self._save_memory(before))
        if not math.isfinite(loss):
            raise TrainingDivergedError(f"the loss became {loss} in epoch {len(self.history) + 1}")
        accuracy, balanced = self._accuracies()
        result = EpochResult(len(self.history) + 1, loss, accuracy, time.perf_counter() - start, balanced)
        self.history.append(result)
        return result

    def _train_epoch(self) -> float:
        """Pass once over the training images. Returns the mean loss."""
        plan = draw_epoch(self.settings, self._coins, self._size, self.seed, len(self.history))
        run: Callable[[TrainingStep], None] = TrainingStep.__call__ if self._step.offloads else self._runner
        self.model.train()
        self._step.begin(plan)
        self._search_algorithms(True)
        for _ in plan.choices:
            self._step.fetch()
            run(self._step)
        return self._step.total_loss() / len(plan.choices)

    def _save_memory(self, before: dict[str, Any]) -> None:
        """Start the epoch over, with activations in the host's memory.

        They stay there for one epoch, since the shortage may have been a neighbour's. They stay twice as long after
        each further shortage.
        """
        if self._step.offloads:
            raise NotEnoughMemoryError(self.architecture, self.settings.batch_size, self.device)
        logger.warning("out of memory: epoch %d starts over", len(self.history) + 1)
        self._step.offloads = True
        self._offload_until, self._offload_epochs = len(self.history) + self._offload_epochs, 2 * self._offload_epochs
        self._start_over(before)

    def _start_over(self, state: dict[str, Any]) -> None:
        """Return to a state, such as that before the epoch."""
        self._runner.forget()
        self._optimization.restore(state)

    def _search_algorithms(self, often: bool) -> None:
        """Whether cuDNN tries its algorithms for each new shape of a convolution. `often`: the shape recurs.

        The search takes up to 18 seconds, so it does not pay in short trainings.
        """
        if self.device.type == "cuda":
            long = self.settings.epochs * steps_and_batch(self.settings, len(self._train))[0] >= _MANY_STEPS
            torch.backends.cudnn.benchmark = often and long and not torch.are_deterministic_algorithms_enabled()

    def evaluate(self, images: ImageDataset) -> float:
        """Share of these images that the network classifies correctly.

        Raises:
            NotEnoughMemoryError: there is not enough memory for a single image.
        """
        return int(self.evaluate_by_class(images).sum()) / len(images)

    def evaluate_by_class(self, images: ImageDataset) -> np.ndarray:
        """For each class the number of its images that the network classifies correctly: int64, num_classes.

        Raises:
            NotEnoughMemoryError: there is not enough memory for a single image.
        """
        return self._correct_by_class(DeviceImages(images, self.device)).numpy()

    @property
    def trained_model(self) -> nn.Module:
        """The network to evaluate and keep: with the averaged weights if the recipe has an average."""
        return self._optimization.trained_model

    def normalisation(self) -> dict[str, list[float]]:
        """Mean and standard deviation per channel of the training images, scaled to 0..1."""
        return self._normalisation.to_dict()

    def _accuracies(self) -> tuple[float, float] | tuple[None, None]:
        """Accuracy and balanced accuracy on the images that are evaluated in every epoch; None if there are none."""
        if self._evaluation is None or self._evaluation_labels is None:
            return None, None
        correct = self._correct_by_class(self._evaluation, often=True).numpy()
        return int(correct.sum()) / len(self._evaluation), balanced_accuracy(correct, self._evaluation_labels)

    def _correct_by_class(self, images: DeviceImages, often: bool = False) -> torch.Tensor:
        self._search_algorithms(often)
        return within_memory(lambda: self._correct(images).cpu(), lambda: self._halve_evaluation_batch(images))

    def _halve_evaluation_batch(self, images: DeviceImages) -> None:
        batch = min(self._evaluation_batch, len(images))
        if batch == 1:
            raise NotEnoughMemoryError(self.architecture, batch, self.device)
        self._evaluation_batch = batch // 2
        logger.warning("out of memory; evaluating with batches of %d images", self._evaluation_batch)

    @torch.inference_mode()
    def _correct(self, images: DeviceImages) -> torch.Tensor:
        """For each class the number of its images that the network classifies correctly: int64.

        All batches have the same size, so libraries choose their algorithms once. The last batch begins with images of
        the one before, which do not count again.
        """
        model, total = self.trained_model.eval(), len(images)
        batch = math.ceil(total / math.ceil(total / self._evaluation_batch))
        correct = torch.zeros(self.architecture.num_classes, dtype=torch.int64, device=self.device)
        for start in range(0, total, batch):
            first = min(start, total - batch)
            part = slice(first, first + batch)
            with autocast(self.device, self.precision):
                logits = model(self._normalisation(images.gather(part)))
            labels = images.labels[part][start - first :]
            correct.index_add_(0, labels, (logits.argmax(dim=1)[start - first :] == labels).long())
        return correct

    def checkpoint(self) -> memoryview:
        """The state of the training, in the format that `load` reads."""
        buffer = io.BytesIO()
        torch.save(
            host_copy(self._optimization.state()) | {"history": [asdict(result) for result in self.history]}, buffer
        )
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
            state = read_torch_file(path, self.device)
            if not isinstance(state, dict):
                raise TypeError(f"expected a mapping, got {type(state).__name__}")
            self._start_over(state)
            self.history = [EpochResult(**result) for result in state["history"]]
        except UNREADABLE as error:
            if is_out_of_memory(error):
                raise
            raise DamagedCheckpointError(f"{path}: not a checkpoint of this network") from error
