"""Many architectures at a time, as arrays: which are valid, which are the same network, and what they cost.

`ArchitectureConfig` and cost.py say what is right; a search space of a million points wants to know it at once. The
tests compare the two on whole spaces.

Notation:
    n    architectures of one family and one smoother
    l    resolution levels, the same number for all n
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np

from .config import _BETWEEN_LEVELS, _MAX_CHANNELS, _MAX_STEPS, ArchitectureConfig, effective_settings, network_id
from .cost import total_of_parts

_CHOICES: dict[str, tuple[Any, ...]] = {
    "sharing": ("none", "A", "AB"),
    "resolution_transfer": ("depthwise", "dense"),
    "channel_transfer": ("fixed", "learned"),
    "residual_activation": (False, True),
}
"""Settings whose columns hold an index into these values."""
_UNLIMITED = 2**16
"""Stands for channel_levels: null."""
DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(ArchitectureConfig)}
_PER_LEVEL = ("smoothing_steps", "blocks")
_NUMBERS = ("stem_stride", "polynomial_degree", "group_size", "kernel_size", "channel_levels", "fully_coupled_channels")
COLUMNS = (*_CHOICES, *_NUMBERS)
"""Settings with one number per architecture."""
SETTINGS = {
    *COLUMNS,
    *_PER_LEVEL,
    "family",
    "smoother",
    "base_channels",
    "channel_scaling",
    "num_classes",
    "in_channels",
}
"""All settings that a batch knows; those of ArchitectureConfig."""


def encode(name: str, value: Any) -> int:
    """The number that stands for a setting's value in its column."""
    if name in _CHOICES:
        return _CHOICES[name].index(value)
    return _UNLIMITED if value is None else value


def decode(name: str, number: int) -> Any:
    """The value that a number in a column stands for."""
    if name in _CHOICES:
        return _CHOICES[name][number]
    return None if name == "channel_levels" and number == _UNLIMITED else number


def scaled_channels(base: np.ndarray, scaling: np.ndarray) -> np.ndarray:
    """Channels after scaling, n x l; 0 where they are no whole numbers that a network can have.

    Args:
        base: before scaling, n x l.
        scaling: lambda, n.
    """
    scaled = base * scaling[:, None]
    whole = np.rint(scaled)
    # The relative tolerance of ArchitectureConfig.
    close = np.abs(scaled - whole) <= 1e-9 * np.maximum(np.abs(scaled), np.abs(whole))
    return np.where(close & (whole >= 1) & (whole <= _MAX_CHANNELS), whole, 0).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ArchitectureBatch:
    """Architectures as arrays.

    Args:
        family, smoother: of all of them.
        channels: after scaling, n x l; 0 where they do not come out whole numbers.
        steps, blocks: n x l; 0 where the setting has another number of levels.
        columns: one number per architecture for each of COLUMNS, n each.
        num_classes, in_channels: of all of them.
    """

    family: str
    smoother: str
    channels: np.ndarray
    steps: np.ndarray
    blocks: np.ndarray
    columns: Mapping[str, np.ndarray]
    num_classes: int
    in_channels: int

    def __len__(self) -> int:
        return len(self.channels)

    @property
    def levels(self) -> int:
        return self.channels.shape[1]

    def take(self, rows: np.ndarray) -> ArchitectureBatch:
        """The architectures of these rows."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        arrays = {name: getattr(self, name)[rows] for name in ("channels", "steps", "blocks")}
        return replace(self, columns=columns, **arrays)

    def depths(self) -> np.ndarray:
        """Number of channel levels of each resolution level, n x l."""
        depths, current = np.ones(self.channels.shape, dtype=np.int64), self.channels.copy()
        if self.family not in ("mgic", "mgiad"):
            return depths
        coarsest, limit = self.columns["fully_coupled_channels"][:, None], self.columns["channel_levels"][:, None]
        going = current > 0
        while going.any():
            if self.family == "mgiad":
                going = going & (current % 2 == 0) & (depths < limit) & (current // 2 >= coarsest)
            else:
                going = going & (current % 2 == 0) & (current >= coarsest)
            depths, current = depths + going, np.where(going, current // 2, current)
        return depths

    def valid(self, image_size: int) -> np.ndarray:
        """Which of them are networks that take such images: a mask of n. Budgets are not checked here."""
        valid = (self.channels > 0).all(axis=1) & (self.steps > 0).all(axis=1) & (self.blocks > 0).all(axis=1)
        if self.levels > 1:
            valid &= image_size >= self.columns["stem_stride"] * 2 ** (self.levels - 2) + 1
        channels = np.maximum(self.channels, 1)
        multiples = (channels[:, 1:] % channels[:, :-1] == 0).all(axis=1)
        if self.family == "mgic":
            valid &= multiples
        elif self.family != "resnet":
            valid &= multiples | (self.columns["resolution_transfer"] == encode("resolution_transfer", "dense"))
        if self.family == "mgiad":
            valid &= 2 * self.steps.max(axis=1) <= _MAX_STEPS
        return np.asarray(valid & self._groups_fit() if self.family in ("mgic", "mgiad") else valid)

    def _groups_fit(self) -> np.ndarray:
        depths, size = self.depths(), self.columns["group_size"][:, None]
        learned = self.columns["channel_transfer"][:, None] == encode("channel_transfer", "learned")
        fit = np.ones(self.channels.shape, dtype=bool)
        for depth in range(int(depths.max()) - 1):
            channels = np.maximum(self.channels >> depth, 1)
            divides = channels % np.minimum(size, channels) == 0
            halves = channels // 2 % np.maximum(channels // size, 1) == 0
            if self.family != "mgic":
                halves |= ~learned
            fit &= (divides & halves) | (depth >= depths - 1)
        if self.family == "mgic":
            fit &= self.channels >> (depths - 1) < self.columns["fully_coupled_channels"][:, None]
        return np.asarray(fit.all(axis=1))

    def canonical(self) -> Iterator[tuple[np.ndarray, ArchitectureBatch]]:
        """The canonical forms of valid architectures: (rows, their forms), for each family that these belong to.

        The forms are those of `ArchitectureConfig.canonical`.
        """
        single = (self.depths() == 1).all(axis=1)
        if self.family == "mgic" and self.levels > 1:
            single[:] = False
        for collapsed in (False, True):
            rows = np.flatnonzero(single == collapsed)
            if not len(rows):
                continue
            batch = self.take(rows)
            if collapsed and self.family == "mgic":
                batch = replace(batch, family="resnet")
            elif collapsed and self.family == "mgiad":
                shared = np.full(len(rows), encode("sharing", "AB"))
                batch = replace(
                    batch, family="mgnet", steps=2 * batch.steps, columns={**batch.columns, "sharing": shared}
                )
            yield rows, batch._without_ineffective()

    def _without_ineffective(self) -> ArchitectureBatch:
        effective = effective_settings(self.family, self.smoother)
        if self.levels == 1:
            effective -= {*_BETWEEN_LEVELS}
        columns = {
            name: column if name in effective else np.full(len(self), encode(name, DEFAULTS[name]))
            for name, column in self.columns.items()
        }
        if "sharing" in effective:
            columns["sharing"] = self._effective_sharing()
        if self.family in ("mgic", "mgiad"):
            columns |= self._effective_hierarchy()
        default = {name: np.full(self.channels.shape, DEFAULTS[name]) for name in _PER_LEVEL}
        steps = self.steps if "smoothing_steps" in effective else default["smoothing_steps"]
        blocks = self.blocks if "blocks" in effective else default["blocks"]
        smoother = self.smoother if "smoother" in effective else DEFAULTS["smoother"]
        return replace(self, smoother=smoother, steps=steps, blocks=blocks, columns=columns)

    def _effective_sharing(self) -> np.ndarray:
        none, of_a, both = (encode("sharing", value) for value in ("none", "A", "AB"))
        sharing, later = self.columns["sharing"], self.steps[:, 1:].max(axis=1, initial=1)
        one_a = (sharing == none) & (self.steps[:, 0] <= 2) & (later == 1)
        return np.where(self.steps.max(axis=1) == 1, both, np.where(one_a, of_a, sharing))

    def _effective_hierarchy(self) -> dict[str, np.ndarray]:
        depths = self.depths()
        grouped, coarsest = depths > 1, self.channels >> (depths - 1)
        largest = np.where(grouped, self.channels, 1).max(axis=1)
        effective = {"group_size": np.minimum(self.columns["group_size"], largest)}
        if self.family == "mgic":
            return effective | {"fully_coupled_channels": coarsest.max(axis=1) + 1}
        smallest = np.where(grouped, coarsest, _MAX_CHANNELS).min(axis=1)
        return effective | {"fully_coupled_channels": smallest, "channel_levels": depths.max(axis=1)}

    def keys(self, levels: int) -> np.ndarray:
        """One row of numbers for each canonical form, equal for equal networks of all batches: n x k.

        Args:
            levels: the largest number of resolution levels of all batches.
        """
        constant = [sum(name.encode()) for name in (self.family, self.smoother)] + [self.levels]
        padding = ((0, 0), (0, levels - self.levels))
        return np.concatenate(
            [
                np.tile(constant, (len(self), 1)),
                np.stack([self.columns[name] for name in COLUMNS], axis=1),
                *(np.pad(array, padding) for array in (self.channels, self.steps, self.blocks)),
            ],
            axis=1,
        )

    def cost(self, image_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Weights and MACs of canonical forms, n each."""
        weights, macs = np.zeros(len(self), dtype=np.int64), np.zeros(len(self), dtype=np.int64)
        depths = self.depths()
        branches = np.column_stack([depths, *(self.columns[name] for name in _CHOICES)])
        _, which = np.unique(branches, axis=0, return_inverse=True)
        order = np.argsort(which.reshape(-1), kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(which.reshape(-1)[order])) + 1) if len(self) else []:
            # cost.py computes with whatever numbers a config holds.
            forms = cast(ArchitectureConfig, _AsConfig(self.take(rows), depths[rows[0]]))
            cost = total_of_parts(forms, image_size)
            weights[rows], macs[rows] = cost.weights, cost.macs
        return weights, macs

    def ids(self) -> list[str]:
        """The id of each canonical form, as `ArchitectureConfig.id`."""
        columns = {name: [decode(name, number) for number in self.columns[name].tolist()] for name in COLUMNS}
        numbers = zip(*columns.values(), strict=True)
        arrays = zip(self.channels.tolist(), self.steps.tolist(), self.blocks.tolist(), strict=True)
        constant = {
            **DEFAULTS,
            "family": self.family,
            "smoother": self.smoother,
            "channel_scaling": 1.0,
            "num_classes": self.num_classes,
            "in_channels": self.in_channels,
        }
        return [
            network_id(
                {
                    **constant,
                    **dict(zip(COLUMNS, own, strict=True)),
                    "base_channels": channels,
                    "smoothing_steps": _one_if_equal(steps),
                    "blocks": _one_if_equal(blocks),
                }
            )
            for own, (channels, steps, blocks) in zip(numbers, arrays, strict=True)
        ]


def _one_if_equal(numbers: list[int]) -> int | list[int]:
    return numbers[0] if len(set(numbers)) == 1 else numbers


class _AsConfig:
    """Canonical forms that differ in numbers only, with the attributes of a config that cost.py reads, as arrays."""

    def __init__(self, batch: ArchitectureBatch, depths: np.ndarray) -> None:
        self.family, self.num_classes, self.in_channels = batch.family, batch.num_classes, batch.in_channels
        self.channels, self.steps, self.stage_blocks = (
            tuple(batch.channels.T),
            tuple(batch.steps.T),
            tuple(batch.blocks.T),
        )
        self.channel_hierarchies = tuple(
            tuple(channels >> depth for depth in range(count))
            for channels, count in zip(self.channels, depths, strict=True)
        )
        columns = batch.columns
        self.degree = columns["polynomial_degree"] if batch.smoother == "polynomial" else None
        self.kernel_size, self._group_size, self._stride = (
            columns[name] for name in ("kernel_size", "group_size", "stem_stride")
        )
        self.sharing, self.resolution_transfer, self.channel_transfer = (
            decode(name, int(columns[name][0])) for name in ("sharing", "resolution_transfer", "channel_transfer")
        )

    @property
    def stem_kernel(self) -> np.ndarray:
        return np.maximum(3, self._stride + 1)

    def level_sizes(self, image_size: int) -> list[np.ndarray]:
        return [-(-image_size // (self._stride * 2**level)) for level in range(len(self.channels))]

    def groups(self, channels: np.ndarray) -> np.ndarray:
        return np.maximum(channels // self._group_size, 1)
