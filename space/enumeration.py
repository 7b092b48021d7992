"""Every network of a search space at once, as arrays; `SearchSpace.enumerate` makes the same ones one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models.batch import COLUMNS, DEFAULTS, SETTINGS, ArchitectureBatch, encode, scaled_channels
from ..models.config import effective_settings
from .limits import LimitError
from .search_space import SearchSpace


@dataclass(frozen=True, eq=False)
class Networks:
    """Distinct networks of one family with the same number of resolution levels, n of them.

    Args:
        batch: their canonical forms.
        weights: n.
        params: for each of them the labels of its first point, n.
        order: position of that point among all effective points of the space, n.
    """

    batch: ArchitectureBatch
    weights: np.ndarray
    params: Sequence[dict[str, Any]]
    order: np.ndarray


@dataclass(frozen=True, eq=False)
class _Part:
    """Canonical forms of some points of a grid: `grid` holds the labels of every parameter, `points` are indices."""

    batch: ArchitectureBatch
    grid: Sequence[Sequence[Any]]
    points: np.ndarray
    first: int


def distinct_networks(space: SearchSpace) -> list[Networks] | None:
    """All networks within the limits; None for a space that only `SearchSpace.enumerate` can enumerate.

    That is one that varies training settings, or has a continuous parameter.
    """
    names = [parameter.name for parameter in space.parameters]
    grids = space.effective_grids()
    if grids is None or space.searched_training_settings or not {*space.fixed, *names} <= SETTINGS:
        return None
    parts, first = [], 0
    for grid in grids:
        for points, batch in _batches(space, dict(zip(names, grid, strict=True))):
            rows = np.flatnonzero(batch.valid(space.image_size))
            for own, forms in batch.take(rows).canonical():
                parts.append(_Part(forms, grid, points[rows[own]], first))
        first += math.prod(map(len, grid))
    return [_networks(space, part, rows) for part, rows in _first_occurrences(parts)]


def _batches(space: SearchSpace, grid: dict[str, Sequence[Any]]) -> Iterator[tuple[np.ndarray, ArchitectureBatch]]:
    """The points of a grid by their number of resolution levels: (their indices in the grid, the architectures)."""
    shape = [len(labels) for labels in grid.values()]
    index = dict(zip(grid, np.unravel_index(np.arange(math.prod(shape)), shape), strict=True))
    decoders = {parameter.name: parameter.decode for parameter in space.parameters}
    values = {name: [decoders[name](label) for label in labels] for name, labels in grid.items()}

    def choices(name: str) -> list[Any]:
        """The values of a setting, of which `rows_of` gives every point's; the default if it has no effect."""
        return values[name] if name in values else [space.fixed.get(name, DEFAULTS[name])]

    family = choices("family")[0]
    smoother = choices("smoother")[0]
    effective = effective_settings(family, smoother)
    smoother = smoother if "smoother" in effective else DEFAULTS["smoother"]

    def column(name: str, numbers: Sequence[Any], points: np.ndarray) -> np.ndarray:
        """The numbers, one for each value of the setting, at the points."""
        return np.asarray(numbers)[index[name][points] if name in values else np.zeros(len(points), dtype=int)]

    channels = choices("base_channels")
    every = np.arange(math.prod(shape))
    n_levels = column("base_channels", [len(c) for c in channels], every)
    for levels in np.unique(n_levels):
        points = np.flatnonzero(n_levels == levels)
        of_levels = [list(c) if len(c) == levels else [0] * levels for c in channels]
        base = column("base_channels", of_levels, points)
        scaling = column("channel_scaling", choices("channel_scaling"), points)
        yield (
            points,
            ArchitectureBatch(
                family=family,
                smoother=smoother,
                channels=scaled_channels(base, scaling),
                **{
                    key: column(name, [_per_level(value, levels) for value in choices(name)], points)
                    if name in effective
                    else np.full((len(points), levels), DEFAULTS[name])
                    for key, name in (("steps", "smoothing_steps"), ("blocks", "blocks"))
                },
                columns={
                    name: column(name, [encode(name, value) for value in choices(name)], points)
                    if name in effective
                    else np.full(len(points), encode(name, DEFAULTS[name]))
                    for name in COLUMNS
                },
                num_classes=space.fixed["num_classes"],
                in_channels=space.fixed["in_channels"],
            ),
        )


def _per_level(value: int | Sequence[int], levels: int) -> list[int]:
    """One number per level; zeros if there are numbers for another number of levels."""
    if isinstance(value, int):
        return [value] * levels
    return list(value) if len(value) == levels else [0] * levels


def _first_occurrences(parts: Sequence[_Part]) -> Iterator[tuple[_Part, np.ndarray]]:
    """The parts, each with the rows whose networks no earlier point of the space has."""
    if not parts:
        return
    levels = max(part.batch.levels for part in parts)
    keys = np.concatenate([part.batch.keys(levels) for part in parts])
    order = np.concatenate([part.first + part.points for part in parts])
    ascending = np.argsort(order)
    keys = np.ascontiguousarray(keys[ascending])
    _, first = np.unique(keys.view([("", keys.dtype)] * keys.shape[1]), return_index=True)
    is_first = np.zeros(len(order), dtype=bool)
    is_first[ascending[first]] = True
    start = 0
    for part in parts:
        yield part, np.flatnonzero(is_first[start : start + len(part.points)])
        start += len(part.points)


def _networks(space: SearchSpace, part: _Part, rows: np.ndarray) -> Networks:
    """The networks of these rows that are within the limits. Those of devices are checked one network at a time."""
    batch, limits = part.batch.take(rows), space.limits
    weights, macs = batch.cost(space.image_size)
    within = np.ones(len(rows), dtype=bool)
    if limits.max_weights is not None:
        within &= weights <= limits.max_weights
    if limits.min_weights is not None:
        within &= weights >= limits.min_weights
    if limits.max_macs is not None:
        within &= macs <= limits.max_macs
    points = part.points[rows[within]]
    labels = zip(*_labels(part.grid, points), strict=True)
    names = [parameter.name for parameter in space.parameters]
    params = [dict(zip(names, own, strict=True)) for own in labels]
    chosen = np.flatnonzero(within)
    if limits.needs_networks:
        kept = [index for index, own in enumerate(params) if _keeps_limits(space, own)]
        params, points, chosen = [params[index] for index in kept], points[kept], chosen[kept]
    return Networks(batch.take(chosen), weights[chosen], params, part.first + points)


def _keeps_limits(space: SearchSpace, params: dict[str, Any]) -> bool:
    try:
        space.limits.check(space.build(params))
    except LimitError:
        return False
    return True


def _labels(grid: Sequence[Sequence[Any]], points: np.ndarray) -> Iterator[list[Any]]:
    """For each parameter its labels at the points."""
    indices = np.unravel_index(points, [len(labels) for labels in grid])
    for labels, chosen in zip(grid, indices, strict=True):
        yield [labels[i] for i in chosen.tolist()]
