"""The cache of data sets. Each is converted once, to plain arrays in files that all processes map into memory.

An entry of the cache is a directory:
    train_images.npy   uint8, n x channels x size x size       test_images.npy   the same of the test images, if any
    train_labels.npy   int64, n                                test_labels.npy
    train_sums.npy     int64, n x 2 x channels (pixel_sums)    test_sums.npy
    validation_*.npy   the same of the validation images, if the data set brings its own
    meta.json          the key of the entry, class names, the files' sizes in bytes
It is written into another directory, which is then renamed, under a lock. So a conversion that was killed leaves
nothing that looks like an entry. Entries are never changed, and the whole cache may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock

from mgnas.errors import UserError
from mgnas.files import read_json

from .images import CHUNK, ImageDataset, pixel_sums

logger = logging.getLogger(__name__)

_FORMAT = 1
_META = "meta.json"


class LazyImages(Protocol):
    """Images that are made when they are read. A NumPy array is a special case."""

    @property
    def shape(self) -> tuple[int, ...]:
        """n, channels, size, size."""
        ...

    def __getitem__(self, indices: slice, /) -> np.ndarray:
        """uint8, n x channels x size x size."""
        ...


@dataclass(frozen=True)
class RawSplit:
    """Images to convert, and their int64 labels, which count from 0."""

    images: LazyImages
    labels: np.ndarray


@dataclass(frozen=True)
class RawDataset:
    """A data set to convert. A split that the data set does not bring is None."""

    train: RawSplit
    test: RawSplit | None
    class_names: tuple[str, ...]
    validation: RawSplit | None = None


@dataclass(frozen=True)
class CachedDataset:
    """A converted data set, mapped into memory. A split that the data set does not bring is None."""

    train: ImageDataset
    test: ImageDataset | None
    class_names: tuple[str, ...]
    validation: ImageDataset | None = None


def cache_directory() -> Path:
    """The folder of the cache: the environment variable MGNAS_CACHE, else ~/.cache/mgnas."""
    return Path(os.environ.get("MGNAS_CACHE") or "~/.cache/mgnas").expanduser()


def open_cached(key: Mapping[str, Any], read: Callable[[], RawDataset]) -> CachedDataset:
    """The converted data set with this key. It is converted now if its entry is missing or damaged.

    Processes that need the same data set at the same time convert it once. An existing entry is read without the lock,
    so a filled cache may be read-only.

    Args:
        key: plain values that determine the pixels, among them `source`.
        read: returns the data set to convert.

    Raises:
        UserError: the cache cannot be written, or `read` raises it.
    """

    def convert(folder: Path) -> None:
        logger.info("converting %s into %s, once", key["source"], folder)
        raw = read()
        if raw.validation is not None:
            logger.info("it brings %d validation images, so none are held out", len(raw.validation.labels))
        _write(folder, key, raw)

    return _ensure(entry_name(key), convert)


def entry_name(key: Mapping[str, Any]) -> str:
    """The name of the cache entry with this key."""
    text = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
    return f"{key['source']}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def open_entry(name: str) -> CachedDataset:
    """The data set of an existing cache entry.

    Raises:
        UserError: the entry is missing or damaged.
    """
    cached = _load(cache_directory() / name)
    if cached is None:
        raise UserError(
            f"{cache_directory() / name}: is missing or damaged; start the search again to have it restored"
        )
    return cached


def entry_files(name: str, block: int) -> Iterator[tuple[str, bytes]]:
    """The files of a cache entry as (name, content) pairs. Consecutive pairs with the same name belong to one file.

    Args:
        name: the name of the entry.
        block: maximum number of bytes of a pair's content.

    Raises:
        UserError: the entry is missing or damaged.
    """
    open_entry(name)
    for path in sorted((cache_directory() / name).iterdir()):
        with path.open("rb") as file:
            while content := file.read(block):
                yield path.name, content


def copy_entry(name: str, blocks: Callable[[], Iterator[tuple[str, bytes]]]) -> None:
    """Copy a cache entry from another machine, if this machine's cache does not have it.

    Args:
        name: the name of the entry.
        blocks: returns what `entry_files` returned on the other machine.

    Raises:
        UserError: the cache cannot be written.
    """

    def copy(folder: Path) -> None:
        with _replacing(folder) as partial, cannot_write(folder.parent):
            for file_name, content in blocks():
                with (partial / file_name).open("ab") as file:
                    file.write(content)

    _ensure(name, copy)


def _ensure(name: str, make: Callable[[Path], None]) -> CachedDataset:
    """The data set of a cache entry. If the entry is missing or damaged, one process makes it now."""
    root = cache_directory()
    folder = root / name
    if (cached := _load(folder)) is not None:
        return cached
    with cannot_write(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        lock.acquire()
    try:
        # Another process may have made it while this one waited.
        if (cached := _load(folder)) is None:
            make(folder)
            cached = _load(folder)
    finally:
        lock.release()
    if cached is None:
        raise UserError(f"{folder}: was written but cannot be read; set MGNAS_CACHE to a folder on another disk")
    return cached


@contextmanager
def cannot_write(root: Path) -> Iterator[None]:
    """A context that turns errors of writing the cache into a UserError with a remedy."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # filelock raises the latter on a disk without locks.
        reason = getattr(error, "strerror", None) or error
        remedy = "set MGNAS_CACHE to a folder that can, with room for the images"
        raise UserError(f"{root}: the cache of converted images cannot be written ({reason}); {remedy}") from None


def _load(folder: Path) -> CachedDataset | None:
    """The data set of an entry, None if it is missing or damaged. Images are mapped into memory, not read."""
    try:
        meta = read_json(folder / _META)
        if any((folder / name).stat().st_size != size for name, size in meta["files"].items()):
            return None
        test, validation = (
            _load_split(folder, name) if f"{name}_images.npy" in meta["files"] else None
            for name in ("test", "validation")
        )
        return CachedDataset(_load_split(folder, "train"), test, tuple(meta["class_names"]), validation)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _load_split(folder: Path, name: str) -> ImageDataset:
    # As plain arrays, because slices of a numpy.memmap are slower.
    images, sums = (np.asarray(np.load(folder / f"{name}_{kind}.npy", mmap_mode="r")) for kind in ("images", "sums"))
    labels = np.load(folder / f"{name}_labels.npy")
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images) == len(labels) == len(sums):
        raise ValueError
    return ImageDataset(images, labels, np.arange(len(labels)), sums)


def _write(folder: Path, key: Mapping[str, Any], raw: RawDataset) -> None:
    """Convert a data set. The caller holds the lock."""
    with _replacing(folder) as partial:
        for name, split in (("train", raw.train), ("test", raw.test), ("validation", raw.validation)):
            if split is not None:
                _write_split(partial, name, split)
        with cannot_write(folder.parent):
            files = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
            meta = {"key": dict(key), "class_names": list(raw.class_names), "files": files}
            (partial / _META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A context with a new directory, which replaces `folder` at the end. An error deletes it instead."""
    root, partial = folder.parent, folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with cannot_write(root):
            partial.mkdir()
        yield partial
        with cannot_write(root):
            shutil.rmtree(folder, ignore_errors=True)
            partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_split(folder: Path, name: str, split: RawSplit) -> None:
    root, shape = folder.parent, tuple(int(length) for length in split.images.shape)
    sums = np.empty((shape[0], 2, shape[1]), np.int64)
    with cannot_write(root):
        # NOTE: Writing to a memory map on a full disk would end the process by SIGBUS instead of raising an error.
        file = (folder / f"{name}_images.npy").open("wb")
    with file:
        with cannot_write(root):
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, shape[0], CHUNK):
            block = np.ascontiguousarray(split.images[start : start + CHUNK])
            sums[start : start + CHUNK] = pixel_sums(block)
            with cannot_write(root):
                file.write(block.data)
        with cannot_write(root):
            file.flush()
            os.fsync(file.fileno())
    with cannot_write(root):
        np.save(folder / f"{name}_labels.npy", split.labels.astype(np.int64))
        np.save(folder / f"{name}_sums.npy", sums)
