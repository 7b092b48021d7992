"""Images in files: decoding them, and folders with one subfolder for each class."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, ImageOps

from mgnas.errors import UserError

from .cache import RawDataset, RawSplit

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
"""Suffixes, in lower case, of the files that are read as images."""
_GREY = {"1", "L", "LA"}
_LARGE = 256 * 256
_ORIENTATION = 0x0112  # EXIF tag

T = TypeVar("T")


class LazyImageFiles:
    """Images that are decoded from their files when they are read (see LazyImages).

    Args:
        files: the file of each image.
        tree: the folder or archive that holds the files.
        channels: 1 or 3.
        size: pixels per side.
        fit: resize and crop images of another size, instead of refusing them.
        large: decode on all cores. For small images several threads take twice as long as one.
    """

    def __init__(
        self, files: Sequence[str], tree: FileTree, channels: int, size: int, fit: bool = False, large: bool = False
    ) -> None:
        self._files, self._tree, self._fit, self._large = files, tree, fit, large
        self.shape = (len(files), channels, size, size)

    def __getitem__(self, indices: slice, /) -> np.ndarray:
        files = self._files[indices]
        if not self._large:
            return np.stack([self._decoded(file) for file in files])
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return np.stack(list(threads.map(self._decoded, files)))

    def _decoded(self, file: str) -> np.ndarray:
        _, channels, size, _ = self.shape

        def pixels(image: Image.Image) -> np.ndarray:
            if self._fit:
                # Photographs may be stored sideways, with their orientation in the EXIF data.
                image = ImageOps.exif_transpose(image)
            image = image.convert("L" if channels == 1 else "RGB")
            if self._fit:
                # Resizes the shorter side to `size` and cuts out the centre. Pillow's filters do not alias.
                image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
            return np.asarray(image)

        image = _with_image(self._tree, file, pixels)
        if image.shape[:2] != (size, size):
            shape = f"{image.shape[1]} x {image.shape[0]}"
            raise UserError(f"{self._tree.root}/{file}: has {shape} pixels; expected {size} x {size}")
        return image[None] if channels == 1 else image.transpose(2, 0, 1)


def _with_image(tree: FileTree, file: str, use: Callable[[Image.Image], T]) -> T:
    """The result of `use` for the image in a file.

    Raises:
        UserError: the file, which the message names, is damaged or is no image with 8 bits per channel.
    """
    content = tree.read(file)
    try:
        with Image.open(BytesIO(content)) as image:
            if image.mode[0] not in "IF":
                return use(image)
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged files.
        reason = "" if str(error).startswith("cannot identify") else f" ({' '.join(str(error).split())[:100]})"
        raise UserError(f"{tree.root}/{file}: not a readable image{reason}; replace or delete it") from None
    raise UserError(f"{tree.root}/{file}: has more than 8 bits per channel; convert it to 8 bits")


class FileTree(Protocol):
    """Files in a folder or in a zip archive, by their paths below `root`."""

    root: Path

    def read(self, file: str) -> bytes:
        """The file's content. Raises UserError if it is missing or cannot be read."""
        ...

    def list(self, folder: str) -> list[str]:
        """The sorted names in a folder, without hidden files; empty if there is no such folder."""
        ...


class FolderTree:
    """The files below a folder (see FileTree)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, file: str) -> bytes:
        try:
            return (self.root / file).read_bytes()
        except FileNotFoundError:
            raise UserError(f"{self.root}: lacks {file}; copy or unpack it again") from None
        except OSError as error:
            raise UserError(f"{self.root / file}: cannot be read ({error.strerror})") from None

    def list(self, folder: str) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.root / folder) if name[0] != ".")  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UserError(f"{self.root / folder}: cannot be read ({error.strerror})") from None


def images_in(tree: FileTree, folder: str) -> list[str]:
    """The sorted image files of a folder."""
    return [f"{folder}/{name}" for name in tree.list(folder) if Path(name).suffix.lower() in SUFFIXES]


def read_folder(root: Path, image_size: int | None) -> RawDataset:
    """The images of a folder: train/<class>/* and optionally test/<class>/*, or <class>/* without test images.

    If all images are greyscale they keep their one channel, otherwise all become RGB.

    Args:
        root: the folder.
        image_size: pixels per side. The shorter side is resized to it, and the centre is cut out. None: the images keep
            their size, which must be the same for all.

    Raises:
        UserError: there are fewer than 2 classes, a class has no images, test images have an unknown class, an image
            cannot be read, or sizes differ and there is no `image_size`.
    """
    if not root.is_dir():
        raise UserError(f"{root}: is no folder (data.path); for arrays in a file use data: {{name: npz}}")
    tree = FolderTree(root)
    split = (root / "train").is_dir()
    if split:
        for other in ("val", "valid", "validation"):
            if (root / other).is_dir():
                remedy = "move its images into train, of which validation images are held out, or rename it test"
                raise UserError(f"{root}: {other}: is not used; {remedy}")
    train = _classes(tree, "train" if split else "")
    if len(train) < 2:
        expected = "train/<class>/*.png or <class>/*.png with at least 2 classes (png, jpg, bmp, webp, tif, ppm)"
        raise UserError(f"{root}: holds {len(train)} folders of images (data.path); expected {expected}")
    names, test = tuple(train), _classes(tree, "test") if split and (root / "test").is_dir() else None
    if test is not None:
        if unknown := sorted(test.keys() - train.keys()):
            raise UserError(f"{root}: test/{unknown[0]}: is no class, as train/{unknown[0]} is missing")
        if not test:
            raise UserError(f"{root}: test: holds no folders of images; fill it as train, or delete it")
    files = [file for classes in (train, test or {}) for files in classes.values() for file in files]
    channels, size, large = _common_shape(tree, files, image_size)

    def raw_split(classes: dict[str, list[str]]) -> RawSplit:
        files = [file for files in classes.values() for file in files]
        labels = [names.index(name) for name, files in classes.items() for _ in files]
        return RawSplit(LazyImageFiles(files, tree, channels, size, fit=True, large=large), np.array(labels))

    return RawDataset(raw_split(train), None if test is None else raw_split(test), names)


def _classes(tree: FolderTree, folder: str) -> dict[str, list[str]]:
    """The image files of each subfolder, which is a class; both are sorted."""
    classes = {}
    for name in tree.list(folder):
        inside = f"{folder}/{name}" if folder else name
        if (tree.root / inside).is_dir():
            classes[name] = images_in(tree, inside)
            if not classes[name]:
                raise UserError(f"{tree.root}: {inside}: holds no images ({', '.join(sorted(SUFFIXES))})")
    return classes


def _common_shape(tree: FileTree, files: list[str], image_size: int | None) -> tuple[int, int, bool]:
    """(channels, pixels per side, whether there are large images), from the headers of the files."""

    def header(image: Image.Image) -> tuple[bool, tuple[int, int]]:
        width, height = image.size
        # Orientations from 5 on swap width and height.
        sideways = image.getexif().get(_ORIENTATION, 1) >= 5
        return image.mode in _GREY, (height, width) if sideways else (width, height)

    headers = [_with_image(tree, file, header) for file in files]
    channels = 1 if all(grey for grey, _ in headers) else 3
    large = max(width * height for _, (width, height) in headers) > _LARGE
    if image_size is not None:
        return channels, image_size, large
    first = headers[0][1]
    for file, (_, (width, height)) in zip(files, headers, strict=True):
        if (width, height) != first:
            has = f"has {width} x {height} pixels, {files[0]} {first[0]} x {first[1]}"
        elif width != height or not 8 <= width <= 1024:
            has = f"has {width} x {height} pixels, not a square from 8 x 8 to 1024 x 1024"
        else:
            continue
        raise UserError(f"{tree.root}/{file}: {has}; set data.image_size, e.g. image_size: 32")
    return channels, first[0], large
