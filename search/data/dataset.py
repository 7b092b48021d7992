"""Data sets, with a validation split held out from the training images.

Trials see training and validation images only; the test images are for `mgnas train`. Pixels stay in the cache's
files (data_cache.py); a split is a choice of places in them (images.py).
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
    """Which images to learn from."""

    name: Literal["digits", "cifar10", "cifar100", "fashion_mnist", "tinyimagenet", "npz", "folder"]
    """digits: scikit-learn's, no download. npz, folder: the user's own images. The others are downloaded."""
    path: str | None = None
    """npz: the file. folder: the folder. The downloaded sets: an .npz file instead of a download, or the folder to keep
    the download in, default ~/.cache/mgnas/downloads; for tinyimagenet also the official zip or its unpacked folder."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the training images that is held out, the same of every class."""
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Chooses the held-out images. All trials of a search share it."""
    train_images: Annotated[int, Field(ge=1)] | None = None
    """Use only so many training images (before the split), the same share of every class."""
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Pixels per side. folder: the shorter side is resized, the centre cut out; required if sizes differ or are not
    square. The others: images are averaged down; it must divide their size."""

    def __post_init__(self) -> None:
        if self.name == "npz" and self.path is None:
            raise ConfigError("path", "is required for npz; name the file with train_images and train_labels")
        if self.name == "folder" and self.path is None:
            raise ConfigError("path", "is required for folder; name the one with train/<class>/ or <class>/ in it")
        if self.name == "digits" and self.path is not None:
            raise ConfigError("path", "has no effect for digits, which come with scikit-learn; drop it")


@dataclass(frozen=True)
class Dataset:
    """The three parts of a data set; `test` is None if there are no test images.

    `class_names` holds each class's name by its label; the label as text where no name is known.
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
    """(classes, channels, image size): what the architectures must fit; downloads nothing.

    Raises:
        UserError: a user's file or folder that cannot be used.
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
    """The name of its entry in the cache; `load_dataset` puts it there.

    Raises:
        UserError: a file or folder that is not there.
    """
    key, _ = find_source(data.name, data.path, data.image_size)
    return entry_name(key)


@functools.lru_cache(maxsize=2)
def load_dataset(data: DataSettings, entry_name: str | None = None) -> Dataset:
    """Open a data set, converted now if this is its first use on this machine, and split it.

    No pixel is read but to convert; a process that trains several trials does the rest once, too.

    Args:
        data: which images.
        entry_name: take them from this entry of the cache, whatever `data.path` says.

    Raises:
        UserError: a missing or malformed file, a failed download, a cache that cannot be written.
    """
    if entry_name is None:
        entry = open_cached(*find_source(data.name, data.path, data.image_size))
    else:
        entry = open_entry(entry_name)
    _check_classes(data, entry)
    train, classes = entry.train, len(entry.class_names)
    if data.train_images is not None and data.train_images < len(train):
        if data.train_images < 2 * classes:
            raise UserError(
                f"data.train_images: {data.train_images} leaves under 2 images for each of {classes} classes"
            )
        train = train.take(stratified(train.labels, data.train_images, data.split_seed, least=2))
    held_out_count = max(round(data.validation_fraction * len(train)), classes)
    if len(train) - held_out_count < classes:
        raise UserError(
            f"data.validation_fraction: {data.validation_fraction:g} leaves classes without training images"
        )
    held_out = stratified(train.labels, held_out_count, data.split_seed, least=1, left=1)
    kept = np.setdiff1d(np.arange(len(train)), held_out)
    return Dataset(train.take(kept), train.take(held_out), entry.test, entry.class_names)


def _check_classes(data: DataSettings, entry: CachedDataset) -> None:
    counts = np.bincount(entry.train.labels, minlength=len(entry.class_names))
    if (counts >= 2).all():
        return
    where = data.path or data.name
    if data.name == "folder":
        raise UserError(
            f"{where}: class {entry.class_names[counts.argmin()]} has 1 image to train on and validate; "
            "at least 2 are needed, one for each"
        )
    raise UserError(
        f"{where}: train_labels: class {counts.argmin()} has {counts.min()} images; "
        f"at least 2 are needed, one to train on and one to validate (labels count from 0)"
    )
