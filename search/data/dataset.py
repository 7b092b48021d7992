"""Data sets, with a validation split that is held out from the training images.

Trials see training and validation images only. The test images are for `mgnas train`. Pixels stay in the files of the
cache (cache.py), and a split is an array of indices into them (images.py).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mgnas.errors import ConfigError, UserError
from mgnas.settings import settings

from .cache import CachedDataset, entry_name, open_cached, open_entry
from .images import ImageDataset
from .sources import KNOWN_SHAPES, check_reduction, find_source
from .split import stratified


@settings
class DataSettings:
    """The `data` section of a search file: which images to learn from."""

    name: Literal["digits", "cifar10", "cifar100", "fashion_mnist", "tinyimagenet", "npz", "folder"]
    """digits comes with scikit-learn. npz and folder are the user's own images. The others are downloaded."""
    path: str | None = None
    """npz, folder: the file or folder of the images. Downloaded sets: the folder for downloads, by default
    ~/.cache/mgnas/downloads, or an .npz file that replaces them. tinyimagenet: also the official zip or its unpacked
    folder."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the training images of every class that is held out for validation."""
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the random choice of validation images. All trials of a search use the same images."""
    train_images: Annotated[int, Field(ge=1)] | None = None
    """Number of training images to use, before the split, with the same share of every class; null: all."""
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Pixels per side. folder: the shorter side is resized and the centre is cut out; required if sizes differ or
    images are not square. The others: square blocks of pixels are averaged, so it must divide the images' size."""

    def __post_init__(self) -> None:
        if self.name == "npz" and self.path is None:
            raise ConfigError("path", "is required for npz; name the file with train_images and train_labels")
        if self.name == "folder" and self.path is None:
            raise ConfigError("path", "is required for folder; name the one with train/<class>/ or <class>/ in it")
        if self.name == "digits" and self.path is not None:
            raise ConfigError("path", "has no effect for digits, which come with scikit-learn; drop it")


@dataclass(frozen=True)
class Dataset:
    """The three splits of a data set. `test` is None if there are no test images.

    `class_names[label]` is the name of a class; if no name is known it is the label as text.
    """

    train: ImageDataset
    validation: ImageDataset
    test: ImageDataset | None
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        return self.train.shape[1]

    @property
    def image_size(self) -> int:
        return self.train.shape[2]


def data_shape(data: DataSettings) -> tuple[int, int, int]:
    """(classes, channels, image size) of a data set, which the architectures must fit. Nothing is downloaded.

    Raises:
        UserError: the user's file or folder cannot be used.
    """
    if data.name not in KNOWN_SHAPES:
        dataset = load_dataset(data)
        return dataset.num_classes, dataset.in_channels, dataset.image_size
    classes, channels, size = KNOWN_SHAPES[data.name]
    if data.image_size is not None:
        check_reduction(size, data.image_size)
        size = data.image_size
    return classes, channels, size


def cache_entry_of(data: DataSettings) -> str:
    """The name of the data set's cache entry, which `load_dataset` makes.

    Raises:
        UserError: the user's file or folder does not exist.
    """
    key, _ = find_source(data.name, data.path, data.image_size)
    return entry_name(key)


@functools.lru_cache(maxsize=2)
def load_dataset(data: DataSettings, entry_name: str | None = None) -> Dataset:
    """Open a data set and split it. At its first use on this machine it is converted into the cache.

    Pixels are read for the conversion only. A process keeps the result, so that further trials get it at once.

    Args:
        data: which images.
        entry_name: name of the cache entry to use instead of `data.path`.

    Raises:
        UserError: a file is missing or malformed, a download has failed, or the cache cannot be written.
    """
    if entry_name is None:
        cached = open_cached(*find_source(data.name, data.path, data.image_size))
    else:
        cached = open_entry(entry_name)
    _check_classes(data, cached)
    train, classes = cached.train, len(cached.class_names)
    if data.train_images is not None and data.train_images < len(train):
        if data.train_images < 2 * classes:
            raise UserError(
                f"data.train_images: {data.train_images} leaves under 2 images for each of {classes} classes"
            )
        train = train.take(stratified(train.labels, data.train_images, data.split_seed, min_per_class=2))
    held_out_count = max(round(data.validation_fraction * len(train)), classes)
    if len(train) - held_out_count < classes:
        raise UserError(
            f"data.validation_fraction: {data.validation_fraction:g} leaves classes without training images"
        )
    held_out = stratified(train.labels, held_out_count, data.split_seed, min_per_class=1, min_remaining=1)
    remaining = np.setdiff1d(np.arange(len(train)), held_out)
    return Dataset(train.take(remaining), train.take(held_out), cached.test, cached.class_names)


def _check_classes(data: DataSettings, cached: CachedDataset) -> None:
    counts = np.bincount(cached.train.labels, minlength=len(cached.class_names))
    if (counts >= 2).all():
        return
    where = data.path or data.name
    if data.name == "folder":
        raise UserError(
            f"{where}: class {cached.class_names[counts.argmin()]} has 1 image to train on and validate; "
            "at least 2 are needed, one for each"
        )
    raise UserError(
        f"{where}: train_labels: class {counts.argmin()} has {counts.min()} images; "
        f"at least 2 are needed, one to train on and one to validate (labels count from 0)"
    )
