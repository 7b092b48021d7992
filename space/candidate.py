"""What one trial trains: an architecture together with its training settings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from mgnas.errors import ConfigError
from mgnas.settings import settings

from ..models.config import ArchitectureConfig
from ..models.cost import Cost, total_cost
from ..models.inference_memory import activation_memory, flash_memory

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_ADAMW_RATE_LIMIT = 0.1
"""AdamW changes every weight by about the learning rate in each step. From this rate on nothing is learned."""


@settings
class TrainingSettings:
    """The training recipe: SGD or AdamW with linear warm-up and cosine decay to zero, and the augmentation."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Passes over the training images."""
    batch_size: Annotated[int, Field(ge=2, le=65536)] = 128
    """Images per step."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd: with Nesterov momentum. adamw: Adam with decoupled weight decay; it needs a learning_rate of about 0.003 and
    a weight_decay of about 0.05."""
    learning_rate: _Positive = 0.1
    """The highest rate, which is reached at the end of the warm-up."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov momentum of sgd, and decay of the mean gradient in adamw; 0 switches it off."""
    weight_decay: _NotNegative = 5e-4
    """L2 penalty on convolutions and on the linear layer's matrix, not on batch norms and biases. With adamw they lose
    this share of themselves in each step, times the learning rate."""
    warmup_epochs: _NotNegative = 1.0
    """Number of epochs over which the learning rate rises linearly from 0; it may be a fraction."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the label that is spread evenly over all classes."""
    gradient_clip: _NotNegative = 1.0
    """Largest norm of the gradient; 0 switches clipping off."""
    augmentation: Literal["none", "standard", "trivial", "autoaugment"] = "none"
    """none: only what the settings below switch on. standard: random crops and mirror images, as with flip: true and a
    crop_padding of an eighth of the image's side. trivial: one random operation of TrivialAugment on each image.
    autoaugment: one of AutoAugment's pairs of operations for CIFAR-10 on each image. The last two come after crop and
    flip, which are switched on below."""
    crop_padding: Annotated[int, Field(ge=0, le=64)] = 0
    """Random crops out of the image after padding it by this many reflected pixels; 0 switches them off."""
    random_resized_crop: Annotated[float, Field(ge=0, le=1)] = 0.0
    """For photographs: random rectangles with at least this share of the image's area, resized to the whole image; 0
    switches them off. They take the place of the crops of crop_padding."""
    flip: bool = False
    """Mirror a random half of the images left to right in the first epoch, the other half in the next, and so on."""
    cutout: Annotated[int, Field(ge=0, le=1024)] = 0
    """Blank out a random square with this many pixels per side; 0 switches it off."""
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Mix each image and its label with another one of the batch, in shares of the distribution Beta(mixup, mixup),
    such as 0.2; 0 switches it off. With cutmix, too, a coin decides for each image."""
    cutmix: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Replace a rectangle of each image by that of another one of the batch, and mix the labels by area. The areas
    follow the distribution Beta(cutmix, cutmix), such as 1.0; 0 switches it off."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Evaluate and keep an exponential moving average of the weights, with this decay per step; 0 switches it off."""

    def __post_init__(self) -> None:
        if self.warmup_epochs > self.epochs:
            raise ConfigError("warmup_epochs", f"{self.warmup_epochs:g} is more than epochs, {self.epochs}")
        if self.optimizer == "adamw" and self.learning_rate >= _ADAMW_RATE_LIMIT:
            raise ConfigError(
                "learning_rate", f"{self.learning_rate:g} is a rate for sgd; adamw needs one of about 0.003"
            )
        if self.random_resized_crop and self.crop_padding:
            raise ConfigError("random_resized_crop", "takes the place of crop_padding; set one of the two to 0")


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

    @property
    def cost(self) -> Cost:
        """All that is counted of the network."""
        return total_cost(self.architecture, self.image_size)

    @cached_property
    def weights(self) -> int:
        """Number of trainable parameters."""
        return self.cost.weights

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates per image."""
        return self.cost.macs

    def activation_memory(self, int8: bool = False) -> int:
        """Peak bytes of the activations while the network classifies one image; see models.inference_memory."""
        return activation_memory(self.architecture, self.image_size, int8)

    def flash_memory(self, int8: bool = False) -> int:
        """Bytes of the numbers that the trained network stores; see models.inference_memory."""
        return flash_memory(self.architecture, int8)

    def to_dict(self) -> dict[str, Any]:
        """Architecture and training as plain values."""
        return {"architecture": self.architecture.to_dict(), "training": asdict(self.training)}
