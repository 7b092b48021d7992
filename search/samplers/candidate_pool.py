"""The candidates that a model-based sampler looks at, kept as arrays from one ask to the next.

A small space is looked at whole. Of a large one about two thousand random candidates are kept; at each ask the least
promising part of them makes way for new random ones and for neighbours of the front and of the most promising. Then
the neighbours of the most promising are looked at in several rounds, as a local search does.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mgnas.errors import ConfigError

from ...space.candidate import Candidate
from ...space.enumeration import Networks, distinct_networks
from ...space.parameter import Distribution, Parameter
from ...space.search_space import SearchSpace
from .features import (
    ADDED_FEATURES,
    added_features,
    added_features_of_batch,
    architecture_features,
    features_of_batch,
)

_SIZE = 2_000
"""Candidates kept of a large space; drawing them takes about a second."""
_TRIES_PER_CANDIDATE = 2
"""Random points tried for each candidate, valid or not. Bounds the time if most points are invalid."""
_RENEWED = 200
"""Candidates replaced at each ask; takes about 0.05 s."""
_PARENTS = 20
"""Most promising candidates whose neighbours are looked at, besides the front's."""
_CLIMBED = 100
"""Neighbours looked at in a round of the local search."""
_MAX_ENUMERATED = 30_000
"""Spaces of at most this number of effective points are looked at whole, which takes some seconds once."""
_MAX_AS_ARRAYS = 300_000
"""The same for spaces whose networks are made as arrays."""
_MAX_INTEGERS = 1_000
"""Integer ranges of more points are treated as continuous ones, rounded."""


class Point(NamedTuple):
    """A candidate as the sampler sees it.

    Args:
        id: equal for equal candidates.
        params: values of the study's parameters.
        features: the model's input, d values about 0..1.
        log_cost: log10 of the cost (weights).
    """

    id: str
    params: dict[str, Any]
    features: np.ndarray
    log_cost: float


def stacked(points: Sequence[Point]) -> np.ndarray:
    """The features of n points, n x d; n >= 1."""
    return np.stack([point.features for point in points])


def costs(points: Sequence[Point]) -> np.ndarray:
    """log10 of the cost of n points, n."""
    return np.array([point.log_cost for point in points])


class Pool(abc.ABC):
    """Points to choose among. `refresh` fills the arrays, which are empty before.

    Args:
        distributions: the study's parameters.
        seed: of the random draws.

    Attributes:
        points: n points with distinct ids; `features` (n x d) and `log_cost` (n) are theirs.
        scores: the last score that `rate` was given for each point, n; inf for a point without one.
        added: names of the features of `ADDED_FEATURES` that the points have, after those of `FEATURES`.
        whole: whether the pool holds every point of the space.
        largest_cost: log10 of the largest cost so far, or of the space's limit.
    """

    added: tuple[str, ...] = ()

    def __init__(self, distributions: Mapping[str, Distribution], seed: int | None) -> None:
        self.distributions = dict(distributions)
        self.rng = np.random.default_rng(seed)
        self.points: list[Point] = []
        self.features = np.empty((0, 0))
        self.log_cost = np.empty(0)
        self.scores = np.empty(0)
        self.whole = False
        self.largest_cost = -math.inf

    @abc.abstractmethod
    def locate(self, params: Mapping[str, Any], skip: Collection[str] = ()) -> Point | None:
        """The point of these parameters; None if they are incomplete, invalid, or their id is one to skip.

        Args:
            params: values of the pool's parameters; further ones are ignored.
            skip: ids that are not wanted, so that their features need not be computed.
        """

    @abc.abstractmethod
    def _all(self) -> Iterable[Point] | None:
        """Every point once; None if there are too many."""

    @abc.abstractmethod
    def _draw(self) -> dict[str, Any]:
        """Random parameters, valid or not."""

    @abc.abstractmethod
    def _near(self, params: Mapping[str, Any], changes: int) -> dict[str, Any]:
        """These parameters with `changes` of them moved to a neighbouring value, valid or not."""

    @property
    def ids(self) -> list[str]:
        return [point.id for point in self.points]

    def unseen(self, ids: Collection[str]) -> np.ndarray:
        """Which points are not among the ids: a mask of n."""
        return np.array([point.id not in ids for point in self.points], dtype=bool)

    def rate(self, rows: np.ndarray, scores: np.ndarray) -> None:
        """Remember how promising the points of these rows are."""
        self.scores[rows] = scores

    def refresh(self, parents: Sequence[Mapping[str, Any]] = (), seen: Collection[str] = ()) -> None:
        """Fill the pool at the first call. At later ones renew a part of it, unless it holds all points.

        Args:
            parents: parameters (those of the front) whose neighbours are to be looked at.
            seen: ids that need not be looked at any more.
        """
        if not self.points:
            all_points = self._all()
            self.whole = all_points is not None
            if all_points is None:
                all_points = self._new((self._draw() for _ in range(_TRIES_PER_CANDIDATE * _SIZE)), _SIZE, ())
            self._keep(np.arange(0), list(all_points))
        elif not self.whole:
            fresh = self._new(self._renewal(parents), _RENEWED, seen)
            order = np.lexsort((self.rng.random(len(self.points)), -self.scores, ~self.unseen(seen)))
            self._keep(np.sort(order[: max(_SIZE - len(fresh), 0)]), fresh)

    def climb(self, seen: Collection[str]) -> np.ndarray:
        """Add neighbours of the most promising points, which `rate` has told. They stay until the next `refresh`.

        Returns:
            their rows; none if the pool holds all points, or if none was rated.
        """
        size, parents = len(self.points), self._most_promising()
        if parents and not self.whole:
            chosen = self.rng.integers(len(parents), size=_CLIMBED)
            near = (self._near(parents[row], int(self.rng.integers(1, 3))) for row in chosen)
            self._keep(np.arange(size), self._new(near, _CLIMBED, seen))
        return np.arange(size, len(self.points))

    def look(self, seen: Collection[str], limit: int) -> np.ndarray:
        """Rows of at most `limit` unseen points: all of them, or the most promising ones and as many random ones."""
        rows = np.flatnonzero(self.unseen(seen))
        if len(rows) <= limit:
            return rows
        ranked = rows[np.lexsort((self.rng.random(len(rows)), -self.scores[rows]))]
        others = self.rng.choice(ranked[limit // 2 :], limit - limit // 2, replace=False)
        return np.sort(np.concatenate([ranked[: limit // 2], others]))

    def _renewal(self, parents: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
        """Parameters to renew the pool with: neighbours and random ones in turn."""
        parents = [*parents, *self._most_promising()]
        for turn in range(_RENEWED):
            if turn % 2 or not parents:
                yield self._draw()
            else:
                parent = parents[self.rng.integers(len(parents))]
                yield self._near(parent, int(self.rng.integers(1, 4)))

    def _most_promising(self) -> list[dict[str, Any]]:
        """Parameters of the points with the highest scores."""
        rated = np.flatnonzero(np.isfinite(self.scores))
        best = rated[np.argsort(-self.scores[rated], kind="stable")[:_PARENTS]]
        return [self.points[row].params for row in best]

    def _new(self, draws: Iterable[Mapping[str, Any]], limit: int, seen: Collection[str]) -> list[Point]:
        """The points of those draws that are valid, unseen and not in the pool yet; at most `limit`."""
        known_ids = {point.id for point in self.points}.union(seen)
        new: list[Point] = []
        for params in draws:
            point = self.locate(params, known_ids)
            if point is not None:
                known_ids.add(point.id)
                new.append(point)
                if len(new) == limit:
                    break
        return new

    def _keep(self, rows: np.ndarray, fresh: list[Point]) -> None:
        """Keep the points of those rows, drop the others, add the fresh ones."""
        self.points = [self.points[row] for row in rows] + fresh
        if self.points:
            self.features = stacked(self.points)
        self.log_cost = costs(self.points)
        self.largest_cost = float(self.log_cost.max(initial=self.largest_cost))
        self.scores = np.concatenate([self.scores[rows], np.full(len(fresh), np.inf)])


class CandidatePool(Pool):
    """Points are the candidates of a search space; their cost is their weights.

    Args:
        space: decides what is valid and what is the same. The candidates of a subclass with an `enumerate` of its own
            are looked at whole, however many they are.
        seed: of the random draws.
    """

    def __init__(self, space: SearchSpace, seed: int | None = None) -> None:
        super().__init__({parameter.name: parameter.distribution for parameter in space.parameters}, seed)
        self.space = space
        if space.limits.max_weights is not None:
            self.largest_cost = math.log10(space.limits.max_weights)
        self._searched_settings = {name: self.distributions[name] for name in space.searched_training_settings}
        self._added = [index for index, name in enumerate(ADDED_FEATURES.values()) if name in self.distributions]
        self.added = tuple(list(ADDED_FEATURES)[index] for index in self._added)

    def locate(self, params: Mapping[str, Any], skip: Collection[str] = ()) -> Point | None:
        if not self.distributions.keys() <= params.keys():
            return None
        try:
            candidate = self.space.candidate({name: params[name] for name in self.distributions})
        except ConfigError:
            return None
        return None if candidate.id in skip else self._point(candidate)

    def _point(self, candidate: Candidate) -> Point:
        features = architecture_features(candidate.architecture)
        if self._added:
            features = np.concatenate([features, added_features(candidate.architecture)[self._added]])
        if self._searched_settings:
            features = np.concatenate([features, scaled(candidate.params, self._searched_settings)])
        return Point(candidate.id, candidate.params, features, math.log10(candidate.weights))

    def _all(self) -> Iterable[Point] | None:
        if type(self.space).enumerate is not SearchSpace.enumerate:
            return map(self._point, self.space.enumerate())
        count = self.space.effective_points()
        if count is None or count > _MAX_AS_ARRAYS:
            return None
        networks = distinct_networks(self.space)
        if networks is not None:
            return self._points(networks)
        return map(self._point, self.space.enumerate()) if count <= _MAX_ENUMERATED else None

    def _points(self, networks: Sequence[Networks]) -> list[Point]:
        """The points of networks in the order of `SearchSpace.enumerate`."""
        points: list[tuple[int, Point]] = []
        for own in networks:
            features = features_of_batch(own.batch)
            if self._added:
                features = np.concatenate([features, added_features_of_batch(own.batch)[:, self._added]], axis=1)
            made = map(Point, own.batch.ids(), own.params, features, map(math.log10, own.weights.tolist()))
            points += zip(own.order.tolist(), made, strict=True)
        return [point for _, point in sorted(points, key=lambda pair: pair[0])]

    def _draw(self) -> dict[str, Any]:
        return self.space.random_values(self.rng)

    def _near(self, params: Mapping[str, Any], changes: int) -> dict[str, Any]:
        return self.space.mutate(params, changes, self.rng)


class DistributionPool(Pool):
    """Points are combinations of values of Optuna distributions, all of them valid.

    Args:
        distributions: name -> distribution.
        cost: parameters -> cost, greater than 0, known without evaluation.
        encode: parameters -> features, d; default `scaled`.
        seed: of the random draws.
    """

    def __init__(
        self,
        distributions: Mapping[str, Distribution],
        cost: Callable[[dict[str, Any]], float],
        encode: Callable[[dict[str, Any]], np.ndarray] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(distributions, seed)
        self._cost = cost
        self._encode = encode
        self._parameters = [_parameter(name, distribution) for name, distribution in distributions.items()]

    def locate(self, params: Mapping[str, Any], skip: Collection[str] = ()) -> Point | None:
        """As for every pool.

        Raises:
            ValueError: a cost that is not greater than 0 and finite.
        """
        if not self.distributions.keys() <= params.keys():
            return None
        own = {name: params[name] for name in self.distributions}
        point_id = repr(list(own.values()))
        return None if point_id in skip else self._point(point_id, own)

    def _point(self, point_id: str, params: dict[str, Any]) -> Point:
        cost = float(self._cost(params))
        if not 0 < cost < math.inf:
            raise ValueError(f"the cost must be greater than 0 and finite, got {cost} for {params}")
        if self._encode is None:
            features = scaled(params, self.distributions)
        else:
            features = np.asarray(self._encode(params), dtype=float)
        return Point(point_id, params, features, math.log10(cost))

    def _all(self) -> Iterable[Point] | None:
        grids = [parameter.grid for parameter in self._parameters]
        finite = [grid for grid in grids if grid is not None]
        if len(finite) < len(grids) or math.prod(map(len, finite)) > _MAX_ENUMERATED:
            return None
        return (
            self._point(repr(list(values)), dict(zip(self.distributions, values, strict=True)))
            for values in itertools.product(*finite)
        )

    def _draw(self) -> dict[str, Any]:
        return self._rounded({parameter.name: parameter.sample(self.rng) for parameter in self._parameters})

    def _near(self, params: Mapping[str, Any], changes: int) -> dict[str, Any]:
        moved = dict(params)
        for index in self.rng.permutation(len(self._parameters))[:changes]:
            parameter = self._parameters[index]
            moved[parameter.name] = parameter.neighbour(moved[parameter.name], self.rng)
        return self._rounded(moved)

    def _rounded(self, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters with integers that are treated as continuous moved back onto their grid."""
        for parameter in self._parameters:
            d = self.distributions[parameter.name]
            if isinstance(d, IntDistribution) and parameter.distribution is not d:
                params[parameter.name] = d.low + d.step * round((params[parameter.name] - d.low) / d.step)
        return params


def _parameter(name: str, d: Distribution) -> Parameter:
    """What draws from a distribution, and from around a value."""
    if isinstance(d, IntDistribution) and (d.high - d.low) / d.step > _MAX_INTEGERS:
        d = FloatDistribution(d.low, d.high, log=d.log)
    return Parameter(name, d, {})


def scaled(params: Mapping[str, Any], distributions: Mapping[str, Distribution]) -> np.ndarray:
    """Parameters as features: ranges scaled to 0..1, on a log scale if that is theirs; choices one-hot."""
    numbers: list[float] = []
    for name, d in distributions.items():
        if isinstance(d, CategoricalDistribution):
            choice = d.to_internal_repr(params[name])
            numbers.extend(float(index == choice) for index in range(len(d.choices)))
        else:
            low, high, value = (math.log(v) if d.log else v for v in (d.low, d.high, params[name]))
            numbers.append((value - low) / (high - low) if high > low else 0.0)
    return np.array(numbers)
