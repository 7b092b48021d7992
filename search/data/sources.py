"""The sources of images: scikit-learn, torchvision and npz files, and which of them the settings mean."""

from __future__ import annotations

import itertools
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock

from mgnas.errors import ConfigError, UserError, first_line, printable

from .cache import LazyImages, RawDataset, RawSplit, cache_directory, cannot_write
from .file_tree import state_of
from .image_files import parse_colour
from .image_folder import read_folder
from .npz import read_npz
from .split import stratified
from .tiny_imagenet import find_tiny_imagenet, read_tiny_imagenet

KNOWN_SHAPES = {
    "digits": (10, 1, 8),
    "cifar10": (10, 3, 32),
    "cifar100": (100, 3, 32),
    "fashion_mnist": (10, 1, 28),
    "tinyimagenet": (200, 3, 64),
}
"""Name of a data set -> (classes, channels, pixels per side)."""
_FOLDER_READER, _NPZ_READER = 2, 2
"""Raised when the same files give other pixels, labels or splits than before, so that they are converted again."""
# What torchvision raises for archives that are truncated or have the wrong content.
_UNREADABLE_ARCHIVE = (
    ValueError,
    EOFError,
    AssertionError,
    KeyError,
    pickle.UnpicklingError,
    tarfile.TarError,
    BadZipFile,
    zlib.error,
)


def find_source(
    name: str, path: str | None, image_size: int | None, background: str | None = None
) -> tuple[dict[str, Any], Callable[[], RawDataset]]:
    """The source that the settings mean.

    Args:
        name: a data set's name, `npz` or `folder`.
        path: the user's file or folder, if any.
        image_size: pixels per side; None: the images keep their size.
        background: the colour that transparent pixels of image files show; None: white.

    Returns:
        The key of the source in the cache, and the function that reads the images.

    Raises:
        UserError: the file or folder does not exist.
    """
    user_path = None if path is None else Path(path).expanduser()
    try:
        str(user_path).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{printable(path or '')}: the name is not UTF-8 (data.path); rename the file or folder"
        ) from None
    if user_path is not None and (name == "npz" or user_path.name.endswith(".npz")):
        state = None if user_path.is_dir() else _state_of_file(user_path)
        key = _key("npz", user_path, state, image_size, holds=name, reader=_NPZ_READER)
        return key, lambda: _reduced(_read_named_npz(user_path, name), image_size)
    if user_path is not None and name == "folder":
        colour = parse_colour(background)
        key = _key(name, user_path, state_of(user_path), image_size, reader=_FOLDER_READER, background=colour)
        return key, lambda: read_folder(user_path, image_size, colour)
    if name == "digits":
        return _key(name, None, None, image_size), lambda: _reduced(_read_digits(), image_size)
    downloads = user_path or cache_directory() / "downloads"
    if name != "tinyimagenet":
        return _key(name, user_path, None, image_size), lambda: _reduced(_read_torchvision(name, downloads), image_size)
    if user_path is None:
        # The published archive does not change, so its key has no state. It is downloaded when it is read.
        key = _key(name, None, None, image_size)
        return key, lambda: _reduced(read_tiny_imagenet(_downloaded_tiny_imagenet(downloads)), image_size)
    archive = _downloaded_tiny_imagenet(user_path)
    key = _key(name, archive, state_of(archive), image_size)
    return key, lambda: _reduced(read_tiny_imagenet(archive), image_size)


def _key(source: str, path: Path | None, state: str | None, image_size: int | None, **more: Any) -> dict[str, Any]:
    resolved = None if path is None else str(path.resolve())
    return {"source": source, "path": resolved, "state": state, "image_size": image_size, **more}


def check_reduction(size: int, image_size: int) -> None:
    """Check that the wanted image size divides the images' own size.

    Raises:
        ConfigError: it does not; the message lists the sizes that do.
    """
    if size % image_size:
        divisors = ", ".join(str(d) for d in range(8, size + 1) if size % d == 0)
        raise ConfigError(
            "data.image_size", f"{image_size} does not divide the images' {size} pixels; use one of {divisors}"
        )


class _LazyReduced:
    """Images with means over square blocks of pixels, computed when they are read (see LazyImages)."""

    def __init__(self, images: LazyImages, size: int) -> None:
        count, channels, full, _ = images.shape
        check_reduction(full, size)
        self._images, self._factor = images, full // size
        self.shape = (count, channels, size, size)

    def __getitem__(self, indices: slice, /) -> np.ndarray:
        images, factor = self._images[indices], self._factor
        total = np.zeros((len(images), *self.shape[1:]), np.uint32)
        # Adding every factor-th pixel is ten times faster than the mean over two axes of a reshaped array.
        for row, column in itertools.product(range(factor), repeat=2):
            total += images[:, :, row::factor, column::factor]
        return (total / factor**2).round().astype(np.uint8)


def _reduced(raw: RawDataset, size: int | None) -> RawDataset:
    if size is None:
        return raw

    def reduced(split: RawSplit) -> RawSplit:
        return RawSplit(_LazyReduced(split.images, size), split.labels)

    test, validation = (None if split is None else reduced(split) for split in (raw.test, raw.validation))
    return RawDataset(reduced(raw.train), test, raw.class_names, validation)


def _read_digits() -> RawDataset:
    """scikit-learn's 1,797 digits of 8 x 8 pixels. There is no published test set, so a fixed fifth serves as one."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()  # scikit-learn declares several types.
    images = (digits.images * 255 / 16).round().astype(np.uint8)[:, None]
    test = np.sort(stratified(digits.target, 360, seed=0))
    rest = np.setdiff1d(np.arange(len(images)), test)
    train_split, test_split = (RawSplit(images[indices], digits.target[indices]) for indices in (rest, test))
    return RawDataset(train_split, test_split, tuple(str(digit) for digit in range(10)))


# ------------------------------------------------------------------------------------------------------------ downloads


def _read_torchvision(name: str, folder: Path) -> RawDataset:
    from torchvision import datasets

    reader = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "fashion_mnist": datasets.FashionMNIST}[name]
    with _downloading(name, folder):
        train, test = (reader(str(folder), train=train, download=True) for train in (True, False))
    return RawDataset(_from_torchvision(train), _from_torchvision(test), tuple(train.classes))


def _from_torchvision(dataset: Any) -> RawSplit:
    images = np.asarray(dataset.data)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return RawSplit(images, np.asarray(dataset.targets, dtype=np.int64))


def _downloaded_tiny_imagenet(path: Path) -> Path:
    """The archive or its unpacked folder, at or in `path`. If there is neither, the archive is downloaded there."""
    existing = find_tiny_imagenet(path)
    if existing is not None:
        return existing
    from torchvision.datasets.utils import download_url

    name = "tiny-imagenet-200.zip"
    with _downloading("tinyimagenet", path):
        download_url(f"http://cs231n.stanford.edu/{name}", str(path), name, "90528d7ca1a48142e341f4ef8d21d0de")
    return path / name


@contextmanager
def _downloading(name: str, folder: Path) -> Iterator[None]:
    """A context in which one process at a time downloads. It turns a failure into a UserError with a remedy."""
    root = cache_directory()
    with cannot_write(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / f"{name}.download.lock")
        lock.acquire()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, RuntimeError, *_UNREADABLE_ARCHIVE) as error:
        remedy = f"put the official archive into {folder}, or give the images as data: {{name: npz, path: ..}}"
        raise UserError(f"data: {name} could not be downloaded ({first_line(error)}); {remedy}") from None
    finally:
        lock.release()


# ------------------------------------------------------------------------------------------------------------------ npz


def _state_of_file(path: Path) -> str:
    if not path.exists():
        raise UserError(f"{path}: no such file (data.path)")
    return state_of(path)


def _read_named_npz(path: Path, name: str) -> RawDataset:
    """The arrays in the user's file. `name` is the data set that they should be, or `npz` for any."""
    raw = read_npz(path)
    _, channels, size, _ = raw.train.images.shape
    classes = len(raw.class_names)
    if (classes, channels, size) != KNOWN_SHAPES.get(name, (classes, channels, size)):
        holds = f"{classes} classes, {channels} channels, {size} pixels"
        raise UserError(f"{path}: is not {name}: it holds {holds}; use data: {{name: npz}} for other images")
    return raw
