"""From a folder that `mgnas train` wrote to a verified export, which is noted in the folder's model card."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mgnas.errors import UserError, printable
from mgnas.settings import build

from ...search.data.dataset import Dataset, DataSettings, load_dataset
from ...search.data.digest import dataset_digest
from ...space.candidate import TrainingSettings
from .classifier import Classifier, load_model
from .export import FILES, TOLERANCE, Format, export_model
from .fake_quantisation import fine_tune
from .model_card import DIGEST, RESULT_FILE, note_export, read_exports, read_result, write_card
from .portable_paths import locate
from .quantisation import quantise
from .retraining import Retrained

_IMAGES = 256
_SIZE_IF_UNKNOWN = 32  # Files of version 0.1.0 do not tell it.

logger = logging.getLogger(__name__)


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

    Where the images are not at hand, as with a network from someone else, random ones verify it, and a warning says so.

    Args:
        folder: of a trained network; `mgnas train` and `mgnas retrain` write such folders.
        kind: what to export.
        output: the file to write; default: in the folder. An earlier export is replaced, a file of another kind is not.
        int8: quantise the ONNX network, too, into NAME.int8.onnx beside NAME.onnx.
        tolerance: largest difference of a logit from the PyTorch network.
        data_path: where the images are now, if they have moved; then no random ones are taken.
        say: called with each line about what was written.

    Returns:
        the exported file.

    Raises:
        UserError: no model, no images or images of another kind, a missing package, or an export that computes
            something else. Nothing is overwritten then.
    """
    if int8 and kind != "onnx":
        raise UserError("--int8: quantises an ONNX network; give it with --to onnx")
    model, result = load_model(folder), read_result(folder)
    dataset = _dataset(folder, model, result, data_path, required=int8 or data_path is not None)
    write_card(folder)  # It needs all of the folder's files, so a damaged one is refused before the export is written.
    if int8:
        _check_same_images(dataset, result)
    images = _random_images(model) if dataset is None else _some_images(dataset)
    file = output or folder / FILES[kind]
    if file.is_dir() or (file.suffix not in ("", Path(FILES[kind]).suffix) and file.exists()):
        kept = "is a folder" if file.is_dir() else f"exists already and is no {Path(FILES[kind]).suffix} file"
        raise UserError(f"{file}: {kept}; choose another file with --output")
    written = export_model(model, kind, file, images, tolerance)
    names = {"class_names": list(model.class_names)} if kind == "litert" else {}  # The format has no place for them.
    note_export(folder, kind, written.to_dict() | {"random_images": dataset is None} | names)
    say(f"Wrote {file}: {written.size:,} bytes")
    which = f"{written.images} {'random ' if dataset is None else ''}images"
    say(f"Verified on {which}: largest difference of a logit {written.difference:.1e}")
    if int8:
        assert dataset is not None, "it was required"
        int8_file, train = file.with_name(f"{file.stem}.int8{file.suffix}"), dataset.final_train
        recipe = build(TrainingSettings, result.get("training") or {}, "training", str(folder / RESULT_FILE))
        quantised = quantise(file, int8_file, train, dataset.unseen, lambda: fine_tune(model, recipe, train))
        note_export(folder, "int8", quantised.to_dict() | {"words": quantised.in_words()})
        say(quantised.in_words() + (f". Wrote {int8_file}" if quantised.kept else ""))
    return file


def quantise_retrained(retrained: Retrained) -> None:
    """Export and quantise what was trained with each seed, unless that has been done already.

    Raises:
        UserError: as for `export_and_verify`.
    """
    folders = [file.parent for file in sorted(retrained.folder.glob(f"seed-*/{RESULT_FILE}"))]
    missing = [folder for folder in folders if "int8" not in read_exports(folder)]
    if missing:
        count = f"{len(missing)} network{'s' * (len(missing) > 1)}"
        logger.info("trial %d: exporting and quantising %s", retrained.trial, count)
    for folder in missing:
        export_and_verify(folder, "onnx", int8=True)
        logger.info(
            "trial %d, %s: %s", retrained.trial, folder.name.replace("-", " "), read_exports(folder)["int8"]["words"]
        )


def _dataset(
    folder: Path, model: Classifier, result: dict[str, Any], data_path: str | None, required: bool
) -> Dataset | None:
    """The images of the training; None, after a warning, if they cannot be had and are not required.

    Raises:
        UserError: they cannot be had and are required, or they are of another kind than the network's.
    """
    file = str(folder / RESULT_FILE)
    data = build(DataSettings, result.get("data"), "data", file)
    path = locate(data.path, folder) if data_path is None else data_path
    data = build(DataSettings, asdict(data) | {"path": path}, "data", file)
    try:
        dataset = load_dataset(data)
    except UserError as error:
        if required:
            raise UserError(f"the export is verified on real images: {error}; --data says where they are") from None
        logger.warning("there are no real images to verify the export on: %s; --data says where they are", error)
        return None
    _check_fits(dataset, model)
    return dataset


def _check_same_images(dataset: Dataset | None, result: dict[str, Any]) -> None:
    """Refuse images that the network was not trained on; earlier versions did not note which they were.

    Raises:
        UserError: they are others.
    """
    if DIGEST in result and (dataset is None or result[DIGEST] != dataset_digest(dataset)):
        problem = "the images are not those that the network was trained on, so some of them may be in both parts"
        raise UserError(f"--int8: {problem}; --data says where the images of the training are")


def _some_images(dataset: Dataset) -> np.ndarray:
    """Images that the network has not seen, evenly spread."""
    unseen = dataset.unseen
    return unseen.gather(np.linspace(0, len(unseen) - 1, min(len(unseen), _IMAGES)).round().astype(int))


def _random_images(model: Classifier) -> np.ndarray:
    """Random pixels in the network's shape."""
    size = model.image_size or _SIZE_IF_UNKNOWN
    shape = (_IMAGES, model.config.in_channels, size, size)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _check_fits(dataset: Dataset, model: Classifier) -> None:
    """Refuse images of another kind than the network's.

    Raises:
        UserError: they have other channels, another size or other classes.
    """
    unnamed = tuple(str(label) for label in range(len(model.class_names)))  # As in files of early versions.
    same_names = model.class_names in (dataset.class_names, unnamed) and len(unnamed) == dataset.num_classes
    same_size = model.image_size in (None, dataset.image_size)
    if dataset.in_channels != model.config.in_channels:
        difference = f"have {dataset.in_channels} channels, and the network takes {model.config.in_channels}"
    elif not same_size:
        difference = f"have {dataset.image_size} pixels per side, and the network was trained on {model.image_size}"
    elif not same_names:
        theirs, own = _differing(dataset.class_names, model.class_names)
        difference = f"show the classes {theirs}, and the network knows {own}"
    else:
        return
    raise UserError(f"the export is verified on real images: these {difference}; --data says where the right ones are")


def _differing(one: Sequence[str], other: Sequence[str]) -> tuple[str, str]:
    """Two lists of names in words; only those that differ if the lists are equally long."""
    one, other = list(map(printable, one)), list(map(printable, other))
    if len(one) != len(other):
        return f"{', '.join(one[:5])} ({len(one)})", f"{', '.join(other[:5])} ({len(other)})"
    pairs = [pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]][:5]
    return ", ".join(a for a, _ in pairs), ", ".join(b for _, b in pairs)
