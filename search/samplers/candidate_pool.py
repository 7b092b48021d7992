"""The candidates that a model-based sampler looks at, kept as arrays from one ask to the next.

A small space is looked at whole. Of a large one, some two thousand random candidates are kept, and at each ask a part
of them, the least promising, makes way for new random ones and for neighbours of the front and of the most promising.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mgnas.errors import ConfigError

from ...space.candidate import Candidate
from ...space.parameter import Parameter
from ...space.search_space import SearchSpace
from .features import architecture_features

_SIZE = 2_000
"""Candidates kept of a large space; drawing them takes about a second."""
_TRIES_PER_CANDIDATE = 2
"""Random points tried for each, valid or not: bounds the time where most points are invalid."""
_RENEWED = 200
"""Candidates replaced at each ask, some 0.05 s."""
_PARENTS = 20
"""The most promising candidates, whose neighbours are looked at as well as the front's."""
_ENUMERATED = 30_000
"""Spaces of at most so many effective points are looked at whole; that takes some seconds once."""
_WIDE = 1_000
"""Integer ranges of more points than these are treated as continuous ones, rounded."""


class Point(NamedTuple):
    """A candidate as the sampler sees it.

    Args:
        id: equal for equal candidates.
        values: of the study's parameters.
        features: the model's input, d values about 0..1.
        log_cost: log10 of the cost (weights).
    """

    id: str
    values: dict[str, Any]
    features: np.ndarray
    log_cost: float


def stacked(points: Sequence[Point]) -> np.ndarray:
    """The features of one point or more, n x d."""
    return np.stack([point.features for point in points])


class Pool(abc.ABC):
    """Points to choose among. `refresh` fills the arrays; they are empty before.

    Args:
        distributions: the study's parameters.
        seed: of what is drawn.

    Attributes:
        points: n of them, no two with equal ids; `features` (n x d) and `log_cost` (n) are theirs.
        scores: what `rate` was last told of them, n; inf where nothing yet.
        whole: whether these are all there are.
        largest_cost: log10 of the largest cost so far, or of the space's limit.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], seed: int | None) -> None:
        self.distributions = dict(distributions)
        self.rng = np.random.default_rng(seed)
        self.points: list[Point] = []
        self.features = np.empty((0, 0))
        self.log_cost = np.empty(0)
        self.scores = np.empty(0)
        self.whole = False
        self.largest_cost = -math.inf

    @abc.abstractmethod
    def locate(self, values: Mapping[str, Any], skip: Collection[str] = ()) -> Point | None:
        """The point behind parameter values (more than the pool's own do no harm); None if there is none.

        Nor is there one, as soon as that is known, if its id is among those to skip.
        """

    @abc.abstractmethod
    def _all(self) -> Iterable[Point] | None:
        """Every point once; None if they are too many."""

    @abc.abstractmethod
    def _draw(self) -> dict[str, Any]:
        """Values at random, valid or not."""

    @abc.abstractmethod
    def _near(self, values: Mapping[str, Any], changes: int) -> dict[str, Any]:
        """Values next to these in `changes` parameters, valid or not."""

    @property
    def ids(self) -> list[str]:
        return [point.id for point in self.points]

    def unseen(self, ids: Collection[str]) -> np.ndarray:
        """Which points are not among the ids: a mask of n."""
        return np.array([point.id not in ids for point in self.points], dtype=bool)

    def rate(self, rows: np.ndarray, scores: np.ndarray) -> None:
        """Take note of how promising the points of these rows are."""
        self.scores[rows] = scores

    def refresh(self, parents: Sequence[Mapping[str, Any]] = (), seen: Collection[str] = ()) -> None:
        """Fill the pool at the first call; at the later ones, unless it holds all points, renew a part of it.

        Args:
            parents: values whose neighbours are to be looked at (those of the front).
            seen: ids that need not be looked at any more.
        """
        if not self.points:
            everything = self._all()
            self.whole = everything is not None
            tries = _TRIES_PER_CANDIDATE * _SIZE
            found = self._new((self._draw() for _ in range(tries)), _SIZE, ()) if everything is None else everything
            self._keep(np.arange(0), list(found))
        elif not self.whole:
            fresh = self._new(self._renewal(parents), _RENEWED, seen)
            order = np.lexsort((self.rng.random(len(self.points)), -self.scores, ~self.unseen(seen)))
            self._keep(np.sort(order[: max(_SIZE - len(fresh), 0)]), fresh)

    def look(self, seen: Collection[str], limit: int) -> np.ndarray:
        """Rows of at most `limit` unseen points: all, or else half of them the most promising and half at random."""
        rows = np.flatnonzero(self.unseen(seen))
        if len(rows) <= limit:
            return rows
        ranked = rows[np.lexsort((self.rng.random(len(rows)), -self.scores[rows]))]
        rest = self.rng.choice(ranked[limit // 2 :], limit - limit // 2, replace=False)
        return np.sort(np.concatenate([ranked[: limit // 2], rest]))

    def _renewal(self, parents: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
        """Values to renew the pool with: random ones and neighbours in turns."""
        rated = np.flatnonzero(np.isfinite(self.scores))
        best = rated[np.argsort(-self.scores[rated], kind="stable")[:_PARENTS]]
        parents = [*parents, *(self.points[row].values for row in best)]
        for turn in range(_RENEWED):
            if turn % 2 or not parents:
                yield self._draw()
            else:
                parent = parents[self.rng.integers(len(parents))]
                yield self._near(parent, int(self.rng.integers(1, 4)))

    def _new(self, draws: Iterable[Mapping[str, Any]], limit: int, seen: Collection[str]) -> list[Point]:
        """The points behind the draws that are valid, unseen and not in the pool yet; at most `limit`."""
        known = {point.id for point in self.points}.union(seen)
        found: list[Point] = []
        for values in draws:
            point = self.locate(values, known)
            if point is not None:
                known.add(point.id)
                found.append(point)
                if len(found) == limit:
                    break
        return found

    def _keep(self, rows: np.ndarray, fresh: list[Point]) -> None:
        """Of the points keep those rows, and add the fresh ones."""
        self.points = [self.points[row] for row in rows] + fresh
        if self.points:
            self.features = stacked(self.points)
        self.log_cost = np.array([point.log_cost for point in self.points])
        self.largest_cost = float(self.log_cost.max(initial=self.largest_cost))
        self.scores = np.concatenate([self.scores[rows], np.full(len(fresh), np.inf)])


class CandidatePool(Pool):
    """Points are the candidates of a search space; their cost is their weights.

    Args:
        space: decides what is valid and what is the same. A subclass whose `enumerate` is its own is believed to
            know its candidates: they are all of the pool.
        seed: of what is drawn.
    """

    def __init__(self, space: SearchSpace, seed: int | None = None) -> None:
        super().__init__({parameter.name: parameter.distribution for parameter in space.parameters}, seed)
        self.space = space
        if space.limits.max_weights is not None:
            self.largest_cost = math.log10(space.limits.max_weights)
        self._varied = {name: self.distributions[name] for name in space.searched_training_settings}

    def locate(self, values: Mapping[str, Any], skip: Collection[str] = ()) -> Point | None:
        if not self.distributions.keys() <= values.keys():
            return None
        try:
            candidate = self.space.candidate({name: values[name] for name in self.distributions})
        except ConfigError:
            return None
        return None if candidate.id in skip else self._point(candidate)

    def _point(self, candidate: Candidate) -> Point:
        features = architecture_features(candidate.architecture)
        if self._varied:
            features = np.concatenate([features, scaled(candidate.params, self._varied)])
        return Point(candidate.id, candidate.params, features, math.log10(candidate.weights))

    def _all(self) -> Iterable[Point] | None:
        points = self.space.effective_points()
        affordable = points is not None and points <= _ENUMERATED
        if affordable or type(self.space).enumerate is not SearchSpace.enumerate:
            return map(self._point, self.space.enumerate())
        return None

    def _draw(self) -> dict[str, Any]:
        return self.space.random_values(self.rng)

    def _near(self, values: Mapping[str, Any], changes: int) -> dict[str, Any]:
        return self.space.mutate(values, changes, self.rng)


class DistributionPool(Pool):
    """Points are combinations of the values of Optuna distributions, all valid.

    Args:
        distributions: name -> distribution.
        cost: values -> cost, greater than 0, known without evaluation.
        encode: values -> features; default `scaled`.
        seed: of what is drawn.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        cost: Callable[[dict[str, Any]], float],
        encode: Callable[[dict[str, Any]], np.ndarray] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(distributions, seed)
        self._cost = cost
        self._encode = encode
        self._parameters = [_parameter(name, distribution) for name, distribution in distributions.items()]

    def locate(self, values: Mapping[str, Any], skip: Collection[str] = ()) -> Point | None:
        """As for every pool.

        Raises:
            ValueError: a cost that is not greater than 0.
        """
        if not self.distributions.keys() <= values.keys():
            return None
        own = {name: values[name] for name in self.distributions}
        name = repr(list(own.values()))
        if name in skip:
            return None
        cost = float(self._cost(own))
        if not 0 < cost < math.inf:
            raise ValueError(f"the cost must be greater than 0 and finite, got {cost} for {own}")
        features = (
            scaled(own, self.distributions) if self._encode is None else np.asarray(self._encode(own), dtype=float)
        )
        return Point(name, own, features, math.log10(cost))

    def _all(self) -> Iterable[Point] | None:
        grids = [parameter.grid for parameter in self._parameters]
        if any(grid is None for grid in grids) or math.prod(map(len, grids)) > _ENUMERATED:
            return None
        combinations = itertools.product(*grids)
        return (self.locate(dict(zip(self.distributions, values, strict=True))) for values in combinations)

    def _draw(self) -> dict[str, Any]:
        return self._rounded({parameter.name: parameter.sample(self.rng) for parameter in self._parameters})

    def _near(self, values: Mapping[str, Any], changes: int) -> dict[str, Any]:
        moved = dict(values)
        for index in self.rng.permutation(len(self._parameters))[:changes]:
            parameter = self._parameters[index]
            moved[parameter.name] = parameter.neighbour(moved[parameter.name], self.rng)
        return self._rounded(moved)

    def _rounded(self, values: dict[str, Any]) -> dict[str, Any]:
        """Back on the grid, for integer ranges that are treated as continuous."""
        for parameter in self._parameters:
            d = self.distributions[parameter.name]
            if parameter.distribution is not d:
                values[parameter.name] = d.low + d.step * round((values[parameter.name] - d.low) / d.step)
        return values


def _parameter(name: str, distribution: BaseDistribution) -> Parameter:
    """What knows how to draw from a distribution, and from around a value."""
    if isinstance(distribution, IntDistribution) and (distribution.high - distribution.low) / distribution.step > _WIDE:
        distribution = FloatDistribution(distribution.low, distribution.high, log=distribution.log)
    return Parameter(name, distribution, {})


def scaled(values: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> np.ndarray:
    """Values as numbers: ranges scaled to 0..1, on a log scale if that is theirs, and choices one-hot."""
    numbers: list[float] = []
    for name, d in distributions.items():
        if isinstance(d, CategoricalDistribution):
            at = d.to_internal_repr(values[name])
            numbers.extend(float(index == at) for index in range(len(d.choices)))
        else:
            low, high, value = (math.log(v) if d.log else v for v in (d.low, d.high, values[name]))
            numbers.append((value - low) / (high - low) if high > low else 0.0)
    return np.array(numbers)
