"""A worker trains one candidate, epoch by epoch, and keeps a checkpoint. It never raises.

If the trial fails, the result of its last step holds the reason, and the search goes on.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import Any

import torch

from mgnas.errors import UserError, first_line

from ...models.config import ArchitectureConfig
from ...space.candidate import TrainingSettings
from ..data.dataset import DataSettings, load_dataset
from ..storage.checkpoints import Checkpoint, CheckpointUnavailableError
from ..training.execution import Execution
from ..training.memory import NotEnoughMemoryError, is_out_of_memory
from ..training.precision import Precision
from ..training.trainer import DamagedCheckpointError, Trainer, TrainingDivergedError
from .gpu_share import allocator_share

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialTask:
    """All that a worker must know of a trial. It is sent to other processes and machines.

    Args:
        number: of the trial.
        architecture: of the network.
        training: settings of the training.
        data: names the images.
        seed: of the training.
        checkpoint: file or address of the checkpoint; the training continues from it if it exists.
        epochs_done: how many epochs the search has results of; if the checkpoint has fewer, the result says so.
        entry: name of the data set in the cache, on nodes that cannot read `data` itself; None: found by `data`.
        threads: CPU threads to use.
        gpus: share of the GPU that the worker sees, or number of GPUs; 0: train on the CPU.
        precision: the type in which convolutions are computed.
        execution: how training steps are executed.
        deterministic: on a GPU, use only algorithms that give the same numbers every time.
    """

    number: int
    architecture: ArchitectureConfig
    training: TrainingSettings
    data: DataSettings
    seed: int
    checkpoint: str
    epochs_done: int = 0
    entry: str | None = None
    threads: int = 1
    gpus: float = 0.0
    precision: Precision = "auto"
    execution: Execution = "auto"
    deterministic: bool = False

    def __str__(self) -> str:
        """Short, for loggers that write every value of a config as text."""
        return f"trial {self.number}"

    def __deepcopy__(self, memo: dict[int, Any]) -> TrialTask:
        """The task itself, because it cannot change, and Tune keeps several copies of every trial's config."""
        return self

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.gpus else "cpu")


class TrialWorker:
    """Trains the candidate of a task, one epoch a step."""

    def __init__(self, task: TrialTask) -> None:
        self.task = task
        self._trainer: Trainer | None = None
        self._checkpoint = Checkpoint(task.checkpoint)
        self._note = ""

    def step(self) -> dict[str, Any]:
        """Run the next epoch.

        Returns:
            `curve`: accuracy after each epoch so far; `balanced_accuracy` and `loss` of the last epoch; `seconds` of
            training so far; `finished`: whether it was the last epoch; `failure`: why the trial cannot go on, else
            None; `stop`: why no trial can go on, else None; `note`: what happened to the checkpoint, else empty. After
            some failures `broken` is there and true: this process can no longer use its GPU, so it must be replaced.
        """
        result = self._step()
        if self.task.gpus and result["failure"] is not None and context_is_broken():
            return result | {"broken": True}
        return result

    def _step(self) -> dict[str, Any]:
        try:
            trainer = self._trainer or self._prepare()
            self._trainer = trainer
            if not trainer.finished:
                trainer.run_epoch()
                self._checkpoint.save(trainer.checkpoint())
            note, self._note = self._note, ""
            return {
                "curve": [result.accuracy for result in trainer.history],
                "balanced_accuracy": trainer.history[-1].balanced_accuracy,
                "loss": trainer.history[-1].loss,
                "seconds": sum(result.seconds for result in trainer.history),
                "finished": trainer.finished,
                "failure": None,
                "stop": None,
                "note": note,
            }
        except (CheckpointUnavailableError, _NoDataError) as error:
            return stopping(f"{error}, on {socket.gethostname()}")
        except (TrainingDivergedError, UserError) as error:
            return _failure(str(error))
        except Exception as error:  # Whatever else happens to a trial must not end the search.
            if is_out_of_memory(error):
                task = self.task
                return _failure(str(NotEnoughMemoryError(task.architecture, task.training.batch_size, task.device)))
            logger.exception("trial %d failed", self.task.number)
            return _failure(f"{type(error).__name__}: {error}")

    def _prepare(self) -> Trainer:
        torch.set_num_threads(self.task.threads)
        prepare_device(self.task.gpus, self.task.deterministic)
        trainer, damaged = self._new_trainer(), 0
        with self._checkpoint.versions() as versions:
            for version in versions:
                try:
                    trainer.load(version)
                    break
                except DamagedCheckpointError:
                    damaged, trainer = damaged + 1, self._new_trainer()
        self._note = self._loss_in_words(len(trainer.history), damaged)
        return trainer

    def _loss_in_words(self, epochs: int, damaged: int) -> str:
        """What the checkpoints have lost.

        Args:
            epochs: how many epochs could be restored.
            damaged: how many checkpoints were damaged.

        Returns:
            empty if nothing was lost.
        """
        lost = self.task.epochs_done - epochs
        if lost <= 0 and not damaged:
            return ""
        cause = f"{damaged} of its checkpoints damaged" if damaged else "its checkpoint lost"
        repeated = f", epochs {epochs + 1} to {self.task.epochs_done} repeated" if lost > 0 else ""
        return f"{cause}{repeated}"

    def _new_trainer(self) -> Trainer:
        task = self.task
        try:
            dataset = load_dataset(task.data, task.entry)
        except UserError as error:
            raise _NoDataError(str(error)) from None
        parts = (dataset.train, dataset.validation)
        return Trainer(task.architecture, task.training, *parts, task.seed, task.device, task.precision, task.execution)


def prepare_device(gpus: float, deterministic: bool = False) -> None:
    """Set what a training's share of a GPU means for this process, which may have trained something else before.

    PyTorch's allocator gets no more than the share, so that the training cannot push its neighbours out.

    Args:
        gpus: of the training; 0: it runs on the CPU.
        deterministic: see `set_determinism`.
    """
    set_determinism(gpus > 0 and deterministic)
    if gpus:
        memory = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(allocator_share(gpus, memory))


def context_is_broken() -> bool:
    """Whether CUDA can no longer be used in this process.

    After some errors (illegal memory access, failed assertion or launch, ECC) every further call fails with the same
    error, until the process ends.
    """
    try:
        torch.cuda.synchronize()
    except Exception:  # CUDA reports these errors by several classes of exceptions.
        return True
    return False


def set_determinism(on: bool) -> None:
    """Make this process use only CUDA algorithms that give the same numbers every time, or the fastest ones again.

    To switch it on, call this before the process first uses CUDA, because cuBLAS reads the size of its workspace then.
    CPU algorithms give the same numbers every time in any case.
    """
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(on)


class _NoDataError(RuntimeError):
    """The images cannot be read here, so no other trial could train here either."""


_NO_RESULT = {"curve": [], "loss": None, "seconds": 0.0, "finished": False, "failure": None, "stop": None, "note": ""}


def stopping(reason: str) -> dict[str, Any]:
    """The result of a step that no trial could take at present: the search must stop, and can be resumed later."""
    return _NO_RESULT | {"stop": first_line(reason)}


def _failure(reason: str) -> dict[str, Any]:
    return _NO_RESULT | {"failure": first_line(reason)}
