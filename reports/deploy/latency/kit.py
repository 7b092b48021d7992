"""A kit that measures networks on another device: a folder to copy there, which needs neither mgnas nor PyTorch.

NAME.onnx, NAME.int8.onnx    the networks, with random weights: they are as fast as trained ones
kit.json                     which networks these are
measure.py                   measures them and writes latency.json; it needs onnxruntime and numpy alone
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from mgnas import __version__
from mgnas.errors import UserError
from mgnas.files import write_text

from ....space.candidate import Candidate
from . import measure
from .untrained import network_key, write_untrained

_KIT, _SCRIPT = "kit.json", "measure.py"


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
            write_untrained(candidate, folder / files["float32"], folder / files["int8"])
            networks[key] = {"image": [config.in_channels, size, size], "files": files}
            say(f"{candidate.weights:>11,} weights  {config.describe()}")
        write_text(folder / _SCRIPT, Path(measure.__file__).read_text(encoding="utf-8"))
        content = {"format": measure.FORMAT, "version": __version__, "networks": networks}
        write_text(folder / _KIT, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); choose another with --kit") from None
