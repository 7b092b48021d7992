"""From a folder that `mgnas train` wrote to a verified export, which is noted in the folder's model card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mgnas.errors import UserError
from mgnas.settings import build

from ...search.data.dataset import Dataset, DataSettings, load_dataset
from .classifier import load_model
from .export import FILES, TOLERANCE, Format, export_model
from .model_card import note_export, read_result
from .quantisation import INT8_FILE, quantise

_IMAGES = 256


def export_and_verify(
    folder: Path,
    kind: Format,
    *,
    output: Path | None = None,
    int8: bool = False,
    tolerance: float = TOLERANCE,
    data_path: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Export the network in `folder`, verify it on images of its data set, and bring the model card up to date.

    Args:
        folder: of a trained network; `mgnas train` and `mgnas retrain` write such folders.
        kind: what to export.
        output: the file to write; default: in the folder.
        int8: quantise the ONNX network, too.
        tolerance: largest difference of a logit from the PyTorch network.
        data_path: where the images are now, if they have moved.
        say: called with each line about what was written.

    Returns:
        the exported file.

    Raises:
        UserError: no model, no images, a missing package, or an export that computes something else.
    """
    if int8 and kind != "onnx":
        raise UserError("--int8: quantises an ONNX network; give it with --to onnx")
    model, result = load_model(folder), read_result(folder)
    dataset = _dataset(result["data"], data_path)
    unseen = dataset.validation if dataset.test is None else dataset.test
    images = unseen.gather(np.linspace(0, len(unseen) - 1, min(len(unseen), _IMAGES)).round().astype(int))
    file = output or folder / FILES[kind]
    written = export_model(model, kind, file, images, tolerance)
    note_export(folder, kind, written.to_dict())
    say(f"Wrote {file}: {written.size:,} bytes")
    say(f"Verified on {written.images} images: largest difference of a logit {written.difference:.1e}")
    if int8:
        quantised = quantise(file, file.with_name(INT8_FILE), dataset.train, unseen)
        note_export(folder, "int8", quantised.to_dict() | {"words": quantised.in_words()})
        say(quantised.in_words() + (f". Wrote {file.with_name(INT8_FILE)}" if quantised.kept else ""))
    return file


def _dataset(plain: dict, data_path: str | None) -> Dataset:
    data = build(DataSettings, plain, "data", "result.json")
    try:
        return load_dataset(data if data_path is None else replace(data, path=data_path))
    except UserError as error:
        raise UserError(f"the export is verified on real images: {error}; --data says where they are") from None
