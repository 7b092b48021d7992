"""npz files: the arrays that they must hold, and what is wrong with others."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mgnas.errors import UserError, printable
from mgnas.machine import usable_memory

from .cache import RawDataset, RawSplit

_SPLITS = ("train", "val", "test")
_KEYS = (*(f"{split}_{kind}" for split in _SPLITS for kind in ("images", "labels")), "classes")
_NAMED = 10


def read_npz(path: Path) -> RawDataset:
    """The data set in an npz file: train_images and train_labels, and optionally val_*, test_* and classes.

    Raises:
        UserError: the file cannot be read, an array is missing, unknown or has other values than expected; the message
            names the file and the array.
    """
    arrays = _arrays(path)
    for key in ("train_images", "train_labels"):
        if key not in arrays:
            raise UserError(f"{path}: {key}: is missing; write the arrays {', '.join(_KEYS)}")
    for split in _SPLITS:
        if (f"{split}_images" in arrays) != (f"{split}_labels" in arrays):
            raise UserError(f"{path}: {split}_images and {split}_labels: give both or neither")
    train = _checked(arrays, "train", path)
    classes = int(train.labels.max()) + 1
    names = _class_names(arrays.get("classes", np.arange(classes)), classes, path)
    splits: dict[str, RawSplit | None] = {"val": None, "test": None}
    for name in splits:
        if f"{name}_images" not in arrays:
            continue
        split = _checked(arrays, name, path)
        if split.images.shape[1:] != train.images.shape[1:]:
            raise UserError(
                f"{path}: {name}_images: {split.images.shape[1:]} differs from the training images' shape, "
                f"{train.images.shape[1:]}"
            )
        if split.labels.max() >= classes:
            raise UserError(f"{path}: {name}_labels: class {split.labels.max()} never occurs in train_labels")
        splits[name] = split
    return RawDataset(train, splits["test"], names, splits["val"])


def _arrays(path: Path) -> Mapping[str, np.ndarray]:
    """The arrays of a file by their names.

    Raises:
        UserError: the file is damaged or no npz, or holds an array with an unknown name or with Python objects.
    """
    key, arrays, memory = None, {}, usable_memory() or math.inf
    try:
        with np.load(path, allow_pickle=False) as file:
            names = file.files
            size = sum(member.file_size for member in file.zip.infolist())
            if size <= memory and not _wrong_names(names):
                for key in names:
                    arrays[key] = file[key]
    except Exception as error:  # numpy's and zipfile's readers raise many kinds of errors on damaged files.
        reason, remedy = " ".join(str(error).split()), "write it with numpy.savez"
        if key is not None and reason.startswith("Object arrays"):
            reason = f"{key} is an array of Python objects"
            kind = "str" if key == "classes" else "numpy.uint8" if key.endswith("images") else "numpy.int64"
            remedy = f"store {key}.astype({kind}); images must have one size, and every image one label"
        raise UserError(f"{path}: not a readable npz file ({reason}); {remedy}") from None
    if size > memory:
        raise UserError(
            f"{path}: holds {size / 1e9:.1f} GB of arrays, and there are {memory / 1e9:.1f} GB of memory here"
        )
    if wrong := _wrong_names(names):
        raise UserError(f"{path}: {wrong}")
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise UserError(f"{path}: {key}: is no array; write the file with numpy.savez")
    return arrays


def _wrong_names(names: list[str]) -> str:
    """What is wrong with the names of the arrays; empty if nothing is."""
    unknown = [name for name in names if name not in _KEYS]
    if unknown:
        shown = ", ".join(printable(name[:100]) for name in unknown[:_NAMED])
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        near = difflib.get_close_matches(unknown[0].casefold()[:100], _KEYS, n=1)
        hint = f"did you mean {near[0]}?" if near else "leave out what is no part of the data set"
        return f"{shown}{more}: unknown arrays; known are {', '.join(_KEYS)}; {hint}"
    twice = [name for name, count in Counter(names).items() if count > 1]
    return f"{twice[0]}: stands twice; write the file with numpy.savez" if twice else ""


def _class_names(names: np.ndarray, classes: int, path: Path) -> tuple[str, ...]:
    """The names of the classes as text. They may come as bytes in UTF-8, or as whole numbers."""
    if names.shape != (classes,):
        raise UserError(
            f"{path}: classes: has shape {names.shape}; expected the {classes} classes' names, or leave it out"
        )
    if names.dtype.kind not in "USiu":
        raise UserError(f"{path}: classes: holds {names.dtype}; expected text: store classes.astype(str)")
    try:
        texts = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
        for text in texts:
            text.encode()
    except ValueError:
        raise UserError(f"{path}: classes: holds names that are not UTF-8; store text (str), not bytes") from None
    for text, count in Counter(texts).items():
        if count > 1:
            raise UserError(f"{path}: classes: {printable(text)} stands {count} times; every class needs its own name")
    return tuple(texts)


def _checked(arrays: Mapping[str, np.ndarray], split: str, path: Path) -> RawSplit:
    """The images of a split as uint8, n x c x h x w, with n int64 labels.

    They may be stored as n x h x w or n x h x w x c, too.
    """
    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    where = f"{path}: {split}"
    if images.dtype != np.uint8:
        hint = f"store (255 * {split}_images).round().astype(numpy.uint8) if the values run from 0 to 1"
        hint = hint if images.dtype.kind == "f" else f"store {split}_images.astype(numpy.uint8)"
        raise UserError(f"{where}_images: holds {images.dtype}; expected uint8 (0 to 255); {hint}")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    square = images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[2] == images.shape[3]
    if not square or images.shape[2] < 8 or not len(images):
        expected = "n x h x w, n x h x w x 3 or n x 3 x h x w with square images from 8 x 8"
        raise UserError(f"{where}_images: has shape {images.shape}; expected {expected}")
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        expected = f"{len(images)} whole numbers{_label_hint(labels, len(images), f'{split}_labels')}"
        raise UserError(f"{where}_labels: has shape {labels.shape} of {labels.dtype}; expected {expected}")
    if labels.min() < 0 or labels.max() >= 65536:
        raise UserError(f"{where}_labels: run from {labels.min()} to {labels.max()}; expected 0 to classes - 1")
    return RawSplit(images, labels.astype(np.int64))


def _label_hint(labels: np.ndarray, count: int, key: str) -> str:
    """What to do with labels of another type or shape; empty if that is not clear."""
    kind = labels.dtype.kind
    if kind in "USOV":
        return f"; for names store numpy.unique({key}, return_inverse=True)[1]"
    if labels.ndim == 2 and len(labels) == count and kind in "biuf" and labels.shape[1] > 1:
        ones = (labels == 1).sum(axis=1)
        if ((labels == 0) | (labels == 1)).all():
            if (ones == 1).all():
                return f"; the labels are one-hot, so store {key}.argmax(axis=1)"
            return "; several labels an image are not supported, every image has one class"
        if kind == "f" and (labels >= 0).all() and np.allclose(labels.sum(axis=1), 1):
            return f"; the labels are shares of the classes, so store {key}.argmax(axis=1)"
        return "; several labels an image are not supported, every image has one class"
    if labels.shape == (count,) and (kind == "b" or (kind == "f" and (labels == np.floor(labels)).all())):
        return f"; store {key}.astype(numpy.int64)"
    return ""
