"""Images in files: the user's folders with one subfolder a class, and Tiny ImageNet as it is published."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile, ZipFile

import numpy as np
from PIL import Image, ImageOps

from mgnas.errors import UserError

from .cache import RawDataset, RawSplit

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
"""Of the files that are taken for images, in lower case."""
_GREY = {"1", "L", "LA"}
_ARCHIVE = "tiny-imagenet-200"
_LARGE = 256 * 256
_ORIENTATION = 0x0112


class _Files:
    """Decodes image files when asked for.

    Args:
        files: one per image.
        tree: what they are in.
        channels: 1 or 3.
        size: pixels per side.
        fit: resize and crop what has another size; otherwise it is refused.
        large: decode on all cores; threads that quarrel over small images take twice as long as one.
    """

    def __init__(
        self, files: Sequence[str], tree: _Tree, channels: int, size: int, fit: bool = False, large: bool = False
    ) -> None:
        self._files, self._tree, self._fit, self._large = files, tree, fit, large
        self.shape = (len(files), channels, size, size)

    def __getitem__(self, places: slice) -> np.ndarray:
        files = self._files[places]
        if not self._large:
            return np.stack([self._decoded(file) for file in files])
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return np.stack(list(threads.map(self._decoded, files)))

    def _decoded(self, file: str) -> np.ndarray:
        _, channels, size, _ = self.shape

        def pixels(image: Image.Image) -> np.ndarray:
            if self._fit:
                # A photograph may lie on its side, with a note how to turn it.
                image = ImageOps.exif_transpose(image)
            image = image.convert("L" if channels == 1 else "RGB")
            if self._fit:
                # Shorter side to `size`, centre cut out; Pillow's filters widen when they shrink, so nothing aliases.
                image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
            return np.asarray(image)

        image = _with_image(self._tree, file, pixels)
        if image.shape[:2] != (size, size):
            found = f"{image.shape[1]} x {image.shape[0]}"
            raise UserError(f"{self._tree.place}/{file}: has {found} pixels; expected {size} x {size}")
        return image[None] if channels == 1 else image.transpose(2, 0, 1)


def _with_image(tree: _Tree, file: str, use: Callable):
    """What `use` makes of the image in a file.

    Raises:
        UserError: the file is no image of 8 bits a channel, or damaged; it is named.
    """
    content = tree.read(file)
    try:
        with Image.open(BytesIO(content)) as image:
            deep = image.mode[0] in "IF"
            result = None if deep else use(image)
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them stumble over.
        reason = "" if str(error).startswith("cannot identify") else f" ({' '.join(str(error).split())[:100]})"
        raise UserError(f"{tree.place}/{file}: not a readable image{reason}; replace or delete it") from None
    if deep:
        raise UserError(f"{tree.place}/{file}: has more than 8 bits per channel; convert it to 8 bits")
    return result


class _Tree(Protocol):
    """Files by name, in a folder or in a zip archive."""

    place: Path

    def read(self, file: str) -> bytes:
        """Raises: UserError: it is not there or cannot be read."""

    def list(self, folder: str) -> list[str]:
        """Names of what is in a folder, sorted; empty if there is none. Hidden files are left out."""


class _Folder:
    def __init__(self, place: Path) -> None:
        self.place = place

    def read(self, file: str) -> bytes:
        try:
            return (self.place / file).read_bytes()
        except FileNotFoundError:
            raise UserError(f"{self.place}: lacks {file}; copy or unpack it again") from None
        except OSError as error:
            raise UserError(f"{self.place / file}: cannot be read ({error.strerror})") from None

    def list(self, folder: str) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.place / folder) if name[0] != ".")  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UserError(f"{self.place / folder}: cannot be read ({error.strerror})") from None


class _Zip:
    def __init__(self, place: Path) -> None:
        self.place = place
        try:
            self._archive = ZipFile(place)
        # NotImplementedError is zipfile's for a version or an encryption that it cannot read.
        except (OSError, BadZipFile, ValueError, NotImplementedError) as error:
            raise UserError(f"{place}: not a readable zip archive ({error}); download it again") from None
        self._folders: dict[str, list[str]] = {}
        for member in self._archive.namelist():
            folder, _, name = member.rpartition("/")
            self._folders.setdefault(folder, []).append(name)

    def read(self, file: str) -> bytes:
        try:
            return self._archive.read(f"{_ARCHIVE}/{file}")
        except KeyError:
            raise UserError(
                f"{self.place}: lacks {_ARCHIVE}/{file}; it is not the official {_ARCHIVE}.zip, or not all of it"
            ) from None
        except (OSError, BadZipFile, EOFError, RuntimeError, zlib.error) as error:
            raise UserError(f"{self.place}: {file}: is damaged ({error}); download the archive again") from None

    def list(self, folder: str) -> list[str]:
        return sorted(name for name in self._folders.get(f"{_ARCHIVE}/{folder}", []) if name and name[0] != ".")


# -------------------------------------------------------------------------------------------------------- Tiny ImageNet


def find_tiny_imagenet(place: Path) -> Path | None:
    """The official zip, or the folder it was unpacked into: `place` itself or in it; None if `place` has neither.

    Raises:
        UserError: `place` is not there, as opposed to empty.
    """
    if place.is_file() or (place / "wnids.txt").exists() or (place / "train").exists():
        return place
    if not place.exists() and place.suffix == ".zip":
        raise UserError(f"{place}: no such file (data.path)")
    return next((found for name in (_ARCHIVE, f"{_ARCHIVE}.zip") if (found := place / name).exists()), None)


def read_tiny_imagenet(place: Path) -> RawDataset:
    """The 200 classes with 500 training images each, and the validation images as test images.

    Greyscale files, 1.8 % of them, become RGB. Classes stand in the order of their WordNet ids.

    Args:
        place: what `find_tiny_imagenet` has found.

    Raises:
        UserError: files are missing or damaged.
    """
    tree = _Zip(place) if place.is_file() else _Folder(place)
    wnids = sorted(_text(tree, "wnids.txt").split())
    if len(wnids) != 200 or len(set(wnids)) != 200:
        raise UserError(f"{place}: wnids.txt: holds {len(set(wnids))} classes; the official archive has 200")
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    words = dict(line.split("\t", 1) for line in _text(tree, "words.txt").splitlines() if "\t" in line)
    names = tuple(words.get(wnid, wnid).split(",")[0].strip() for wnid in wnids)
    train = {wnid: _images_in(tree, f"train/{wnid}/images") for wnid in wnids}
    for wnid, files in train.items():
        if not files:
            raise UserError(f"{place}: train/{wnid}/images: holds no images; unpack the official archive again")
    rows = [line.split("\t") for line in _text(tree, "val/val_annotations.txt").splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) < 2 or row[1] not in numbers:
            raise UserError(f"{place}: val/val_annotations.txt: line {number} names no class of wnids.txt")
    if not rows:
        raise UserError(f"{place}: val/val_annotations.txt: is empty; unpack the official archive again")
    parts = [
        ([file for files in train.values() for file in files], [numbers[wnid] for wnid in wnids for _ in train[wnid]]),
        ([f"val/images/{row[0]}" for row in rows], [numbers[row[1]] for row in rows]),
    ]
    return RawDataset(*(RawSplit(_Files(files, tree, 3, 64), np.array(labels)) for files, labels in parts), names)


def _text(tree: _Tree, file: str) -> str:
    return tree.read(file).decode(errors="replace")


def _images_in(tree: _Tree, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in tree.list(folder) if Path(name).suffix.lower() in SUFFIXES]


# --------------------------------------------------------------------------------------------------------------- folder


def read_folder(place: Path, image_size: int | None) -> RawDataset:
    """The user's images: train/<class>/* and optionally test/<class>/*, or <class>/* without test images.

    Images that are greyscale throughout keep their one channel, otherwise all become RGB.

    Args:
        place: the folder.
        image_size: pixels per side: the shorter side is resized and the centre cut out. None: as they are.

    Raises:
        UserError: no classes, a class without images, test images of an unknown class, an unreadable image,
            different sizes without `image_size`.
    """
    if not place.is_dir():
        raise UserError(f"{place}: is no folder (data.path); for arrays in a file use data: {{name: npz}}")
    tree = _Folder(place)
    split = (place / "train").is_dir()
    if split:
        for other in ("val", "valid", "validation"):
            if (place / other).is_dir():
                remedy = "move its images into train, of which validation images are held out, or rename it test"
                raise UserError(f"{place}: {other}: is not used; {remedy}")
    train = _classes(tree, "train" if split else "")
    if len(train) < 2:
        expected = "train/<class>/*.png or <class>/*.png with at least 2 classes (png, jpg, bmp, webp, tif, ppm)"
        raise UserError(f"{place}: holds {len(train)} folders of images (data.path); expected {expected}")
    names, test = tuple(train), _classes(tree, "test") if split and (place / "test").is_dir() else None
    if test is not None:
        if unknown := sorted(test.keys() - train.keys()):
            raise UserError(f"{place}: test/{unknown[0]}: is no class, as train/{unknown[0]} is missing")
        if not test:
            raise UserError(f"{place}: test: holds no folders of images; fill it as train, or delete it")
    files = list(chain(*train.values(), *(test or {}).values()))
    channels, size, large = _common_shape(tree, files, image_size)

    def part(classes: dict[str, list[str]]) -> RawSplit:
        labels = [names.index(name) for name, found in classes.items() for _ in found]
        return RawSplit(_Files(list(chain(*classes.values())), tree, channels, size, True, large), np.array(labels))

    return RawDataset(part(train), test and part(test), names)


def _classes(tree: _Folder, folder: str) -> dict[str, list[str]]:
    """Subfolder -> its image files, both sorted."""
    classes = {}
    for name in tree.list(folder):
        inside = f"{folder}/{name}" if folder else name
        if (tree.place / inside).is_dir():
            classes[name] = _images_in(tree, inside)
            if not classes[name]:
                raise UserError(f"{tree.place}: {inside}: holds no images ({', '.join(sorted(SUFFIXES))})")
    return classes


def _common_shape(tree: _Tree, files: list[str], image_size: int | None) -> tuple[int, int, bool]:
    """Channels, pixels per side, and whether there are large images, out of the files' headers."""

    def header(image: Image.Image) -> tuple[bool, tuple[int, int]]:
        # Orientations from 5 swap width and height.
        sideways = image.getexif().get(_ORIENTATION, 1) >= 5
        return image.mode in _GREY, image.size[::-1] if sideways else image.size

    found = [_with_image(tree, file, header) for file in files]
    channels = 1 if all(grey for grey, _ in found) else 3
    large = max(width * height for _, (width, height) in found) > _LARGE
    if image_size is not None:
        return channels, image_size, large
    first = found[0][1]
    for file, (_, (width, height)) in zip(files, found, strict=True):
        if (width, height) != first:
            has = f"has {width} x {height} pixels, {files[0]} {first[0]} x {first[1]}"
        elif width != height or not 8 <= width <= 1024:
            has = f"has {width} x {height} pixels, not a square from 8 x 8 to 1024 x 1024"
        else:
            continue
        raise UserError(f"{tree.place}/{file}: {has}; set data.image_size, e.g. image_size: 32")
    return channels, first[0], large
