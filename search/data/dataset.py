"""Data sets, with a validation split that is held out from the training images.

Trials see training and validation images only. The test images are for `mgnas train`. Pixels stay in the files of the
cache (cache.py), and a split is an array of indices into them (images.py).
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mgnas.errors import ConfigError, UserError
from mgnas.files import short
from mgnas.settings import settings

from .cache import CachedDataset, entry_name, open_cached, open_entry
from .image_files import parse_colour
from .images import ImageDataset
from .sources import KNOWN_SHAPES, check_reduction, find_source
from .split import stratified

logger = logging.getLogger(__name__)


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
    """Share of the training images of every class that is held out for validation. It has no effect if the data set
    brings validation images of its own: a folder `val` beside `train`, or the arrays val_images and val_labels."""
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the random choice of validation images. All trials of a search use the same images."""
    train_images: Annotated[int, Field(ge=1)] | None = None
    """Number of training images to use, before the split, with the same share of every class; null: all."""
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Pixels per side. folder: the shorter side is resized and the centre is cut out; required if sizes differ or
    images are not square. The others: square blocks of pixels are averaged, so it must divide the images' size."""
    background: str | None = None
    """folder: the colour that transparent pixels show, by its name or as '#rrggbb'; null: white."""

    def __post_init__(self) -> None:
        if self.name == "npz" and self.path is None:
            raise ConfigError("path", "is required for npz; name the file with train_images and train_labels")
        if self.name == "folder" and self.path is None:
            raise ConfigError("path", "is required for folder; name the one with train/<class>/ or <class>/ in it")
        if self.name == "digits" and self.path is not None:
            raise ConfigError("path", "has no effect for digits, which come with scikit-learn; drop it")
        if self.background is not None:
            if self.name != "folder":
                raise ConfigError("background", f"has no effect for {self.name}, only for folder; drop it")
            try:
                parse_colour(self.background)
            except ValueError:
                problem = f"expected the name of a colour or '#rrggbb', got {short(self.background)}"
                raise ConfigError("background", problem) from None


@dataclass(frozen=True)
class Dataset:
    """The three splits of a data set.

    Args:
        train, validation: the images of a search.
        test: for the selected networks; None: there are no test images.
        class_names: the name of each label; if no name is known it is the label as text.
        own_validation: whether the data set brings the validation images, so that none are held out.
    """

    train: ImageDataset
    validation: ImageDataset
    test: ImageDataset | None
    class_names: tuple[str, ...]
    own_validation: bool = False

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        return self.train.shape[1]

    @property
    def image_size(self) -> int:
        return self.train.shape[2]

    @property
    def final_train(self) -> ImageDataset:
        """The images of a final training: the validation images, too, unless they are the only unseen ones."""
        return self.train if self.test is None else self.train + self.validation

    @property
    def unseen(self) -> ImageDataset:
        """The images that a final training is measured on: the test images, or else the validation images."""
        return self.validation if self.test is None else self.test


def data_shape(data: DataSettings) -> tuple[int, int, int]:
    """(classes, channels, image size) of a data set, which the architectures must fit. Nothing is downloaded.

    Raises:
        UserError: the user's file or folder cannot be used.
    """
    if data.name not in KNOWN_SHAPES:
        dataset = load_dataset(data)
        check_learnable(data, dataset)
        return dataset.num_classes, dataset.in_channels, dataset.image_size
    classes, channels, size = KNOWN_SHAPES[data.name]
    if data.image_size is not None:
        check_reduction(size, data.image_size)
        size = data.image_size
    return classes, channels, size


def check_learnable(data: DataSettings, dataset: Dataset) -> None:
    """Refuse images that are all equal, those to train on and those to validate.

    Raises:
        UserError: they are.
    """
    first, other = (part.gather(slice(0, 1)) for part in (dataset.train, dataset.validation))
    if np.array_equal(first, other) and dataset.train.all_equal() and dataset.validation.all_equal():
        remedy = "; transparent pixels show the colour data.background" if data.name == "folder" else ""
        raise UserError(
            f"{data.path or data.name}: all images are equal, so there is nothing to learn; "
            f"check how they were made{remedy}"
        )


def cache_entry_of(data: DataSettings) -> str:
    """The name of the data set's cache entry, which `load_dataset` makes.

    Raises:
        UserError: the user's file or folder does not exist.
    """
    key, _ = find_source(data.name, data.path, data.image_size, data.background)
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
        cached = open_cached(*find_source(data.name, data.path, data.image_size, data.background))
    else:
        cached = open_entry(entry_name)
    own = cached.validation
    min_per_class = 2 if own is None else 1
    _check_classes(data, cached, min_per_class)
    train, classes = cached.train, len(cached.class_names)
    if data.train_images is not None and data.train_images < len(train):
        if data.train_images < min_per_class * classes:
            few = "under 2 images" if min_per_class == 2 else "no image"
            raise UserError(f"data.train_images: {data.train_images} leaves {few} for each of {classes} classes")
        train = train.take(stratified(train.labels, data.train_images, data.split_seed, min_per_class=min_per_class))
    if own is not None:
        if data.validation_fraction != DataSettings.validation_fraction:
            ignored = "data.validation_fraction has no effect, because %s brings %d validation images of its own"
            logger.info(ignored, data.path or data.name, len(own))
        return Dataset(train, own, cached.test, cached.class_names, own_validation=True)
    held_out_count = max(round(data.validation_fraction * len(train)), classes)
    if len(train) - held_out_count < classes:
        raise UserError(
            f"data.validation_fraction: {data.validation_fraction:g} leaves classes without training images"
        )
    held_out = stratified(train.labels, held_out_count, data.split_seed, min_per_class=1, min_remaining=1)
    remaining = np.setdiff1d(np.arange(len(train)), held_out)
    return Dataset(train.take(remaining), train.take(held_out), cached.test, cached.class_names)


def _check_classes(data: DataSettings, cached: CachedDataset, min_per_class: int) -> None:
    """Refuse a single class, and classes with too few training images."""
    where, key = data.path or data.name, "" if data.name == "folder" else "train_labels: "
    counts = np.bincount(cached.train.labels, minlength=len(cached.class_names))
    if len(counts) < 2:
        raise UserError(f"{where}: {key}there is one class only; a classifier needs at least 2")
    if (counts >= min_per_class).all():
        return
    if data.name == "folder":
        raise UserError(
            f"{where}: class {cached.class_names[counts.argmin()]} has 1 image to train on and validate; "
            "at least 2 are needed, one for each"
        )
    needed = (
        "at least 1 is needed" if min_per_class == 1 else "at least 2 are needed, one to train on and one to validate"
    )
    raise UserError(f"{where}: {key}class {counts.argmin()} has {counts.min()} images; {needed} (labels count from 0)")
