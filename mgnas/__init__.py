"""mgnas: multigrid CNN architectures with the best accuracy at the fewest weights."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mgnas.reports.deploy.classifier import Classifier

__version__ = version("mgnas")


def load(model: str | os.PathLike) -> Classifier:
    """The trained network of a folder that `mgnas train` or `mgnas retrain` wrote, or of a safetensors file.

    Needs neither Ray nor Optuna, and runs no code from the file.

    Args:
        model: the folder, the `model.pt` in it, or a `.safetensors` file that `mgnas export` wrote.

    Returns:
        an nn.Module in evaluation mode; `predict(images)` gives class numbers of uint8 images.

    Raises:
        UserError: there is no model, or the file is damaged.
    """
    # NOTE: Here, since it imports torch, and the command line asks for the version only.
    from mgnas.reports.deploy.classifier import load_model

    return load_model(model)
