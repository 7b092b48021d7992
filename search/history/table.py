"""Tables of trained architectures with their learning curves. Searches are replayed on them; they serve as priors, too.

A table is one JSON file, compressed if its name ends in .gz:

    {"meta": {"name": .., "space": .., "training": .., "data": .., "shape": [classes, channels, pixels], ...},
     "rows": [{"config": {ArchitectureConfig fields}, "weights": 2450, "seed": 0,
               "curve": [validation accuracy after each epoch], "seconds": 4.2}],
     "added": {"meta": .., "rows": ..}}

`added`, which may be missing, has further trainings of a wider space, with settings that the table's own does not have.
Searches are replayed without them, so that their results stay comparable, or with all; priors learn from all.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mgnas.errors import ConfigError, UserError
from mgnas.files import read_json, write_bytes
from mgnas.settings import build, settings

from ...models.config import ArchitectureConfig, effective_settings
from ...models.cost import count_weights
from ...space.candidate import Candidate, TrainingSettings
from ...space.limits import LimitError
from ...space.search_space import SearchSpace

SHIPPED = Path(__file__).parent / "tables"
"""Folder of the tables that are installed with mgnas; `prior: digits` names one of them."""

_Share = Annotated[float, Field(ge=0, le=1)]


@settings
class _Row:
    """A row of the file, before its config is read."""

    config: dict[str, Any]
    weights: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]
    curve: Annotated[list[_Share], Field(min_length=1)]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class TableRow:
    """One finished training.

    Args:
        config: the network.
        weights: its trainable parameters.
        seed: of the training.
        curve: validation accuracy after each epoch, as a fraction.
        seconds: training time.
    """

    config: ArchitectureConfig
    weights: int
    seed: int
    curve: tuple[float, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        fields = {"weights": self.weights, "seed": self.seed, "curve": list(self.curve), "seconds": self.seconds}
        return {"config": self.config.to_dict(), **fields}


@dataclass(frozen=True)
class TabularBenchmark:
    """Trained architectures of one space on one data set.

    Args:
        meta: name, space, training, data and shape as in the file; hardware, versions and command for the reader.
        rows: one for each training; an architecture trained with several seeds has several.
        added: trainings of further architectures on the same images; its space holds this one's.
    """

    meta: Mapping[str, Any]
    rows: tuple[TableRow, ...]
    added: TabularBenchmark | None = None

    @classmethod
    def load(cls, path: str | os.PathLike) -> TabularBenchmark:
        """Read a table.

        Raises:
            UserError: no such file, not JSON, a missing or wrong entry, weights that are not the config's.
        """
        path = Path(path)
        try:
            raw = read_json(path)
        except FileNotFoundError:
            raise UserError(f"{path}: no such table") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable table ({error}); restore it from a copy") from None
        added = raw.get("added") if isinstance(raw, dict) else None
        return replace(_read_table(raw, path), added=None if added is None else _read_table(added, path, "added."))

    def save(self, path: str | os.PathLike) -> None:
        """Write the table, atomically; equal tables give equal files."""
        path = Path(path)
        text = f"{self._to_json()}\n".encode()
        write_bytes(path, gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)

    def _to_json(self) -> str:
        lines = ",\n".join(json.dumps(row.to_dict()) for row in self.rows)
        added = "" if self.added is None else f',\n"added": {self.added._to_json()}'
        return f'{{"meta": {json.dumps(dict(self.meta), indent=1)},\n"rows": [\n{lines}\n]{added}}}'

    @property
    def name(self) -> str:
        return str(self.meta.get("name", "table"))

    @property
    def epochs(self) -> int:
        """Of the longest training."""
        return max(len(row.curve) for row in self.rows)

    @cached_property
    def by_id(self) -> dict[str, list[TableRow]]:
        """Architecture id -> its trainings in the order of their seeds."""
        rows_by_id: dict[str, list[TableRow]] = defaultdict(list)
        for row in sorted(self.rows, key=lambda row: row.seed):
            rows_by_id[row.config.id].append(row)
        return dict(rows_by_id)

    def mean_accuracies(self) -> dict[str, float]:
        """Architecture id -> its final accuracy, the mean over its seeds; the best estimate that the table has."""
        return {key: sum(row.curve[-1] for row in rows) / len(rows) for key, rows in self.by_id.items()}

    def extended(self) -> TabularBenchmark:
        """The table with the trainings of `added`, in their space; the table itself if there are none."""
        if self.added is None:
            return self
        meta = {**self.meta, "name": f"{self.name}+added", "space": self.added.meta.get("space")}
        return TabularBenchmark(meta, self.rows + self.added.rows)

    def space(self) -> TableSpace:
        """The search space that the table was drawn from, with only the table's architectures as candidates.

        Raises:
            UserError: meta does not say which space that is.
        """
        return TableSpace(self)

    def whole_space(self) -> SearchSpace:
        """The search space that the table was drawn from, with all its candidates.

        Raises:
            UserError: meta does not say which space that is.
        """
        return SearchSpace(**self.space_arguments())

    def space_arguments(self) -> dict[str, Any]:
        """The arguments of SearchSpace, read from meta; errors as for `whole_space`."""
        try:
            classes, channels, pixels = self.meta["shape"]
            mapping = self.meta["space"]
            training = build(TrainingSettings, self.meta["training"], "meta.training", self.name)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise UserError(f"{self.name}: meta needs space, training and shape to be searched in ({error})") from None
        shape = {"num_classes": classes, "in_channels": channels, "image_size": pixels}
        return {"mapping": mapping, "training": training, **shape, "prefix": "meta.space", "file": self.name}


class TableSpace(SearchSpace):
    """A search space in which only a table's architectures are valid; candidates are made once and kept."""

    def __init__(self, table: TabularBenchmark) -> None:
        self._configs = {key: rows[0].config for key, rows in table.by_id.items()}
        self._made: dict[tuple, Candidate | ConfigError] = {}
        super().__init__(**table.space_arguments())

    def candidate(self, values: Mapping[str, Any]) -> Candidate:
        key = tuple(values.values()) if tuple(values) == self._names else tuple(values[name] for name in self._names)
        if key not in self._made:
            self._made[key] = self._make(values)
        made = self._made[key]
        if isinstance(made, ConfigError):
            raise made
        return made

    def enumerate(self) -> Iterator[Candidate]:
        """As SearchSpace.enumerate; the result is kept.

        The candidates of a space that is not enumerable are those of the table's configs, in the order of its rows.
        """
        if self._all is None:
            self._all = list(super().enumerate() if self.enumerable else self._listed())
        return iter(self._all)

    def _listed(self) -> Iterator[Candidate]:
        for config in self._configs.values():
            with contextlib.suppress(LimitError):
                yield self._of(config)

    def _of(self, config: ArchitectureConfig) -> Candidate:
        """The candidate with the settings of a config. A setting without effect on it has its first label."""
        effective = effective_settings(config.family, config.smoother)
        values = {}
        for parameter in self.parameters:
            value = getattr(config, parameter.name)
            if parameter.name in effective:
                values[parameter.name] = parameter.label(list(value) if isinstance(value, tuple) else value)
            else:
                values[parameter.name] = parameter.extremes()[0]
        return self.candidate(values)

    def within(self, min_weights: int | None, max_weights: int | None) -> SearchSpace:
        narrower = copy.copy(self)
        narrower._made, narrower._all = {}, None
        return SearchSpace.within(narrower, min_weights, max_weights)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    _all: list[Candidate] | None = None

    def _make(self, values: Mapping[str, Any]) -> Candidate | ConfigError:
        try:
            candidate = super().candidate(values)
        except ConfigError as error:
            return error
        return candidate if candidate.id in self._configs else ConfigError("", "is not in the table")


def _read_table(raw: Any, path: Path, prefix: str = "") -> TabularBenchmark:
    """A table without what was added. `prefix`: of its entries in messages."""
    if not isinstance(raw, dict) or not isinstance(raw.get("meta"), dict) or not isinstance(raw.get("rows"), list):
        raise UserError(f"{path}: not a table: expected a mapping with {prefix}meta and {prefix}rows")
    rows = tuple(_read_row(row, f"{prefix}rows[{number}]", str(path)) for number, row in enumerate(raw["rows"]))
    if not rows:
        raise UserError(f"{path}: {prefix}rows: is empty; a table needs trained architectures")
    return TabularBenchmark(raw["meta"], rows)


def _read_row(raw: Any, where: str, file: str) -> TableRow:
    row = build(_Row, raw, where, file)
    config = ArchitectureConfig.from_dict(row.config, f"{where}.config", file)
    weights = count_weights(config)
    if weights != row.weights:
        raise ConfigError(f"{where}.weights", f"says {row.weights}, but the config has {weights} weights", file)
    return TableRow(config, row.weights, row.seed, tuple(row.curve), row.seconds)
