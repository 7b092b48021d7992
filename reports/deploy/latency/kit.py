"""A kit that measures networks on another device: a folder to copy there, which needs neither mgnas nor PyTorch.

NAME.onnx, NAME.int8.onnx    the networks, with random weights: they are as fast as trained ones
kit.json                     which networks these are
measure.py                   measures them and writes latency.json; it needs onnxruntime and numpy alone
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mgnas import __version__
from mgnas.errors import UserError
from mgnas.files import write_text

from ....search.data.images import ImageDataset
from ....space.candidate import Candidate
from ..export import write_onnx
from ..quantisation import quantise
from . import measure
from .meter import network_key, untrained

_KIT, _SCRIPT = "kit.json", "measure.py"
_CALIBRATION_IMAGES = 8


def write_kit(candidates: Sequence[Candidate], folder: Path, say: Callable[[str], None] = lambda line: None) -> None:
    """Write a kit. kit.json comes last, so a kit that was not finished cannot be measured.

    Args:
        candidates: the networks; equal ones count once.
        folder: new or empty.
        say: called with a line about each network.

    Raises:
        UserError: the folder is not empty or cannot be written, or a package of the extra `export` is not installed.
    """
    distinct = {network_key(candidate): candidate for candidate in candidates}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"{folder}: is not empty; give a new folder with --kit")
        networks = {}
        for key, candidate in distinct.items():
            config, size = candidate.architecture, candidate.image_size
            files = {"float32": f"{config.id}-{size}.onnx", "int8": f"{config.id}-{size}.int8.onnx"}
            _write_network(candidate, folder / files["float32"], folder / files["int8"])
            networks[key] = {"image": [config.in_channels, size, size], "files": files}
            say(f"{candidate.weights:>11,} weights  {config.describe()}")
        write_text(folder / _SCRIPT, Path(measure.__file__).read_text(encoding="utf-8"))
        content = {"format": measure.FORMAT, "version": __version__, "networks": networks}
        write_text(folder / _KIT, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); choose another with --kit") from None


def _write_network(candidate: Candidate, file: Path, int8: Path) -> None:
    shape = (_CALIBRATION_IMAGES, candidate.architecture.in_channels, *2 * (candidate.image_size,))
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_onnx(untrained(candidate), file, images)
    # No image has the class -1, so both networks are always wrong, and int8 cannot lose accuracy and be refused.
    unlabelled = ImageDataset(images, np.full(len(images), -1))
    quantise(file, int8, unlabelled, unlabelled)
