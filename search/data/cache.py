"""Every data set is converted once, to plain arrays in files that all processes of a machine map into memory.

An entry of the cache is a directory:
    train_images.npy   uint8, n x channels x size x size       test_images.npy   the same of the test images, if any
    train_labels.npy   int64, n                                test_labels.npy
    train_sums.npy     int64, n x 2 x channels (pixel_sums)    test_sums.npy
    meta.json          what was converted, class names, the files' sizes in bytes
It is written beside its place and moved there whole, under a lock, so a conversion that was killed leaves nothing
that looks like an entry. Entries are never changed; the whole cache may be deleted at any time.
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

from .images import CHUNK, ImageDataset, pixel_sums

logger = logging.getLogger(__name__)

_FORMAT = 1
_META = "meta.json"
_DEEPEST = 4


class LazyImages(Protocol):
    """Images that are made when asked for; a NumPy array is one."""

    shape: tuple[int, ...]
    """n, channels, size, size."""

    def __getitem__(self, places: slice) -> np.ndarray:
        """uint8, n x channels x size x size."""


@dataclass(frozen=True)
class RawSplit:
    """Images to convert, with int64 labels from 0."""

    images: LazyImages
    labels: np.ndarray


@dataclass(frozen=True)
class RawDataset:
    """A data set to convert; `test` is None if it has no test images."""

    train: RawSplit
    test: RawSplit | None
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class CachedDataset:
    """A converted data set, memory-mapped."""

    train: ImageDataset
    test: ImageDataset | None
    class_names: tuple[str, ...]


def cache_directory() -> Path:
    """Where converted data sets are kept: MGNAS_CACHE, else ~/.cache/mgnas."""
    return Path(os.environ.get("MGNAS_CACHE") or "~/.cache/mgnas").expanduser()


def open_cached(key: Mapping[str, Any], read: Callable[[], RawDataset]) -> CachedDataset:
    """The converted data set with this key, converted now if it is not there or damaged.

    Processes that want the same set at the same time convert it once. An entry that is there is read without the
    lock, so a cache that others have filled may be read-only.

    Args:
        key: all that determines the pixels; plain values, `source` among them.
        read: called to convert.

    Raises:
        UserError: the cache cannot be written; whatever `read` raises.
    """

    def convert(folder: Path) -> None:
        logger.info("converting %s into %s, once", key["source"], folder)
        _write(folder, key, read())

    return _made(entry_name(key), convert)


def entry_name(key: Mapping[str, Any]) -> str:
    """The name of the entry with this key."""
    text = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
    return f"{key['source']}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def open_entry(name: str) -> CachedDataset:
    """The entry of that name, which must be there.

    Raises:
        UserError: it is not.
    """
    entry = _opened(cache_directory() / name)
    if entry is None:
        raise UserError(
            f"{cache_directory() / name}: is missing or damaged; start the search again to have it restored"
        )
    return entry


def entry_files(name: str, block: int) -> Iterator[tuple[str, bytes]]:
    """An entry's files as (name, content) in blocks of at most so many bytes; several with the same name are one file.

    Raises:
        UserError: the entry is missing or damaged.
    """
    open_entry(name)
    for path in sorted((cache_directory() / name).iterdir()):
        with path.open("rb") as file:
            while content := file.read(block):
                yield path.name, content


def copy_entry(name: str, blocks: Callable[[], Iterator[tuple[str, bytes]]]) -> None:
    """Make sure that the cache has an entry which another machine has.

    Args:
        name: of the entry.
        blocks: called if it is not there; gives what `entry_files` gave there.

    Raises:
        UserError: the cache cannot be written.
    """

    def copy(folder: Path) -> None:
        with _replacing(folder) as partial, cannot_write(folder.parent):
            for file_name, content in blocks():
                with (partial / file_name).open("ab") as file:
                    file.write(content)

    _made(name, copy)


def _made(name: str, make: Callable[[Path], None]) -> CachedDataset:
    """The entry of that name, made now by one process if it is not there or damaged."""
    root = cache_directory()
    folder = root / name
    if (entry := _opened(folder)) is not None:
        return entry
    with cannot_write(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        lock.acquire()
    try:
        # Another process may have made it while this one waited.
        if (entry := _opened(folder)) is None:
            make(folder)
            entry = _opened(folder)
    finally:
        lock.release()
    if entry is None:
        raise UserError(f"{folder}: was written but cannot be read; set MGNAS_CACHE to a folder on another disk")
    return entry


@contextmanager
def cannot_write(root: Path) -> Iterator[None]:
    """Turn the errors of writing the cache into one line with a remedy."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # The latter is filelock's, on a disk without locks.
        reason = getattr(error, "strerror", None) or error
        remedy = "set MGNAS_CACHE to a folder that can, with room for the images"
        raise UserError(f"{root}: the cache of converted images cannot be written ({reason}); {remedy}") from None


def _opened(folder: Path) -> CachedDataset | None:
    """The entry, None if it is missing or not whole; maps the images without reading them."""
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        if any((folder / name).stat().st_size != size for name, size in meta["files"].items()):
            return None
        parts = [_mapped(folder, part) for part in ("train", "test") if f"{part}_images.npy" in meta["files"]]
        return CachedDataset(parts[0], parts[1] if len(parts) > 1 else None, tuple(meta["class_names"]))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _mapped(folder: Path, part: str) -> ImageDataset:
    # As plain arrays, since every slice of a numpy.memmap carries that class's bookkeeping.
    images, sums = (np.asarray(np.load(folder / f"{part}_{what}.npy", mmap_mode="r")) for what in ("images", "sums"))
    labels = np.load(folder / f"{part}_labels.npy")
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images) == len(labels) == len(sums):
        raise ValueError
    return ImageDataset(images, labels, np.arange(len(labels)), sums)


def _write(folder: Path, key: Mapping[str, Any], contents: RawDataset) -> None:
    """Convert a data set. The caller holds the lock."""
    with _replacing(folder) as partial:
        for name, part in (("train", contents.train), ("test", contents.test)):
            if part is not None:
                _write_part(partial, name, part)
        with cannot_write(folder.parent):
            files = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
            meta = {"key": dict(key), "class_names": list(contents.class_names), "files": files}
            (partial / _META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A new directory beside `folder`, moved there at the end, or deleted if that is not reached."""
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


def _write_part(folder: Path, name: str, part: RawSplit) -> None:
    root, shape = folder.parent, tuple(int(length) for length in part.images.shape)
    sums = np.empty((shape[0], 2, shape[1]), np.int64)
    with cannot_write(root):
        # NOTE: Not through a memory map: on a full disk that ends the process by SIGBUS instead of raising.
        file = (folder / f"{name}_images.npy").open("wb")
    with file:
        with cannot_write(root):
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, shape[0], CHUNK):
            block = np.ascontiguousarray(part.images[start : start + CHUNK])
            sums[start : start + CHUNK] = pixel_sums(block)
            with cannot_write(root):
                file.write(block.data)
        with cannot_write(root):
            file.flush()
            os.fsync(file.fileno())
    with cannot_write(root):
        np.save(folder / f"{name}_labels.npy", part.labels.astype(np.int64))
        np.save(folder / f"{name}_sums.npy", sums)


def state_of(path: Path) -> str:
    """What changes when a file, or anything in a folder, is changed: names, sizes and times of modification.

    Hidden files are left out, as they are not images.

    Raises:
        UserError: it is not there or cannot be listed.
    """
    digest = hashlib.sha256()
    try:
        if path.is_file():
            found = path.stat()
            digest.update(f"{found.st_size} {found.st_mtime_ns}".encode())
        else:
            _add_folder(digest, str(path), _DEEPEST)
    except OSError as error:
        where = error.filename or path
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{where}: no such file or folder (data.path)") from None
        raise UserError(f"{where}: cannot be read ({error.strerror}); check data.path and its permissions") from None
    return digest.hexdigest()[:32]


def _add_folder(digest: Any, folder: str, levels: int) -> None:
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir():
            digest.update(f"{entry.name}/\0".encode(errors="surrogateescape"))
            # A link may lead back to where it stands; no layout is as deep as this.
            if levels:
                _add_folder(digest, entry.path, levels - 1)
        else:
            status = entry.stat()
            line = f"{entry.name}\0{status.st_size} {status.st_mtime_ns}\0"
            digest.update(line.encode(errors="surrogateescape"))
