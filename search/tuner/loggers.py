"""Where curves go besides the study, for those who watch with other tools: callbacks of Ray Tune."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback

from mgnas.errors import ConfigError

logger = logging.getLogger(__name__)

_EXTRAS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


def make_loggers(names: Sequence[str], folder: Path, project: str) -> list[Callback]:
    """The callbacks of that name.

    Args:
        names: of `search.loggers`.
        folder: the run directory.
        project: what the search is called there.

    Raises:
        ConfigError: a package is missing.
    """
    callbacks: list[Callback] = []
    for name in dict.fromkeys(names):
        package = _EXTRAS[name]
        if importlib.util.find_spec(package) is None:
            raise ConfigError("search.loggers", f"{name} needs the package {package}; pip install 'mgnas[{name}]'")
        if name == "tensorboard":
            callbacks.append(TensorBoardLogger(folder))
        else:
            callbacks.append(_mlflow(project, folder) if name == "mlflow" else _wandb(project, folder))
    return callbacks


class TensorBoardLogger(Callback):
    """Accuracy and loss after each epoch, an event file per trial in the run's folder `tensorboard`.

    Ray's own callback writes every field of every result there, which costs more than it tells.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._files: dict[str, Any] = {}
        self._logged: dict[str, int] = {}
        self._trouble = False

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any) -> None:
        curve, task = result["curve"], trial.config["task"]
        done = self._logged.get(trial.trial_id, task.epochs_done)
        if len(curve) <= done or self._trouble:
            return
        try:
            if trial.trial_id not in self._files:
                self._files[trial.trial_id] = self._opened(task.number)
            file = self._files[trial.trial_id]
            for epoch in range(done, len(curve)):
                file.write_event(_event("accuracy", curve[epoch], epoch + 1))
            if result["loss"] is not None:
                file.write_event(_event("loss", result["loss"], len(curve)))
            file.flush()
        except OSError as error:  # Only a log; if the disk is full the study will say so.
            logger.warning("%s: cannot be written (%s); no more curves for TensorBoard", self._folder, error.strerror)
            self._trouble = True
        self._logged[trial.trial_id] = len(curve)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._logged.pop(trial.trial_id, None)
        file = self._files.pop(trial.trial_id, None)
        if file is not None:
            file.close()

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def _opened(self, number: int) -> Any:
        from tensorboardX.event_file_writer import EventsWriter

        folder = self._folder / f"{number:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        return EventsWriter(str(folder / "events"))


def _event(name: str, value: float, epoch: int) -> Any:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

    return Event(wall_time=time.time(), step=epoch, summary=scalar(name, value))


def _mlflow(project: str, folder: Path) -> Callback:
    """MLFLOW_TRACKING_URI says where to, else a folder of the run."""
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').absolute()}"
    return MLflowLoggerCallback(tracking_uri=address, experiment_name=project)


def _wandb(project: str, folder: Path) -> Callback:
    """WANDB_API_KEY, WANDB_MODE and what else W&B reads say where to."""
    from ray.air.integrations.wandb import WandbLoggerCallback

    return WandbLoggerCallback(project=project, dir=str(folder.absolute()))
