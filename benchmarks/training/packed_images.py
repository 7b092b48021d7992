"""CIFAR-10 in parts that are small enough to be carried to a machine without network, and CIFAR-10 from any source.

A part is an npz file with a share of the images. Its pixels are the planes G, R - G and B - G, each as the difference
from its neighbours above and to the left, which compresses them without loss to 60 %.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mgnas.errors import UserError
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.data.images import ImageDataset

_SPLITS = ("train", "test")


def pack(images: dict[str, ImageDataset], folder: Path, parts: int) -> list[Path]:
    """Write both splits into `parts` files. Returns their paths."""
    paths = []
    for number in range(parts):
        arrays = {"part": np.array([number, parts])}
        for split in _SPLITS:
            indices = np.array_split(np.arange(len(images[split])), parts)[number]
            arrays[f"{split}_planes"] = encoded(images[split].gather(indices))
            arrays[f"{split}_labels"] = images[split].labels[indices].astype(np.uint8)
        paths.append(folder / f"cifar10-part{number + 1}of{parts}.npz")
        np.savez_compressed(paths[-1], allow_pickle=False, **arrays)
    return paths


def join(folder: Path) -> dict[str, ImageDataset]:
    """Both splits from the parts in a folder.

    Raises:
        UserError: a part is missing.
    """
    paths = sorted(folder.glob("cifar10-part*of*.npz"))
    parts = sorted((np.load(path) for path in paths), key=lambda part: part["part"][0])
    if not parts or [part["part"].tolist() for part in parts] != [[i, len(parts)] for i in range(len(parts))]:
        names = ", ".join(path.name for path in paths) or "no cifar10-part1of2.npz"
        raise UserError(f"{folder}: holds {names}; all parts of one packing are needed, and no others")
    splits = {}
    for split in _SPLITS:
        pixels = np.concatenate([decoded(part[f"{split}_planes"]) for part in parts])
        labels = np.concatenate([part[f"{split}_labels"] for part in parts])
        splits[split] = ImageDataset(pixels, labels.astype(np.int64))
    return splits


def encoded(images: np.ndarray) -> np.ndarray:
    """uint8 n x 3 x h x w, RGB -> uint8 3 x n x h x w, differences of planes."""
    red, green, blue = images.transpose(1, 0, 2, 3)
    planes = np.stack([green, red - green, blue - green])
    zero = np.uint8(0)
    return np.diff(np.diff(planes, axis=2, prepend=zero), axis=3, prepend=zero)


def decoded(differences: np.ndarray) -> np.ndarray:
    """The inverse of `encoded`. All sums are modulo 256."""
    planes = differences.cumsum(axis=3, dtype=np.uint8).cumsum(axis=2, dtype=np.uint8)
    green, red, blue = planes[0], planes[1] + planes[0], planes[2] + planes[0]
    return np.ascontiguousarray(np.stack([red, green, blue]).transpose(1, 0, 2, 3))


def load_cifar10(path: Path) -> dict[str, ImageDataset]:
    """All training and test images of CIFAR-10.

    Args:
        path: a folder of parts, an npz file as `data.path` takes it, or torchvision's folder.

    Raises:
        UserError: the images cannot be used.
    """
    if path.is_dir() and any(path.glob("cifar10-part*.npz")):
        return join(path)
    dataset = load_dataset(DataSettings(name="cifar10", path=str(path)))
    if dataset.test is None:
        raise UserError(f"{path}: holds no test images")
    return {"train": dataset.train + dataset.validation, "test": dataset.test}
