"""Paths in files that are passed on: where a trained network's images are, and what a report shows.

An absolute path tells the names of its owner and of the owner's other folders. So the path of images is kept relative
to the network's folder, or to the home directory, which every user has.
"""

from __future__ import annotations

import os
from pathlib import Path

from mgnas.errors import printable


def portable_path(path: str | None, folder: Path) -> str | None:
    """The path of images, relative to the network's folder.

    Args:
        path: absolute, or relative to the working directory; None stays None.
        folder: of the network.

    Returns:
        a path that `locate` resolves; `~/...` if the images are in the user's home directory and the folder is not.
    """
    if path is None:
        return None
    images, base, home = Path(os.path.normpath(Path(path).absolute())), folder.resolve(), _home()
    if home is not None and images.is_relative_to(home) and not base.is_relative_to(home.resolve()):
        return f"~/{images.relative_to(home)}"
    return os.path.relpath(images, base)


def locate(path: str | None, folder: Path) -> str | None:
    """The path of images as the working directory sees it.

    Args:
        path: as `portable_path` gives it. Version 0.1.0 wrote absolute paths, and paths relative to the working
            directory; these are found, too.
        folder: of the network.
    """
    if path is None:
        return None
    home = _home()
    if path.startswith("~/") and home is not None:
        return str(home / path[2:])
    beside = Path(os.path.normpath(folder.resolve() / path))
    return path if Path(path).exists() and not beside.exists() else str(beside)


def shown_path(path: str | Path) -> str:
    """A path for a page: what was given if that is relative or an address.

    An absolute path becomes relative to the working directory, or only its last part if it is elsewhere.
    """
    shown = Path(path)
    if not shown.is_absolute():
        return printable(path)
    return printable(shown.relative_to(Path.cwd()) if shown.is_relative_to(Path.cwd()) else shown.name)


def without_folders(text: str, *paths: str | Path | None) -> str:
    """A text such as an error, in which these paths stand as `shown_path` has them, and the home directory as ~."""
    for path in paths:
        for written in {str(Path(path)), str(Path(path).absolute()), str(Path(path).resolve())} if path else ():
            text = text.replace(written, shown_path(written))
    home = _home()
    return text if home is None or home == Path("/") else text.replace(str(home), "~")


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # A user id without a name, as in containers.
        return None
