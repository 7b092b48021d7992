"""What one trial trains: an architecture together with its training settings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from mgnas.errors import ConfigError
from mgnas.settings import settings

from ..models.config import ArchitectureConfig
from ..models.cost import total_cost

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@settings
class TrainingSettings:
    """The training recipe: SGD with Nesterov momentum, linear warm-up and cosine decay to zero."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Passes over the training images."""
    batch_size: Annotated[int, Field(ge=2, le=65536)] = 128
    """Images per step."""
    learning_rate: _Positive = 0.1
    """The highest rate, which is reached at the end of the warm-up."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov momentum; 0 switches it off."""
    weight_decay: _NotNegative = 5e-4
    """L2 penalty on convolutions and on the linear layer's matrix, not on batch norms and biases."""
    warmup_epochs: _NotNegative = 1.0
    """Number of epochs over which the learning rate rises linearly from 0; it may be a fraction."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the label that is spread evenly over all classes."""
    gradient_clip: _NotNegative = 1.0
    """Largest norm of the gradient; 0 switches clipping off."""
    crop_padding: Annotated[int, Field(ge=0, le=64)] = 0
    """Random crops out of the image after padding it by this many reflected pixels; 0 switches them off."""
    flip: bool = False
    """Mirror a random half of the images left to right in the first epoch, the other half in the next, and so on."""
    cutout: Annotated[int, Field(ge=0, le=1024)] = 0
    """Blank out a random square with this many pixels per side; 0 switches it off."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Evaluate and keep an exponential moving average of the weights, with this decay per step; 0 switches it off."""

    def __post_init__(self) -> None:
        if self.warmup_epochs > self.epochs:
            raise ConfigError("warmup_epochs", f"{self.warmup_epochs:g} is more than epochs, {self.epochs}")


@dataclass(frozen=True)
class Candidate:
    """A valid point of the search space. Its cost is known before anything is trained.

    Args:
        architecture: the network.
        training: how it is trained.
        image_size: pixels per side, which the MACs depend on.
        params: the parameter values, as the search space labels them.
        searched_training_settings: names of the training settings that the space varies; their values are part of `id`.
    """

    architecture: ArchitectureConfig
    training: TrainingSettings
    image_size: int
    params: dict[str, Any]
    searched_training_settings: tuple[str, ...] = ()

    @cached_property
    def id(self) -> str:
        """The candidate's name, equal for candidates that train the same network in the same way."""
        if not self.searched_training_settings:
            return self.architecture.id
        varied = json.dumps([getattr(self.training, name) for name in self.searched_training_settings])
        return f"{self.architecture.id}-{hashlib.sha256(varied.encode()).hexdigest()[:6]}"

    @cached_property
    def weights(self) -> int:
        """Number of trainable parameters."""
        return total_cost(self.architecture, self.image_size).weights

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates per image."""
        return total_cost(self.architecture, self.image_size).macs

    def to_dict(self) -> dict[str, Any]:
        """Architecture and training as plain values."""
        return {"architecture": self.architecture.to_dict(), "training": asdict(self.training)}
