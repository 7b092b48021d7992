"""The search space: which candidates exist, which are valid, and which are equal."""

from __future__ import annotations

import collections
import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from mgnas.errors import ConfigError
from mgnas.files import short
from mgnas.settings import build, check_field, unknown_key

from ..models.config import ArchitectureConfig, effective_settings
from .candidate import Candidate, TrainingSettings
from .limits import LimitError, Limits
from .parameter import Parameter

_ARCHITECTURE = {field.name for field in fields(ArchitectureConfig)}
_FROM_DATA = {"num_classes", "in_channels"}
_TRAINING = {field.name for field in fields(TrainingSettings)}
_KNOWN = sorted((_ARCHITECTURE | _TRAINING) - _FROM_DATA)

_PROBES = 2_000
_TRIES = 200
ENUMERABLE = 50_000
"""Spaces with at most this many effective points are enumerated, which takes seconds; larger ones are sampled."""


@dataclass(frozen=True)
class SpaceSummary:
    """What a space holds, computed from all its points or from a sample.

    Args:
        points: number of combinations of parameter values; None if a parameter is continuous.
        examined: number of points that were examined.
        enumerated: whether all effective points were examined.
        weights: the weights of the distinct valid candidates, ascending.
        rejections: the setting at fault -> number of points that were rejected for it.
    """

    points: int | None
    examined: int
    enumerated: bool
    weights: np.ndarray
    rejections: dict[str, int]


class SearchSpace:
    """Parameters, fixed settings and limits. They decide which candidates exist.

    Args:
        mapping: the `space` section: `fixed`, `parameters`, `limits`.
        training: the training settings. `parameters` may vary some of them.
        num_classes, in_channels, image_size: the shape of the data set.
        prefix: dotted path of the section in its file, for messages.
        file: the file's name, for messages.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type, a choice fits no combination of the other settings,
            or no candidate is valid.
    """

    def __init__(
        self,
        mapping: Any,
        training: TrainingSettings,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        prefix: str = "space",
        file: str | None = None,
    ) -> None:
        try:
            self._read(mapping)
            self.training = training
            self.image_size = image_size
            self.fixed |= {"num_classes": num_classes, "in_channels": in_channels}
            self.searched_training_settings = tuple(
                sorted(_TRAINING.intersection(parameter.name for parameter in self.parameters))
            )
            self._check_choices()
            self._check_possible()
        except ConfigError as error:
            raise error.inside(prefix, file) from None

    def _read(self, mapping: Any) -> None:
        if not isinstance(mapping, Mapping):
            raise ConfigError("", "expected a mapping with parameters, fixed and limits")
        for key in mapping:
            if key not in ("fixed", "parameters", "limits"):
                raise unknown_key(str(key), ["fixed", "parameters", "limits"])
        sections = {key: {} if mapping.get(key) is None else mapping[key] for key in ("fixed", "parameters", "limits")}
        fixed, parameters = sections["fixed"], sections["parameters"]
        for section, content in (("fixed", fixed), ("parameters", parameters)):
            if not isinstance(content, Mapping):
                raise ConfigError(section, f"expected a mapping of settings, got {content!r}")
            for name in content:
                _check_name(name, section)
        for name in fixed:
            if name in parameters:
                raise ConfigError(f"fixed.{name}", "is also among parameters; keep one of the two")
            if name in _TRAINING:
                raise ConfigError(f"fixed.{name}", "is a training setting; move it to the training section")
            check_field(ArchitectureConfig, name, fixed[name], "fixed")
        try:
            self.parameters = tuple(Parameter.from_yaml(str(name), value) for name, value in parameters.items())
        except ConfigError as error:
            raise error.inside("parameters") from None
        if not self.parameters:
            raise ConfigError("parameters", "names nothing to search; give one, such as smoothing_steps: [1, 2]")
        self.fixed = dict(fixed)
        self.limits = build(Limits, sections["limits"], "limits")

    def _check_choices(self) -> None:
        """Check that every choice has its setting's type and is part of a valid network, limits aside."""
        for parameter in self.parameters:
            owner = ArchitectureConfig if parameter.name in _ARCHITECTURE else TrainingSettings
            for label in parameter.extremes():
                check_field(owner, parameter.name, parameter.decode(label), "parameters")
        rng = np.random.default_rng(0)
        for parameter in self.parameters:
            for label in parameter.decoded:
                self._check_choice(parameter, label, rng)

    def _check_choice(self, parameter: Parameter, label: Any, rng: np.random.Generator) -> None:
        """Check that a choice is part of a valid network.

        If the choice itself is at fault in some combinations, it must also be valid in one where it has an effect.
        """
        problems, harmless = [], 0
        for tried, values in enumerate(self._combinations_with(parameter, label, rng)):
            if tried == _TRIES and harmless and all(problem.key != parameter.name for problem in problems):
                return  # The choice is valid and never at fault, so it need not have an effect.
            try:
                architecture = self.build(values).architecture
            except ConfigError as error:
                problems.append(error)
                continue
            if parameter.name in _TRAINING or architecture.has_effect(parameter.name):
                return
            harmless += 1
        own = [problem for problem in problems if problem.key == parameter.name]
        if own and harmless:
            raise own[0].inside("parameters")
        if harmless:
            return
        cause = problems[0]
        if cause.key in _ARCHITECTURE and len({problem.key for problem in problems}) == 1:
            raise cause.inside(self._section(cause.key))
        raise ConfigError(
            f"parameters.{parameter.name}", f"{label} fits no combination of the other settings ({cause})"
        )

    def _combinations_with(
        self, parameter: Parameter, label: Any, rng: np.random.Generator
    ) -> Iterator[dict[str, Any]]:
        """Random combinations that contain a choice; then all such combinations, if there are at most `ENUMERABLE`."""
        for _ in range(_TRIES):
            yield {**self.random_values(rng), parameter.name: label}
        if (grids := self._grids()) is None:
            return
        grids = [(label,) if other is parameter else grid for other, grid in zip(self.parameters, grids, strict=True)]
        if math.prod(map(len, grids)) <= ENUMERABLE:
            yield from self._combinations(grids)

    def _section(self, name: str) -> str:
        """The section in which a setting stands, or in which it belongs."""
        return "parameters" if any(parameter.name == name for parameter in self.parameters) else "fixed"

    def _check_possible(self) -> None:
        """Check that there is a valid candidate within the limits."""
        rng = np.random.default_rng(0)
        probes = (self.random_values(rng) for _ in range(_PROBES))
        everything = self.effective_values() if self.enumerable else ()
        invalid: collections.Counter[str] = collections.Counter()
        amounts: dict[tuple[str, str], list[float]] = {}
        for values in itertools.chain(probes, everything):
            try:
                self.candidate(values)
                return
            except LimitError as error:
                amounts.setdefault((error.limit, error.unit), []).append(error.amount)
            except ConfigError as error:
                invalid[str(error)] += 1
        if amounts:
            (limit, unit), broken = max(amounts.items(), key=lambda item: len(item[1]))
            extent = f"the networks that break it have {min(broken):,} to {max(broken):,} {unit}"
            raise ConfigError(f"limits.{limit}", f"leaves no candidate: {extent}")
        commonest = invalid.most_common(1)[0][0]
        raise ConfigError("parameters", f"none of the combinations is valid; most often: {commonest}")

    def _grids(self) -> list[tuple[Any, ...]] | None:
        """The labels of every parameter; None if a parameter is continuous."""
        grids = [parameter.grid for parameter in self.parameters if parameter.grid is not None]
        return grids if len(grids) == len(self.parameters) else None

    def _combinations(self, grids: Sequence[Sequence[Any]]) -> Iterator[dict[str, Any]]:
        """Every combination of the labels in `grids`, which has one entry per parameter."""
        names = [parameter.name for parameter in self.parameters]
        for labels in itertools.product(*grids):
            yield dict(zip(names, labels, strict=True))

    def points(self) -> int | None:
        """Number of combinations of parameter values; None if a parameter is continuous."""
        grids = self._grids()
        return None if grids is None else math.prod(map(len, grids))

    def effective_points(self) -> int | None:
        """Number of combinations that differ in a setting with an effect; None if a parameter is continuous."""
        grids = self.effective_grids()
        return None if grids is None else sum(math.prod(map(len, effective)) for effective in grids)

    @property
    def enumerable(self) -> bool:
        """Whether all candidates can be enumerated in seconds."""
        points = self.effective_points()
        return points is not None and points <= ENUMERABLE

    def effective_values(self) -> Iterator[dict[str, Any]]:
        """One combination of labels, valid or not, for each of `effective_points`, in a fixed order.

        Raises:
            ValueError: a parameter is continuous.
        """
        if (grids := self.effective_grids()) is None:
            raise ValueError("a space with a continuous parameter cannot be enumerated")
        for effective in grids:
            yield from self._combinations(effective)

    def effective_grids(self) -> list[list[tuple[Any, ...]]] | None:
        """The labels of every parameter, for each family and smoother; None if a parameter is continuous.

        A setting without effect has only its first label. The effective points are the products of these grids.
        """
        grids = self._grids()
        return None if grids is None else list(self._effective_grids(grids))

    def _effective_grids(self, grids: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
        by_name = {parameter.name: grid for parameter, grid in zip(self.parameters, grids, strict=True)}
        for family in by_name.get("family", (self.fixed.get("family"),)):
            smoothers = by_name.get("smoother", (self.fixed.get("smoother", "learned"),))
            for smoother in smoothers if "smoother" in effective_settings(family) else smoothers[:1]:
                effective = effective_settings(family, smoother) | _TRAINING
                chosen = {"family": family, "smoother": smoother}
                yield [
                    (chosen[name],) if name in chosen else grid if name in effective else grid[:1]
                    for name, grid in by_name.items()
                ]

    def random_values(self, rng: np.random.Generator) -> dict[str, Any]:
        """A random label for each parameter; the combination need not be valid."""
        return {parameter.name: parameter.sample(rng) for parameter in self.parameters}

    def mutate(self, values: Mapping[str, Any], changes: int, rng: np.random.Generator) -> dict[str, Any]:
        """The combination with `changes` random parameters moved to a neighbouring label; it need not be valid."""
        moved = dict(values)
        for index in rng.permutation(len(self.parameters))[:changes]:
            parameter = self.parameters[index]
            moved[parameter.name] = parameter.neighbour(moved[parameter.name], rng)
        return moved

    def labels(self, params: Any) -> dict[str, Any]:
        """The labels of parameters that a user has written down, who need not name all.

        Raises:
            ConfigError: not a mapping, empty, a name that is no parameter of the space, or a value that it cannot have.
        """
        if not isinstance(params, Mapping) or not params:
            raise ConfigError("", f"expected a mapping of parameters, got {short(params)}")
        by_name = {parameter.name: parameter for parameter in self.parameters}
        for name in params:
            if name in self.fixed:
                raise ConfigError(str(name), f"is fixed to {short(self.fixed[name])} in this space; drop it here")
            if name not in by_name:
                raise unknown_key(str(name), list(by_name))
        return {name: by_name[name].label(value) for name, value in params.items()}

    def build(self, values: Mapping[str, Any]) -> Candidate:
        """The candidate of a combination of labels. Neither the limits nor the image size are checked.

        Trials of earlier versions may have networks with too many levels for their images.

        Raises:
            ConfigError: the settings contradict each other.
        """
        decoded = {parameter.name: parameter.decode(values[parameter.name]) for parameter in self.parameters}
        varied = {name: value for name, value in decoded.items() if name in self.searched_training_settings}
        architecture = {name: value for name, value in decoded.items() if name not in self.searched_training_settings}
        training = self.training
        if varied:
            unchanged = {field.name: getattr(training, field.name) for field in fields(training)}
            training = build(TrainingSettings, unchanged | varied)
        config = _architecture(**self.fixed | architecture)
        return Candidate(config, training, self.image_size, dict(values), self.searched_training_settings)

    def candidate(self, values: Mapping[str, Any]) -> Candidate:
        """The valid candidate of a combination of labels.

        Raises:
            ConfigError: the settings contradict each other or break a limit, or the images are too small for the
                levels.
        """
        candidate = self.build(values)
        candidate.architecture.check_image_size(self.image_size)
        self.limits.check(candidate)
        return candidate

    def within(self, min_weights: int | None, max_weights: int | None) -> SearchSpace:
        """The same space with tighter limits of weights.

        Args:
            min_weights, max_weights: None changes nothing.

        Raises:
            ConfigError: no candidate is left.
        """
        narrower = copy.copy(self)
        lower = [limit for limit in (self.limits.min_weights, min_weights) if limit is not None]
        upper = [limit for limit in (self.limits.max_weights, max_weights) if limit is not None]
        narrower.limits = replace(
            self.limits, min_weights=max(lower, default=None), max_weights=min(upper, default=None)
        )
        narrower._check_possible()
        return narrower

    def enumerate(self) -> Iterator[Candidate]:
        """Every distinct valid candidate once, in a fixed order.

        Raises:
            ValueError: a parameter is continuous.
        """
        seen = set()
        for values in self.effective_values():
            try:
                candidate = self.candidate(values)
            except ConfigError:
                continue
            if candidate.id not in seen:
                seen.add(candidate.id)
                yield candidate

    def sample(self, rng: np.random.Generator) -> Candidate:
        """A random valid candidate, by rejection sampling: uniform over the valid points.

        Raises:
            ConfigError: none of 100,000 random points is valid.
        """
        for _ in range(100_000):
            try:
                return self.candidate(self.random_values(rng))
            except ConfigError:
                continue
        raise ConfigError("limits", "no valid candidate in 100,000 random points; widen the limits")

    def summary(self, samples: int = 20_000, seed: int = 0) -> SpaceSummary:
        """What the space holds: from all effective points if it is enumerable, else from `samples` random points."""
        rng = np.random.default_rng(seed)
        points = self.effective_values() if self.enumerable else (self.random_values(rng) for _ in range(samples))
        weights: dict[str, int] = {}
        rejections: collections.Counter[str] = collections.Counter()
        examined = 0
        for values in points:
            examined += 1
            try:
                candidate = self.candidate(values)
                weights[candidate.id] = candidate.weights
            except ConfigError as error:
                rejections[error.key] += 1
        return SpaceSummary(self.points(), examined, self.enumerable, np.sort(list(weights.values())), dict(rejections))


def _architecture(**settings: Any) -> ArchitectureConfig:
    """The architecture, built without the settings that have no effect on its family or smoother.

    Equal settings give one object.

    Raises:
        ConfigError: the settings contradict each other.
    """
    effective = effective_settings(settings.get("family"), settings.get("smoother"))
    pairs = ((name, value) for name, value in settings.items() if name in effective)
    return _cached_architecture(tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in pairs))


@lru_cache(maxsize=2**14)
def _cached_architecture(settings: tuple[tuple[str, Any], ...]) -> ArchitectureConfig:
    # A search for new candidates builds the same architectures many times.
    return build(ArchitectureConfig, dict(settings))


def _check_name(name: Any, section: str) -> None:
    if name in _FROM_DATA:
        raise ConfigError(f"{section}.{name}", "comes from the data set; drop it here")
    if name not in _KNOWN:
        raise unknown_key(str(name), _KNOWN).inside(section)
