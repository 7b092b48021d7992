"""Stratified subsets: every class in proportion."""

from __future__ import annotations

import numpy as np


def stratified(labels: np.ndarray, count: int, seed: int, min_per_class: int = 0, min_remaining: int = 0) -> np.ndarray:
    """Indices of `count` random images, with every class in proportion.

    scikit-learn's stratified split may take all or none of the images of a small class. This one takes at least
    `min_per_class` images of every class and leaves at least `min_remaining`. The caller has checked that this is
    possible.

    Args:
        labels: n integers, counted from 0.
        count: number of images to choose.
        seed: seed of the random choice.
        min_per_class: minimum number of chosen images of a class.
        min_remaining: minimum number of images of a class that are not chosen.

    Returns:
        `count` indices from 0 to n - 1, sorted by class.
    """
    sizes = np.bincount(labels)
    low, high = np.full(len(sizes), min_per_class), sizes - min_remaining
    quotas = count * sizes / len(labels)
    counts = np.clip(np.floor(quotas).astype(int), low, high)
    # Largest remainder: one image at a time for the class that is furthest from its quota.
    while (missing := count - counts.sum()) != 0:
        step = np.sign(missing)
        movable = counts < high if step > 0 else counts > low
        counts[np.argmax(np.where(movable, step * (quotas - counts), -np.inf))] += step
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:n] for label, n in enumerate(counts)])
