"""How far full trainings are. Each writes it to a small file after every epoch, for other processes and machines."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mgnas.errors import ConfigError
from mgnas.files import read_json, write_text
from mgnas.settings import build, settings

from ..text import clock

_FILE = "progress.json"


@settings
class TrainingProgress:
    """How far a training is."""

    epoch: Annotated[int, Field(ge=1)]
    """How many epochs it has finished."""
    epochs: int
    """How many it has in all."""
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """What the finished ones took, without interruptions."""

    def __post_init__(self) -> None:
        if self.epoch > self.epochs:
            raise ConfigError("epoch", f"expected at most {self.epochs}, got {self.epoch}")

    @property
    def seconds_left(self) -> float:
        """What the other epochs will take if they are as fast."""
        return self.seconds / self.epoch * (self.epochs - self.epoch)

    def in_words(self) -> str:
        return f"epoch {self.epoch}/{self.epochs}, about {clock(self.seconds_left)} left"


def write_progress(folder: Path, progress: TrainingProgress) -> None:
    """Put it into the folder of its training, in place of what was there.

    Raises:
        UserError: the folder cannot be written.
    """
    write_text(folder / _FILE, json.dumps(asdict(progress)) + "\n")


def read_progress(folder: Path) -> TrainingProgress | None:
    """That of the training in a folder; None before its first epoch, after its end, and if the file is damaged."""
    try:
        return build(TrainingProgress, read_json(folder / _FILE))
    except (OSError, ValueError):
        return None


def forget_progress(folder: Path) -> None:
    """The training in this folder has ended."""
    (folder / _FILE).unlink(missing_ok=True)
