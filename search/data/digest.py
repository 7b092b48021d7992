"""Digests of a data set, by which a training or a search that goes on notices that its images have been changed."""

from __future__ import annotations

import hashlib

import numpy as np

from .dataset import Dataset

_IMAGES = 512
"""Number of images of each part whose pixels are read."""


def dataset_digest(dataset: Dataset) -> str:
    """A digest of the training and validation images and of the classes' names.

    It covers all labels in order, shape, mean and standard deviation, and the pixels of at most 1,024 images. Without
    the pixels two classes of equal size could be exchanged unnoticed.
    """
    digest = hashlib.sha256(repr((former_digest(dataset), tuple(dataset.class_names))).encode())
    for part in (dataset.train, dataset.validation):
        chosen = np.linspace(0, len(part) - 1, min(len(part), _IMAGES)).round().astype(int)
        digest.update(part.gather(chosen).tobytes())
    return digest.hexdigest()[:32]


def former_digest(dataset: Dataset) -> str:
    """The digest of version 0.1.0: labels in order, shape, mean and standard deviation."""
    digest = hashlib.sha256()
    for part in (dataset.train, dataset.validation):
        digest.update(np.ascontiguousarray(part.labels).tobytes())
        mean, std = part.mean_std()
        digest.update(repr((part.shape, mean.tolist(), std.tolist())).encode())
    return digest.hexdigest()[:32]
