"""Trained models on disk: a folder that holds all that is needed to use the network elsewhere.

model.pt       architecture, normalisation and weights; read with `weights_only=True`, so no code is run
result.json    accuracy, weights, data, recipe, versions
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.build import build_model
from ..models.config import ArchitectureConfig
from ..models.errors import UserError
from ..search.training import UNREADABLE, TrainingRun

MODEL_FILE = "model.pt"


class Classifier(nn.Module):
    """A trained network that takes raw images.

    Args:
        config: its architecture.
        mean, std: per channel, of images scaled to 0..1.
    """

    def __init__(self, config: ArchitectureConfig, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.config = config
        self.network = build_model(config)
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 images n x channels x h x w -> n x num_classes logits."""
        return self.network((images.float() / 255 - self.mean) / self.std)

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """uint8 images n x channels x h x w -> n class numbers."""
        return self.eval()(images).argmax(dim=1)


def save_model(run: TrainingRun, folder: str | os.PathLike) -> Path:
    """Write the run's network into `folder`/model.pt, atomically."""
    path = Path(folder) / MODEL_FILE
    state = {
        "architecture": run.architecture.to_dict(),
        "normalisation": run.normalisation(),
        "weights": {key: value.cpu().contiguous() for key, value in run.trained_model.state_dict().items()},
    }
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
    return path


def load_model(folder: str | os.PathLike) -> Classifier:
    """The trained network of a folder that `mgnas train` wrote, in evaluation mode.

    Raises:
        UserError: there is no model, or the file is damaged.
    """
    path = Path(folder) / MODEL_FILE
    if not path.is_file():
        raise UserError(f"{path}: no such model; `mgnas train` writes one")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        config = ArchitectureConfig.from_dict(state["architecture"])
        model = Classifier(config, **state["normalisation"])
        model.network.load_state_dict(state["weights"])
    except UNREADABLE:
        raise UserError(f"{path}: is damaged or no model of mgnas; train it again") from None
    return model.eval()
