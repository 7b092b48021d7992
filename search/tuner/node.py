"""What a node of the cluster must have before it can train: the same versions of packages, and the images."""

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
    """What every node must have for the trials of a search. It travels with each trial; the images do not.

    Args:
        versions: of the packages of the process that runs the search.
        entry: name of the data set in the cache; None: every node finds the data set by its settings.
        blocks: (file's name, reference to a part of its content in Ray's object store) for each part of the data set.
    """

    versions: dict[str, str]
    entry: str | None = None
    blocks: tuple[tuple[str, Any], ...] = ()

    def ensure(self) -> str | None:
        """Check this node, and copy the images into its cache if they are missing.

        Workers call it. If several need the images at the same time, one of them copies them.

        Returns:
            why the node cannot train; None: it can.
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
    """Put a data set of this machine's cache into Ray's object store, which keeps it while the references exist."""
    import ray

    return tuple((name, ray.put(content)) for name, content in entry_files(entry, _BLOCK))


def installed_versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide the result of a training."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "missing"
    return versions


def difference(expected: dict[str, str], installed: dict[str, str]) -> str | None:
    """Which of a node's versions are not the expected ones, in words; None: all are."""
    others = [
        f"{package} {installed.get(package, 'missing')} instead of {wanted}"
        for package, wanted in expected.items()
        if installed.get(package) != wanted
    ]
    return f"has {', '.join(others)}; install the same versions on all nodes" if others else None
