"""What a run's trials were trained with: what may not change when it goes on, else their accuracies mean other things.

Trials, workers, the time limit, where checkpoints and logs go, the path of the images and the final training may
change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ..config import SearchConfig
from ..data.dataset import Dataset

_SEARCH = ("sampler", "prior", "stopping", "seed")
_RESOURCES = ("precision", "execution", "deterministic")


def training_fingerprint(config: SearchConfig) -> dict[str, Any]:
    """The part of a config that decides what its trials are, as JSON holds it."""
    data, search, resources = (asdict(section) for section in (config.data, config.search, config.resources))
    data.pop("path")
    return _plain(
        {
            "data": data,
            "space": config.space,
            "training": asdict(config.training),
            "search": {name: search[name] for name in _SEARCH},
            "resources": {name: resources[name] for name in _RESOURCES} | {"gpu": resources["gpus_per_trial"] > 0},
        }
    )


def dataset_digest(dataset: Dataset) -> str:
    """A digest of the images that trials learn from and are measured on: labels in order, shape, mean, deviation."""
    digest = hashlib.sha256()
    for part in (dataset.train, dataset.validation):
        digest.update(np.ascontiguousarray(part.labels).tobytes())
        mean, std = part.mean_std()
        digest.update(repr((part.shape, mean.tolist(), std.tolist())).encode())
    return digest.hexdigest()[:32]


def first_change(before: Any, now: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first setting that differs: its dotted key, what it was, what it is; None: nothing does."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*before, *(name for name in now if name not in before)]:
            inner = f"{key}.{name}" if key else str(name)
            change = first_change(before.get(name), now.get(name), inner)
            if change is not None:
                return change
        return None
    return None if before == now else (key, before, now)


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
