"""Choosing images of every class in proportion."""

from __future__ import annotations

import numpy as np


def stratified(labels: np.ndarray, count: int, seed: int, least: int = 0, left: int = 0) -> np.ndarray:
    """Indices of `count` images, each class in proportion.

    scikit-learn's stratified split may take all or none of a small class; here at least `least` images of every
    class are taken and `left` are not. The caller has checked that there are enough.

    Args:
        labels: integers from 0, n.
        count: how many images to choose.
        seed: chooses them.
        least: how many of every class at least.
        left: how many of every class to leave at least.

    Returns:
        `count` indices from 0 to n - 1, class by class.
    """
    sizes = np.bincount(labels)
    low, high = np.full(len(sizes), least), sizes - left
    quota = count * sizes / len(labels)
    taken = np.clip(np.floor(quota).astype(int), low, high)
    while (missing := count - taken.sum()) != 0:
        step = np.sign(missing)
        movable = taken < high if step > 0 else taken > low
        taken[np.argmax(np.where(movable, step * (quota - taken), -np.inf))] += step
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:n] for label, n in enumerate(taken)]
    return np.concatenate(chosen)
