"""What a machine of the cluster must have before it can train: the same packages, and the images."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mgnas.errors import UserError

from ..data.cache import copy_entry, entry_files

_PACKAGES = ("mgnas", "torch")
_BLOCK = 32 * 2**20


@dataclass(frozen=True)
class NodeRequirements:
    """The same for all trials of a search; it travels with each of them, the images do not.

    Args:
        versions: of the driver's packages.
        entry: name of the data set in the cache; None: every machine finds it by itself.
        blocks: (file's name, reference to a part of its content in Ray's object store).
    """

    versions: dict[str, str]
    entry: str | None = None
    blocks: tuple[tuple[str, Any], ...] = ()

    def ensure(self) -> str | None:
        """Check this machine, and copy the images into its cache unless they are there; why it cannot train, else None.

        Called in a worker. Of several that need the images at the same time one copies them.
        """
        trouble = difference(self.versions, installed_versions())
        if trouble or self.entry is None:
            return trouble
        try:
            copy_entry(self.entry, self._contents)
        except UserError as error:
            return str(error)
        return None

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        import ray

        for name, reference in self.blocks:
            yield name, ray.get(reference)


def share_images(entry: str) -> tuple[tuple[str, Any], ...]:
    """Put a data set of this machine's cache into Ray's object store, once; the references keep it there."""
    import ray

    return tuple((name, ray.put(content)) for name, content in entry_files(entry, _BLOCK))


def installed_versions() -> dict[str, str]:
    """Of the packages that decide what a training gives."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def difference(expected: dict[str, str], found: dict[str, str]) -> str | None:
    """Which versions of a machine are not the driver's, in words; None: all are."""
    others = [
        f"{package} {found.get(package, 'missing')} instead of {version_here}"
        for package, version_here in expected.items()
        if found.get(package) != version_here
    ]
    return f"has {', '.join(others)}; install the same versions on all nodes" if others else None
