"""A trained network as a user has it: raw images in, classes out. And the files that it is kept in:

    model.pt             architecture, normalisation, class names and weights; read with `weights_only=True`
    model.safetensors    the same, as `mgnas export --to safetensors` writes it and the networks in zoo/ are kept

Neither format can run code when it is read. Importing this module imports neither Ray nor Optuna.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mgnas.errors import UserError
from mgnas.files import parse_json, write_bytes

from ...models.build import build_model
from ...models.config import ArchitectureConfig
from ...search.data.image_files import WHITE
from ...search.training.torch_file import UNREADABLE, read_torch_file
from ...search.training.trainer import Trainer
from .image_input import as_images

if TYPE_CHECKING:
    from PIL import Image

MODEL_FILE, SAFETENSORS_FILE = "model.pt", "model.safetensors"
METADATA = "mgnas"
"""Key in a safetensors file's metadata; its value is everything but the weights, as JSON."""

_FOREIGN = {
    ".onnx": "onnxruntime.InferenceSession",
    ".pt2": "torch.export.load",
    ".pte": "executorch.runtime.Runtime",
    ".tflite": "ai_edge_litert.interpreter.Interpreter",
}
"""Suffixes of exports without the architecture -> what loads them."""

_BATCH = 256


class Classifier(nn.Module):
    """A trained network that takes raw images.

    Args:
        config: its architecture.
        mean, std: per channel, of images scaled to 0..1.
        class_names: one for each class; default: the classes' numbers.
        image_size: pixels per side of the images it was trained on; None: not known.
        background: red, green and blue of what transparent pixels of PIL images show, as in its training.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        config: ArchitectureConfig,
        mean: Sequence[float],
        std: Sequence[float],
        class_names: Sequence[str] = (),
        image_size: int | None = None,
        background: tuple[int, int, int] = WHITE,
    ) -> None:
        super().__init__()
        self.config = config
        self.class_names = tuple(class_names) or tuple(str(label) for label in range(config.num_classes))
        self.image_size, self.background = image_size, background
        self.network = build_model(config)
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 images n x channels x h x w -> n x num_classes logits."""
        return self.network((images.float() / 255 - self.mean) / self.std)

    @torch.inference_mode()
    def predict(self, images: Tensor | np.ndarray | Image.Image | Sequence[Any]) -> Tensor:
        """Classify images, 256 at a time, on the device that the network is on.

        Args:
            images: uint8, n x channels x h x w, a tensor or an array, of the size that the network was trained on. Or a
                list of uint8 tensors or arrays, channels x h x w. Or a PIL image, or a list of PIL images; they are
                turned upright, laid on `background`, converted to the network's channels, and resized and cut to its
                size.

        Returns:
            int64, n: class numbers, on the CPU; `class_names` has their names.

        Raises:
            UserError: images of another type, shape or size.
        """
        images = as_images(images, self.config.in_channels, self.image_size, self.background)
        self.eval()
        classes = [torch.empty(0, dtype=torch.int64)]
        for start in range(0, len(images), _BATCH):
            part = images[start : start + _BATCH]
            if isinstance(part, np.ndarray):  # A copy, since torch takes neither negative strides nor read-only arrays.
                part = torch.from_numpy(part.copy())
            classes.append(self(part.to(self.mean.device)).argmax(dim=1).cpu())
        return torch.cat(classes)

    def metadata(self) -> dict[str, Any]:
        """Everything but the weights, as plain values; `from_metadata` reads it back."""
        return {
            "architecture": self.config.to_dict(),
            "normalisation": {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()},
            "class_names": list(self.class_names),
            "image_size": self.image_size,
            "background": list(self.background),
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> Classifier:
        """A network with random weights. Files of early versions lack class names, image size and background.

        Raises:
            UserError, ValueError, KeyError, TypeError: a value is missing or wrong.
        """
        config = ArchitectureConfig.from_dict(metadata["architecture"])
        names, size = metadata.get("class_names") or (), metadata.get("image_size")
        mean, std = (torch.tensor(metadata["normalisation"][key], dtype=torch.float32) for key in ("mean", "std"))
        if mean.shape != (config.in_channels,) or std.shape != mean.shape or not (mean.isfinite() & (std > 0)).all():
            raise ValueError("normalisation")
        if names and (len(names) != config.num_classes or not all(isinstance(name, str) for name in names)):
            raise ValueError("class_names")
        if size is not None and (type(size) is not int or size < 1):
            raise ValueError("image_size")
        red, green, blue = background = tuple(metadata.get("background") or WHITE)
        if not all(type(colour) is int and 0 <= colour <= 255 for colour in background):
            raise ValueError("background")
        return cls(config, mean.tolist(), std.tolist(), names, size, (red, green, blue))


def save_model(
    run: Trainer,
    folder: str | os.PathLike,
    class_names: Sequence[str] = (),
    image_size: int | None = None,
    background: tuple[int, int, int] = WHITE,
) -> Path:
    """Write the network of a training into `folder`/model.pt, atomically.

    Args:
        run: the training.
        folder: must exist.
        class_names: one for each class; default: the classes' numbers.
        image_size: pixels per side of its images.
        background: red, green and blue of what transparent pixels of its images show.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(folder) / MODEL_FILE
    shown = {"class_names": class_names, "image_size": image_size, "background": background}
    model = Classifier(run.architecture, **run.normalisation(), **shown)
    weights = {key: value.cpu().contiguous() for key, value in run.trained_model.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(model.metadata() | {"weights": weights}, buffer)
    write_bytes(path, buffer.getbuffer())
    return path


def load_model(path: str | os.PathLike) -> Classifier:
    """The trained network of a folder that `mgnas train` wrote, or of a file; in evaluation mode.

    Args:
        path: a folder with a model.pt or else a model.safetensors, or one of these files.

    Raises:
        UserError: there is no model, the file is damaged, or it is an export for other programs.
    """
    file = _model_file(Path(path))
    if not file.is_file():
        expected = file if file.suffix else file / MODEL_FILE
        raise UserError(f"{expected}: no such model; `mgnas train` writes one")
    if file.suffix in _FOREIGN:
        raise UserError(f"{file}: is an export, which {_FOREIGN[file.suffix]} loads; give the folder of the training")
    try:
        model = _from_safetensors(file) if file.suffix == ".safetensors" else _from_checkpoint(file)
    except UNREADABLE:
        raise UserError(f"{file}: is damaged or no model of mgnas; train it again") from None
    return model.eval()


def _model_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    weights_alone = path / SAFETENSORS_FILE
    return weights_alone if weights_alone.is_file() and not (path / MODEL_FILE).exists() else path / MODEL_FILE


def _from_checkpoint(file: Path) -> Classifier:
    state = read_torch_file(file, "cpu")
    model = Classifier.from_metadata(state)
    model.network.load_state_dict(state["weights"])
    return model


def _from_safetensors(file: Path) -> Classifier:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as content:
            model = Classifier.from_metadata(parse_json((content.metadata() or {})[METADATA]))
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    model.load_state_dict(weights)
    return model
