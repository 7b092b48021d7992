"""Tiny ImageNet as it is published: a zip archive, or the folder that it was unpacked into."""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np

from mgnas.errors import UserError

from .cache import RawDataset, RawSplit
from .file_tree import MAX_FILE_BYTES, FileTree, FolderTree, images_in
from .image_files import LazyImageFiles

_ARCHIVE = "tiny-imagenet-200"


def find_tiny_imagenet(path: Path) -> Path | None:
    """The official zip archive or the folder that it was unpacked into: `path` itself, or in the folder `path`.

    Returns:
        None if neither is there.

    Raises:
        UserError: `path` names a zip archive that does not exist.
    """
    if path.is_file() or (path / "wnids.txt").exists() or (path / "train").exists():
        return path
    if not path.exists() and path.suffix == ".zip":
        raise UserError(f"{path}: no such file (data.path)")
    return next((inside for name in (_ARCHIVE, f"{_ARCHIVE}.zip") if (inside := path / name).exists()), None)


def read_tiny_imagenet(path: Path) -> RawDataset:
    """The 200 classes with 500 training images each, and the official validation images as test images.

    Greyscale files, 1.8 % of all, become RGB. The classes are sorted by their WordNet ids.

    Args:
        path: the archive or folder that `find_tiny_imagenet` returns.

    Raises:
        UserError: files are missing or damaged.
    """
    tree = _ZipTree(path) if path.is_file() else FolderTree(path)
    wnids = sorted(_text(tree, "wnids.txt").split())
    if len(wnids) != 200 or len(set(wnids)) != 200:
        raise UserError(f"{path}: wnids.txt: holds {len(set(wnids))} classes; the official archive has 200")
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    words = dict(line.split("\t", 1) for line in _text(tree, "words.txt").splitlines() if "\t" in line)
    names = tuple(words.get(wnid, wnid).split(",")[0].strip() for wnid in wnids)
    train = {wnid: images_in(tree, f"train/{wnid}/images") for wnid in wnids}
    for wnid, files in train.items():
        if not files:
            raise UserError(f"{path}: train/{wnid}/images: holds no images; unpack the official archive again")
    rows = [line.split("\t") for line in _text(tree, "val/val_annotations.txt").splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) < 2 or row[1] not in numbers:
            raise UserError(f"{path}: val/val_annotations.txt: line {number} names no class of wnids.txt")
    if not rows:
        raise UserError(f"{path}: val/val_annotations.txt: is empty; unpack the official archive again")

    def raw_split(files: list[str], labels: list[int]) -> RawSplit:
        return RawSplit(LazyImageFiles(files, tree, channels=3, size=64), np.array(labels))

    return RawDataset(
        raw_split([file for wnid in wnids for file in train[wnid]], [numbers[w] for w in wnids for _ in train[w]]),
        raw_split([f"val/images/{row[0]}" for row in rows], [numbers[row[1]] for row in rows]),
        names,
    )


def _text(tree: FileTree, file: str) -> str:
    return tree.read(file).decode(errors="replace")


class _ZipTree:
    """The files of the official zip archive (see FileTree)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self._archive = ZipFile(root)
        # zipfile raises NotImplementedError for versions and encryptions that it cannot read.
        except (OSError, BadZipFile, ValueError, NotImplementedError) as error:
            raise UserError(f"{root}: not a readable zip archive ({error}); download it again") from None
        self._folders: dict[str, list[str]] = {}
        for member in self._archive.namelist():
            folder, _, name = member.rpartition("/")
            self._folders.setdefault(folder, []).append(name)

    def read(self, file: str) -> bytes:
        try:
            member = self._archive.getinfo(f"{_ARCHIVE}/{file}")
            if member.file_size <= MAX_FILE_BYTES:  # zipfile unpacks no more than a member's stated size.
                return self._archive.read(member)
        except KeyError:
            raise UserError(
                f"{self.root}: lacks {_ARCHIVE}/{file}; it is not the official {_ARCHIVE}.zip, or not all of it"
            ) from None
        except (OSError, BadZipFile, EOFError, RuntimeError, zlib.error) as error:
            raise UserError(f"{self.root}: {file}: is damaged ({error}); download the archive again") from None
        raise UserError(
            f"{self.root}: {file}: holds more than {MAX_FILE_BYTES // 10**6} MB; download the archive again"
        )

    def list(self, folder: str) -> list[str]:
        return sorted(name for name in self._folders.get(f"{_ARCHIVE}/{folder}", []) if name and name[0] != ".")
