"""What a worker does: train one candidate epoch by epoch, keep a checkpoint, and never raise.

A failure ends the trial with its reason in the result; the search goes on.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..models.config import ArchitectureConfig
from ..models.errors import UserError
from ..space.candidate import TrainingSettings
from .data import DataSettings, load_dataset
from .execution import Execution
from .memory import NotEnoughMemoryError, is_out_of_memory
from .precision import Precision
from .training import DamagedCheckpointError, TrainingDivergedError, TrainingRun

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
        checkpoint: file to keep the progress in, and to continue from if it exists.
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
    threads: int = 1
    gpu: bool = False
    precision: Precision = "auto"
    execution: Execution = "eager"
    deterministic: bool = False

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.gpu else "cpu")


class TrialWorker:
    """Trains the candidate of a task, one epoch a step."""

    def __init__(self, task: TrialTask) -> None:
        self.task = task
        self._run: TrainingRun | None = None

    def step(self) -> dict[str, Any]:
        """Run the next epoch.

        Returns:
            `curve` (accuracy after each epoch so far), `loss`, `seconds` (training time so far), `finished`, and
            `failure`: the reason why the trial cannot go on, else None.
        """
        try:
            run = self._run or self._prepare()
            self._run = run
            if not run.finished:
                run.run_epoch()
                run.save(self.task.checkpoint)
            return {
                "curve": [result.accuracy for result in run.history],
                "loss": run.history[-1].loss,
                "seconds": sum(result.seconds for result in run.history),
                "finished": run.finished,
                "failure": None,
            }
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

    def _prepare(self) -> TrainingRun:
        torch.set_num_threads(self.task.threads)
        set_determinism(self.task.gpu and self.task.deterministic)
        run = self._fresh_run()
        if Path(self.task.checkpoint).exists():
            try:
                run.load(self.task.checkpoint)
            except DamagedCheckpointError:
                logger.warning("trial %d: its checkpoint is damaged; starting it anew", self.task.number)
                run = self._fresh_run()
        return run

    def _fresh_run(self) -> TrainingRun:
        task, dataset = self.task, load_dataset(self.task.data)
        parts = (dataset.train, dataset.validation)
        how = (task.seed, task.device, task.precision, task.execution)
        return TrainingRun(task.architecture, task.training, *parts, *how)


def set_determinism(on: bool) -> None:
    """Make this process use only CUDA algorithms that give the same numbers every time, or the fastest ones again.

    `on` must come before the process first uses CUDA: cuBLAS reads the size of its workspace then. CPU algorithms
    give the same numbers every time in any case.
    """
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(on)


def _failure(reason: str) -> dict[str, Any]:
    first_line = (reason.strip().splitlines() or ["unknown"])[0]
    return {"curve": [], "loss": None, "seconds": 0.0, "finished": False, "failure": first_line[:300]}
