"""Files in folders and archives: which there are, and what they contain."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mgnas.errors import UserError, printable
from mgnas.files import FileTooLargeError, read_within

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
"""Suffixes, in lower case, of the files that are read as images."""
_LITTER = {"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", "__pycache__"}
"""Folders that operating systems and programs leave behind. They hold no images of the user."""
_MAX_DEPTH = 32


MAX_FILE_BYTES = 500_000_000
"""Larger files are no images that are read here."""


class FileTree(Protocol):
    """Files in a folder or in a zip archive, by their paths below `root`."""

    root: Path

    def read(self, file: str) -> bytes:
        """The file's content. Raises UserError if it is missing, too large, or cannot be read."""
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
            return read_within(self.root / file, MAX_FILE_BYTES)
        except FileTooLargeError as error:
            raise UserError(f"{printable(self.root / file)}: {error}; replace or delete it") from None
        except FileNotFoundError:
            raise UserError(f"{self.root}: lacks {printable(file)}; copy or unpack it again") from None
        except OSError as error:
            raise UserError(f"{printable(self.root / file)}: cannot be read ({error.strerror})") from None

    def list(self, folder: str) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.root / folder) if name[0] != ".")  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UserError(f"{printable(self.root / folder)}: cannot be read ({error.strerror})") from None


def images_in(tree: FileTree, folder: str) -> list[str]:
    """The sorted image files of a folder, without its subfolders."""
    return [f"{folder}/{name}" for name in tree.list(folder) if is_image(name)]


def is_image(name: str) -> bool:
    """Whether a file with this name is read as an image."""
    return Path(name).suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class Folder:
    """A folder, and all that is in it but hidden files and folders. Symbolic links are followed.

    Args:
        name: the last part of its path.
        path: below the folder that was scanned; empty for that folder itself.
        files: sorted names.
        folders: sorted by their names, without those that operating systems leave behind.
        litter: the paths of the latter, in this folder and in its subfolders.
    """

    name: str
    path: str
    files: list[str]
    folders: list[Folder]
    litter: list[str]

    def inside(self, name: str) -> str:
        """The path of a file or folder in it, below the folder that was scanned."""
        return f"{self.path}/{name}" if self.path else name

    def all_files(self) -> Iterator[str]:
        """The paths of the files in it and in its subfolders, below the folder that was scanned."""
        yield from map(self.inside, self.files)
        for folder in self.folders:
            yield from folder.all_files()

    def images(self) -> list[str]:
        """Those of `all_files` that are read as images."""
        return [file for file in self.all_files() if is_image(file)]


def scan_folder(root: Path) -> Folder:
    """List what is in a folder, whatever its depth.

    Raises:
        UserError: a folder cannot be read, a link leads nowhere or back to a folder that it lies in, or folders lie too
            deep.
    """
    with _reading(root):
        return _scan(root, "", root.name, ())


def state_of(path: Path) -> str:
    """A hash of the names, sizes and modification times of a file, or of the files in a folder.

    It changes when a file changes. Hidden files are left out, because they are not images.

    Raises:
        UserError: the file or folder does not exist or cannot be read.
    """
    digest = hashlib.sha256()

    def add(folder: Folder) -> None:
        inner = {inside.name: inside for inside in folder.folders}
        for name in sorted([*folder.files, *inner]):
            if name in inner:
                digest.update(f"{name}/\0".encode(errors="surrogateescape"))
                add(inner[name])
            else:
                status = os.stat(f"{path}/{folder.inside(name)}")  # noqa: PTH116 (Path takes twice as long)
                line = f"{name}\0{status.st_size} {status.st_mtime_ns}\0"
                digest.update(line.encode(errors="surrogateescape"))

    with _reading(path):
        if path.is_file():
            status = path.stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
        else:
            add(_scan(path, "", path.name, ()))
    return digest.hexdigest()[:32]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """A context that turns errors of reading `path`, and what is below it, into a UserError."""
    try:
        yield
    except OSError as error:
        where = printable(error.filename or path)
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{where}: no such file or folder (data.path)") from None
        raise UserError(f"{where}: cannot be read ({error.strerror}); check data.path and its permissions") from None


def _scan(root: Path, path: str, name: str, above: tuple[tuple[int, int], ...]) -> Folder:
    """What is in the folder `path` below `root`. `above`: device and number of the folders that it lies in."""
    here = root / path
    status = here.stat()
    identity = status.st_dev, status.st_ino
    if identity in above:
        raise UserError(f"{printable(here)}: is a link back to a folder that it lies in; remove the link")
    if len(above) > _MAX_DEPTH:
        raise UserError(f"{printable(here)}: lies more than {_MAX_DEPTH} folders deep; move the images up")
    with os.scandir(here) as entries:
        visible = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
    folder = Folder(name, path, [], [], [])
    for entry in visible:
        if entry.name in _LITTER:
            folder.litter.append(folder.inside(entry.name))
        elif not entry.is_dir():
            folder.files.append(entry.name)
        else:
            folder.folders.append(_scan(root, folder.inside(entry.name), entry.name, (*above, identity)))
            folder.litter.extend(folder.folders[-1].litter)
    return folder
