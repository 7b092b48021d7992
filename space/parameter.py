"""One searched setting: a list of choices, or a range of integers or floats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field

from mgnas.errors import ConfigError
from mgnas.files import short
from mgnas.settings import build, settings

Distribution = IntDistribution | FloatDistribution | CategoricalDistribution
"""Optuna's distributions that a parameter can have. Their base class has neither bounds nor choices."""

_Number = Annotated[int | float, Field(allow_inf_nan=False)]


@settings
class Range:
    """`{low: 1, high: 8, step: 1}`: integers if all three are integers, else floats. `log: true`: a log scale."""

    low: _Number
    high: _Number
    step: _Number | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ConfigError("low", f"{self.low:g} is above high, {self.high:g}")
        if self.step is not None and self.step <= 0:
            raise ConfigError("step", f"must be greater than 0, got {self.step:g}")
        if self.log and self.low <= 0:
            raise ConfigError("low", f"a log scale starts above 0, got {self.low:g}")
        if self.log and self.step is not None:
            raise ConfigError("step", "a log scale has no step; drop one of the two")
        steps = (self.high - self.low) / self.step if self.step else 0
        if not math.isclose(steps, round(steps), abs_tol=1e-9):
            raise ConfigError(
                "step", f"{self.step:g} does not lead from {self.low:g} to {self.high:g}; change one of the three"
            )


@dataclass(frozen=True)
class Parameter:
    """A searched setting. A *label* is a value as the Optuna study shows it; a list becomes `16-32-64`.

    Args:
        name: a setting of the architecture or of the training.
        distribution: its Optuna distribution, over labels.
        decoded: label -> value, for a list of choices; empty for a range.
    """

    name: str
    distribution: Distribution
    decoded: dict[Any, Any]

    @classmethod
    def from_yaml(cls, name: str, value: Any) -> Parameter:
        """The parameter that a YAML value describes: a list of choices, or a mapping with a range.

        Raises:
            ConfigError: the value is neither, the list is empty or repeats a choice, or the range is not valid.
        """
        if isinstance(value, list):
            if not value:
                raise ConfigError(name, "has no choices; name at least one")
            try:
                decoded = {_label(choice): choice for choice in value}
            except ConfigError as error:
                raise error.inside(name) from None
            if len(decoded) < len(value):
                raise ConfigError(name, "names a choice twice; name each once")
            return cls(name, CategoricalDistribution(tuple(decoded)), decoded)
        if not isinstance(value, dict):
            raise ConfigError(name, f"expected a list of choices or a range {{low: .., high: ..}}, got {value!r}")
        bounds = build(Range, value, name)
        whole = all(isinstance(number, int) for number in (bounds.low, bounds.high, bounds.step or 0))
        if whole:
            distribution = IntDistribution(
                int(bounds.low), int(bounds.high), log=bounds.log, step=int(bounds.step or 1)
            )
        else:
            distribution = FloatDistribution(bounds.low, bounds.high, log=bounds.log, step=bounds.step)
        return cls(name, distribution, {})

    def decode(self, label: Any) -> Any:
        """The setting's value that a label stands for."""
        return self.decoded.get(label, label) if self.decoded else label

    def label(self, value: Any) -> Any:
        """The label of a value that a user has written down; a label stands for itself.

        Raises:
            ConfigError: the parameter cannot have this value.
        """
        try:
            wanted = _label(value)
        except ConfigError as error:
            raise error.inside(self.name) from None
        number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
        if self.grid is None:
            d = self.distribution
            assert isinstance(d, FloatDistribution)  # The others have a grid.
            if not number or not d.low <= wanted <= d.high:
                raise ConfigError(self.name, f"expected a number from {d.low:g} to {d.high:g}, got {short(value)}")
            return float(wanted)
        for label in self.grid:
            same_kind = isinstance(label, bool) == isinstance(wanted, bool)
            close = number and isinstance(label, float) and math.isclose(label, wanted, rel_tol=1e-9)
            # [4] has the label `4`, which YAML reads as a number.
            if close or (same_kind and (label == wanted or (isinstance(label, str) and label == str(wanted)))):
                return label
        shown = ", ".join(map(str, self.grid[:12])) + ", ..." * (len(self.grid) > 12)
        raise ConfigError(self.name, f"expected one of {shown}, got {short(value)}")

    @cached_property
    def grid(self) -> tuple[Any, ...] | None:
        """All labels in order; None for a continuous range."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return d.choices
        if isinstance(d, IntDistribution):
            return tuple(range(d.low, d.high + 1, d.step))
        if d.single():
            return (d.low,)
        if d.step is None:
            return None
        return tuple(round(d.low + i * d.step, 12) for i in range(round((d.high - d.low) / d.step) + 1))

    def extremes(self) -> tuple[Any, ...]:
        """The labels to check in place of all: every choice, or both ends of the range."""
        d = self.distribution
        return d.choices if isinstance(d, CategoricalDistribution) else (d.low, d.high)

    def sample(self, rng: np.random.Generator) -> Any:
        """A random label, uniform on the parameter's scale."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return d.choices[rng.integers(len(d.choices))]
        if d.log:
            value = math.exp(rng.uniform(math.log(d.low), math.log(d.high + isinstance(d, IntDistribution))))
            return min(int(value), d.high) if isinstance(d, IntDistribution) else min(max(value, d.low), d.high)
        if self.grid is not None:
            return self.grid[rng.integers(len(self.grid))]
        return float(rng.uniform(d.low, d.high))

    def neighbour(self, label: Any, rng: np.random.Generator) -> Any:
        """A random label near this one: an adjacent choice or grid point, or a small step on a continuous range."""
        if self.grid is not None:
            index = self.grid.index(label) if label in self.grid else int(rng.integers(len(self.grid)))
            index += 1 if index == 0 or (index + 1 < len(self.grid) and rng.random() < 0.5) else -1
            return self.grid[min(max(index, 0), len(self.grid) - 1)]
        d = self.distribution
        assert isinstance(d, FloatDistribution)  # The others have a grid.
        low, high, at = (math.log(v) if d.log else v for v in (d.low, d.high, label))
        moved = at + rng.normal(0, 0.1 * (high - low))
        moved = float(
            np.clip(2 * low - moved if moved < low else 2 * high - moved if moved > high else moved, low, high)
        )
        return min(max(math.exp(moved) if d.log else moved, d.low), d.high)


def _label(choice: Any) -> Any:
    """The label of a choice. Raises ConfigError if it is neither a word, a number nor a list."""
    if isinstance(choice, list):
        return "-".join(map(str, choice))
    if choice is None or isinstance(choice, bool | int | float | str):
        return choice
    raise ConfigError("", f"a choice is a number, a word or a list of numbers, got {choice!r}")
