"""What a worker does: train one candidate epoch by epoch, keep a checkpoint, and never raise.

A failure ends the trial with its reason in the result; the search goes on.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import Any

import torch

from mgnas.errors import UserError

from ...models.config import ArchitectureConfig
from ...space.candidate import TrainingSettings
from ..data.dataset import DataSettings, load_dataset
from ..storage.checkpoints import Checkpoint, CheckpointUnavailableError
from ..training.execution import Execution
from ..training.memory import NotEnoughMemoryError, is_out_of_memory
from ..training.precision import Precision
from ..training.trainer import DamagedCheckpointError, Trainer, TrainingDivergedError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialTask:
    """All that a worker must know of a trial; it is sent to other processes and machines.

    Args:
        number: of the trial.
        architecture: the network.
        training: the recipe.
        data: which images.
        seed: of the training.
        checkpoint: file or address to keep the progress in, and to continue from if it exists.
        epochs_done: that the search knows of already; fewer in the checkpoint are reported as lost.
        entry: the data set's name in the cache, where `data` itself cannot be read; None: find it by `data`.
        threads: CPU threads to use.
        gpu: train on the GPU that the worker sees.
        precision: the type to compute convolutions in.
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
    gpu: bool = False
    precision: Precision = "auto"
    execution: Execution = "eager"
    deterministic: bool = False

    def __str__(self) -> str:
        """Short, for loggers that write every value of a config as text."""
        return f"trial {self.number}"

    def __deepcopy__(self, memo: dict[int, Any]) -> TrialTask:
        """Itself, as nothing of it ever changes: Tune keeps several copies of every trial's config."""
        return self

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.gpu else "cpu")


class TrialWorker:
    """Trains the candidate of a task, one epoch a step."""

    def __init__(self, task: TrialTask) -> None:
        self.task = task
        self._run: Trainer | None = None
        self._checkpoint = Checkpoint(task.checkpoint)
        self._note = ""

    def step(self) -> dict[str, Any]:
        """Run the next epoch.

        Returns:
            `curve` (accuracy after each epoch so far), `loss`, `seconds` (training time so far), `finished`,
            `failure`: the reason why the trial cannot go on, else None; `stop`: why no trial can, else None; and
            `note`: what happened to its checkpoint, else empty.
        """
        try:
            run = self._run or self._prepare()
            self._run = run
            if not run.finished:
                run.run_epoch()
                self._checkpoint.save(run.checkpoint())
            note, self._note = self._note, ""
            return {
                "curve": [result.accuracy for result in run.history],
                "loss": run.history[-1].loss,
                "seconds": sum(result.seconds for result in run.history),
                "finished": run.finished,
                "failure": None,
                "stop": None,
                "note": note,
            }
        except (CheckpointUnavailableError, _NoDataError) as error:
            return stopping(f"{error}, on {socket.gethostname()}")
        except TrainingDivergedError as error:
            return _failure(str(error))
        except UserError as error:
            return _failure(str(error))
        except Exception as error:  # Whatever else a trial meets must not end the search; its reason is kept.
            if is_out_of_memory(error):
                task = self.task
                return _failure(str(NotEnoughMemoryError(task.architecture, task.training.batch_size, task.device)))
            logger.exception("trial %d failed", self.task.number)
            return _failure(f"{type(error).__name__}: {error}")

    def _prepare(self) -> Trainer:
        torch.set_num_threads(self.task.threads)
        set_determinism(self.task.gpu and self.task.deterministic)
        run, damaged = self._fresh_run(), 0
        with self._checkpoint.versions() as versions:
            for version in versions:
                try:
                    run.load(version)
                    break
                except DamagedCheckpointError:
                    damaged, run = damaged + 1, self._fresh_run()
        self._note = self._lost(len(run.history), damaged)
        return run

    def _lost(self, epochs: int, damaged: int) -> str:
        """What could not be taken over from the checkpoints, in words; empty if all was."""
        lost = self.task.epochs_done - epochs
        if lost <= 0 and not damaged:
            return ""
        what = f"{damaged} of its checkpoints damaged" if damaged else "its checkpoint lost"
        again = f", epochs {epochs + 1} to {self.task.epochs_done} repeated" if lost > 0 else ""
        return f"{what}{again}"

    def _fresh_run(self) -> Trainer:
        task = self.task
        try:
            dataset = load_dataset(task.data, task.entry)
        except UserError as error:
            raise _NoDataError(str(error)) from None
        parts = (dataset.train, dataset.validation)
        how = (task.seed, task.device, task.precision, task.execution)
        return Trainer(task.architecture, task.training, *parts, *how)


def set_determinism(on: bool) -> None:
    """Make this process use only CUDA algorithms that give the same numbers every time, or the fastest ones again.

    `on` must come before the process first uses CUDA: cuBLAS reads the size of its workspace then. CPU algorithms
    give the same numbers every time in any case.
    """
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(on)


class _NoDataError(RuntimeError):
    """The images cannot be read here; every other trial would meet the same."""


_NOTHING = {"curve": [], "loss": None, "seconds": 0.0, "finished": False, "failure": None, "stop": None, "note": ""}


def stopping(reason: str) -> dict[str, Any]:
    """The result of a step that no trial could take as things are: the search must stop, and can go on later."""
    return _NOTHING | {"stop": _first_line(reason)}


def _failure(reason: str) -> dict[str, Any]:
    return _NOTHING | {"failure": _first_line(reason)}


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["unknown"])[0][:300]
