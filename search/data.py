"""Data sets as uint8 arrays, with a validation split held out from the training images.

Trials see training and validation images only; the test images are for `mgnas train`.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from zipfile import BadZipFile

import numpy as np
from pydantic import Field

from ..models.errors import ConfigError, UserError
from ..models.settings import settings

# Number of classes, image channels and image size of the data sets with a name of their own.
_KNOWN_SHAPES = {"digits": (10, 1, 8), "cifar10": (10, 3, 32), "cifar100": (100, 3, 32), "fashion_mnist": (10, 1, 28)}
_NPZ_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


@settings
class DataSettings:
    """Which images to learn from."""

    name: Literal["digits", "cifar10", "cifar100", "fashion_mnist", "npz"]
    """digits: scikit-learn's, no download. npz: the user's own arrays. The others are downloaded by torchvision."""
    path: str | None = None
    """An .npz file with the images, which npz needs and the downloaded sets accept instead of a download; or the
    folder to keep a downloaded set in, default ~/.cache/mgnas."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the training images that is held out, the same of every class."""
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Chooses the held-out images. All trials of a search share it."""
    train_images: Annotated[int, Field(ge=1)] | None = None
    """Use only so many training images (before the split), the same share of every class."""
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Average the images down to this many pixels per side; must divide their size."""

    def __post_init__(self) -> None:
        if self.name == "npz" and self.path is None:
            raise ConfigError("path", "is required for npz; name the file with train_images and train_labels")
        if self.name == "digits" and self.path is not None:
            raise ConfigError("path", "has no effect for digits, which come with scikit-learn; drop it")


@dataclass(frozen=True)
class Images:
    """Images with labels.

    Args:
        images: uint8, n x channels x size x size.
        labels: int64, n, from 0.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: Images) -> Images:
        return Images(np.concatenate([self.images, other.images]), np.concatenate([self.labels, other.labels]))

    def take(self, indices: np.ndarray) -> Images:
        """The images at these places, in ascending order of place."""
        indices = np.sort(indices)
        return Images(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """The three parts of a data set; `test` is None if there are no test images."""

    train: Images
    validation: Images
    test: Images | None
    num_classes: int

    @property
    def in_channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def image_size(self) -> int:
        return self.train.images.shape[2]


def data_shape(data: DataSettings) -> tuple[int, int, int]:
    """(classes, channels, image size): what the architectures must fit; downloads nothing.

    Raises:
        UserError: a user's file that cannot be used.
    """
    if data.name == "npz":
        dataset = load_dataset(data)
        return dataset.num_classes, dataset.in_channels, dataset.image_size
    classes, channels, size = _KNOWN_SHAPES[data.name]
    if data.image_size is not None:
        _check_reduction(size, data.image_size)
        size = data.image_size
    return classes, channels, size


@functools.lru_cache(maxsize=2)
def load_dataset(data: DataSettings) -> Dataset:
    """Read, reduce and split a data set; a process that trains several trials reads it once.

    Raises:
        UserError: a missing or malformed file, a failed download.
    """
    from_file = data.path is not None and data.path.endswith(".npz")
    train, test = _read_npz(data) if from_file else _READERS[data.name](data)
    where = data.path or data.name
    classes = int(train.labels.max()) + 1
    counts = np.bincount(train.labels, minlength=classes)
    if (counts < 2).any():
        raise UserError(
            f"{where}: train_labels: class {counts.argmin()} has {counts.min()} images; "
            f"at least 2 are needed, one to train on and one to validate (labels count from 0)"
        )
    if test is not None and test.labels.max() >= classes:
        raise UserError(f"{where}: test_labels: class {test.labels.max()} never occurs in train_labels")
    if from_file and data.name in _KNOWN_SHAPES and (classes, *train.images.shape[1:3]) != _KNOWN_SHAPES[data.name]:
        holds = f"{classes} classes, {train.images.shape[1]} channels, {train.images.shape[2]} pixels"
        raise UserError(f"{where}: is not {data.name}: it holds {holds}; use data: {{name: npz}} for other images")
    if data.train_images is not None and data.train_images < len(train):
        if data.train_images < 2 * classes:
            raise UserError(
                f"data.train_images: {data.train_images} leaves under 2 images for each of {classes} classes"
            )
        train = train.take(_stratified(train.labels, data.train_images, data.split_seed, least=2))
    if data.image_size is not None:
        train = _reduced(train, data.image_size)
        test = test and _reduced(test, data.image_size)
    held_out_count = max(round(data.validation_fraction * len(train)), classes)
    if len(train) - held_out_count < classes:
        raise UserError(
            f"data.validation_fraction: {data.validation_fraction:g} leaves classes without training images"
        )
    held_out = _stratified(train.labels, held_out_count, data.split_seed, least=1, left=1)
    kept = np.setdiff1d(np.arange(len(train)), held_out)
    return Dataset(train.take(kept), train.take(held_out), test, classes)


def _stratified(labels: np.ndarray, count: int, seed: int, least: int = 0, left: int = 0) -> np.ndarray:
    """Indices of `count` images, each class in proportion.

    scikit-learn's stratified split may take all or none of a small class; here at least `least` images of every
    class are taken and `left` are not. The caller has checked that there are enough.
    """
    sizes = np.bincount(labels)
    low, high = np.full(len(sizes), least), sizes - left
    quota = count * sizes / len(labels)
    taken = np.clip(np.floor(quota).astype(int), low, high)
    while (missing := count - taken.sum()) != 0:
        step = np.sign(missing)
        movable = taken < high if step > 0 else taken > low
        taken[np.argmax(np.where(movable, step * (quota - taken), -np.inf))] += step
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:n] for label, n in enumerate(taken)]
    return np.concatenate(chosen)


def _check_reduction(size: int, wanted: int) -> None:
    if size % wanted:
        divisors = ", ".join(str(d) for d in range(8, size + 1) if size % d == 0)
        raise ConfigError(
            "data.image_size", f"{wanted} does not divide the images' {size} pixels; use one of {divisors}"
        )


def _reduced(part: Images, size: int) -> Images:
    """Mean over square blocks of pixels."""
    n, channels, full, _ = part.images.shape
    _check_reduction(full, size)
    factor = full // size
    blocks = part.images.reshape(n, channels, size, factor, size, factor)
    return Images(blocks.mean(axis=(3, 5)).round().astype(np.uint8), part.labels)


def _read_digits(data: DataSettings) -> tuple[Images, Images]:
    """scikit-learn's 1,797 digits of 8 x 8 pixels; a fixed fifth of them serves as test set, as none is published."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)[:, None]
    everything = Images(images, digits.target.astype(np.int64))
    test = _stratified(everything.labels, 360, seed=0)
    rest = np.setdiff1d(np.arange(len(everything)), test)
    return everything.take(rest), everything.take(test)


def _read_torchvision(data: DataSettings) -> tuple[Images, Images]:
    from torchvision import datasets

    root = Path(data.path).expanduser() if data.path else Path.home() / ".cache" / "mgnas"
    reader = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "fashion_mnist": datasets.FashionMNIST}
    try:
        root.mkdir(parents=True, exist_ok=True)
        parts = [reader[data.name](str(root), train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        remedy = f"put the official archive into {root}, or give the images as data: {{name: npz, path: ..}}"
        raise UserError(f"data: {data.name} could not be downloaded ({reason}); {remedy}") from None
    return tuple(_from_torchvision(part) for part in parts)


def _from_torchvision(part) -> Images:
    images = np.asarray(part.data)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return Images(np.ascontiguousarray(images), np.asarray(part.targets, dtype=np.int64))


def _read_npz(data: DataSettings) -> tuple[Images, Images | None]:
    path = Path(data.path).expanduser()
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in _NPZ_KEYS if key in file}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file (data.path)") from None
    except (
        OSError,
        ValueError,
        EOFError,
        AttributeError,
        TypeError,
        KeyError,
        RuntimeError,
        BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(f"{path}: not a readable npz file ({error}); write it with numpy.savez") from None
    for key in ("train_images", "train_labels"):
        if key not in arrays:
            raise UserError(f"{path}: {key}: is missing; write the arrays {', '.join(_NPZ_KEYS)}")
    if ("test_images" in arrays) != ("test_labels" in arrays):
        raise UserError(f"{path}: test_images and test_labels: give both or neither")
    train = _checked(arrays["train_images"], arrays["train_labels"], f"{path}: train")
    if "test_images" not in arrays:
        return train, None
    test = _checked(arrays["test_images"], arrays["test_labels"], f"{path}: test")
    if test.images.shape[1:] != train.images.shape[1:]:
        raise UserError(f"{path}: test_images: {test.images.shape[1:]} differs from the training images' shape")
    return train, test


def _checked(images: np.ndarray, labels: np.ndarray, where: str) -> Images:
    """n x h x w, n x h x w x c or n x c x h x w uint8 images, and n integer labels."""
    if images.dtype != np.uint8:
        raise UserError(f"{where}_images: holds {images.dtype}; expected uint8 (0 to 255)")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    square = images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[2] == images.shape[3]
    if not square or images.shape[2] < 8 or not len(images):
        expected = "n x h x w, n x h x w x 3 or n x 3 x h x w with square images from 8 x 8"
        raise UserError(f"{where}_images: has shape {images.shape}; expected {expected}")
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        expected = f"{len(images)} whole numbers"
        raise UserError(f"{where}_labels: has shape {labels.shape} of {labels.dtype}; expected {expected}")
    if labels.min() < 0 or labels.max() >= 65536:
        raise UserError(f"{where}_labels: run from {labels.min()} to {labels.max()}; expected 0 to classes - 1")
    return Images(np.ascontiguousarray(images), labels.astype(np.int64))


_READERS = {
    "digits": _read_digits,
    "npz": _read_npz,
    **dict.fromkeys(("cifar10", "cifar100", "fashion_mnist"), _read_torchvision),
}
