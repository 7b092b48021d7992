"""Loggers: callbacks of Ray Tune that write curves for TensorBoard, MLflow and Weights & Biases."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from mgnas.errors import ConfigError

from .worker import TrialTask

logger = logging.getLogger(__name__)

_PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


def make_loggers(names: Sequence[str], folder: Path, project: str) -> list[Callback]:
    """The loggers of these names.

    Args:
        names: from `search.loggers`.
        folder: the run directory.
        project: name of the search in the other tools.

    Raises:
        ConfigError: a package is missing.
    """
    callbacks: list[Callback] = []
    for name in dict.fromkeys(names):
        package = _PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            raise ConfigError("search.loggers", f"{name} needs the package {package}; pip install 'mgnas[{name}]'")
        if name == "tensorboard":
            callbacks.append(TensorBoardLogger(folder))
        else:
            callbacks.append(_mlflow(project, folder) if name == "mlflow" else _wandb(project, folder))
    return callbacks


class TensorBoardLogger(Callback):
    """Accuracy and loss after each epoch, in one event file a trial, in the run's folder `tensorboard`.

    Ray's own callback would write every field of every result.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._files: dict[str, Any] = {}
        self._logged: dict[str, int] = {}
        self._disk_failed = False

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        curve: list[float] = result["curve"]
        task: TrialTask = trial.config["task"]
        done = self._logged.get(trial.trial_id, task.epochs_done)
        if len(curve) <= done or self._disk_failed:
            return
        try:
            if trial.trial_id not in self._files:
                self._files[trial.trial_id] = self._open(task.number)
            file = self._files[trial.trial_id]
            for epoch in range(done, len(curve)):
                file.write_event(_event("accuracy", curve[epoch], epoch + 1))
            if result["loss"] is not None:
                file.write_event(_event("loss", result["loss"], len(curve)))
            file.flush()
        except OSError as error:  # This is only a log. If the disk is full, the study stops the search.
            logger.warning("%s: cannot be written (%s); no more curves for TensorBoard", self._folder, error.strerror)
            self._disk_failed = True
        self._logged[trial.trial_id] = len(curve)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._logged.pop(trial.trial_id, None)
        file = self._files.pop(trial.trial_id, None)
        if file is not None:
            file.close()

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def _open(self, number: int) -> Any:
        from tensorboardX.event_file_writer import EventsWriter

        folder = self._folder / f"{number:05d}"
        # Not the run directory: if it has been moved away, a new one would stand in its place when it comes back.
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir()
        folder.mkdir(exist_ok=True)
        return EventsWriter(str(folder / "events"))


def _event(name: str, value: float, epoch: int) -> Any:
    # The module is generated and fills its namespace when it is imported.
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboardX.summary import scalar

    return Event(wall_time=time.time(), step=epoch, summary=scalar(name, value))


def _mlflow(project: str, folder: Path) -> Callback:
    """A logger that writes to the address in MLFLOW_TRACKING_URI, by default to mlflow.db in the run."""
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').absolute()}"
    return MLflowLoggerCallback(tracking_uri=address, experiment_name=project)


def _wandb(project: str, folder: Path) -> Callback:
    """A logger that W&B's own environment variables (WANDB_API_KEY, WANDB_MODE, ...) configure."""
    from ray.air.integrations.wandb import WandbLoggerCallback

    return WandbLoggerCallback(project=project, dir=str(folder.absolute()))
