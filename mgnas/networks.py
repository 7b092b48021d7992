"""Networks by themselves: built, counted, loaded and exported, without a search."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from mgnas.models.config import ArchitectureConfig

from .errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from mgnas.reports.deploy.classifier import Classifier
    from mgnas.reports.deploy.export import Format


def build_model(config: ArchitectureConfig | Mapping[str, Any] | str) -> nn.Module:
    """The network of an architecture, freshly initialised from torch's global generator.

    It maps float images, n x in_channels x h x w, of any size from 8 x 8 up to n x num_classes logits.

    Args:
        config: an architecture, a mapping of its settings, or the name of a published network such as
            `mgnet-cifar10`; `mgnas weights --preset list` shows them.

    Raises:
        UserError: an unknown name, or settings that cannot be used.
    """
    from mgnas.models.build import build_model

    return build_model(_architecture(config))


def count_weights(config: ArchitectureConfig | Mapping[str, Any] | str) -> int:
    """The number of trainable weights of an architecture, exact, and computed without building the network.

    Args:
        config: as for `build_model`.

    Raises:
        UserError: an unknown name, or settings that cannot be used.
    """
    from mgnas.models.cost import count_weights

    return count_weights(_architecture(config))


def count_macs(config: ArchitectureConfig | Mapping[str, Any] | str, image_size: int) -> int:
    """The number of multiply-accumulates of an architecture on one image.

    Args:
        config: as for `build_model`.
        image_size: pixels per side.

    Raises:
        UserError: an unknown name, or settings that cannot be used.
    """
    from mgnas.models.cost import count_macs

    return count_macs(_architecture(config), image_size)


def load(model: str | os.PathLike[str]) -> Classifier:
    """The trained network of a folder that `Run.retrain` or `mgnas train` wrote, of one in `zoo/`, or of a file.

    Needs neither Ray nor Optuna, and runs no code from the file.

    Args:
        model: the folder, its `model.pt`, or a `.safetensors` file that `export` wrote.

    Returns:
        an nn.Module in evaluation mode; its `predict(images)` gives the class numbers of PIL images or uint8
            arrays.

    Raises:
        UserError: there is no model, the file is damaged, or it is an export for other programs.
    """
    from mgnas.reports.deploy.classifier import load_model

    return load_model(model)


def export(
    model: str | os.PathLike[str],
    to: Format = "onnx",
    *,
    output: str | os.PathLike[str] | None = None,
    int8: bool = False,
    tolerance: float = 1e-4,
    data: str | os.PathLike[str] | None = None,
) -> Path:
    """Export a trained network, and verify the export on real images against PyTorch.

    The exported network takes raw uint8 images. The folder's model_card.md tells how to use it. If the images of the
    training are not at hand, random ones verify the export, and a warning says so.

    Args:
        model: folder that `Run.retrain` or `mgnas train` wrote, or one of `zoo/`.
        to: `onnx` for any runtime, `torch-export` for PyTorch without mgnas, `executorch` and `litert` for phones and
            small computers (one image at a time), `safetensors` for `load`.
        output: file to write; default: in the folder.
        int8: quantise the ONNX network too, into a file of its own.
        tolerance: largest difference of a logit from the PyTorch network.
        data: where the images are, if they have moved since the training.

    Returns:
        the exported file.

    Raises:
        UserError: no model, no images for int8, a missing package, or an export that computes something else.
    """
    from mgnas.reports.deploy.export import Format
    from mgnas.reports.deploy.verified_export import export_and_verify

    if to not in get_args(Format):
        raise UserError(f"to: expected {', '.join(get_args(Format))}, got {to!r}")
    return export_and_verify(
        Path(model),
        to,
        output=None if output is None else Path(output),
        int8=int8,
        tolerance=tolerance,
        data_path=None if data is None else str(Path(data).absolute()),
    )


def _architecture(config: ArchitectureConfig | Mapping[str, Any] | str) -> ArchitectureConfig:
    if isinstance(config, ArchitectureConfig):
        return config
    if isinstance(config, str):
        from mgnas.space.published import preset

        return preset(config).config
    return ArchitectureConfig.from_dict(config)
