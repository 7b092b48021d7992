"""The initial design: a random candidate, then candidates of all costs that differ from each other."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from .candidate_pool import Point, Pool, stacked
from .study_snapshot import StudySnapshot

_BAND = 0.02
"""Share of the candidates, those nearest to a wanted cost, that some are drawn from."""
_MIN_BAND = 5
"""The band has at least this number of candidates."""
_DRAWN = 3
"""Number drawn from the band; the one most different from all trials so far is taken."""
_NARROW = 1e-9
"""Costs that span less than this are equal."""


def initial_design(pool: Pool, snapshot: StudySnapshot, rng: np.random.Generator) -> Point | None:
    """The next unseen point of the design; None if there is none.

    The first point is a random one, so the start is as good as a random one where networks are alike. The wanted costs
    of the others are quasi-random (van der Corput's sequence), counted from the cost of the first. Of some random
    points near the wanted cost the one most different from all trials so far is taken (Mitchell 1991, best-candidate
    sampling); the most different of all points would always be a corner of the space.

    Args:
        pool: the points, seen and unseen.
        snapshot: the trials so far.
        rng: draws.
    """
    rows = np.flatnonzero(pool.unseen(snapshot.seen))
    if not len(rows):
        pool.refresh((), snapshot.seen)
        rows = np.flatnonzero(pool.unseen(snapshot.seen))
    if not len(rows):
        return None
    if snapshot.first is None:
        return pool.points[rng.choice(rows)]
    low, high = pool.log_cost.min(), pool.log_cost.max()
    wanted_share = (_van_der_corput(snapshot.started) + (snapshot.first.log_cost - low) / max(high - low, _NARROW)) % 1
    distance = np.abs(pool.log_cost[rows] - (low + wanted_share * (high - low)))
    # NOTE: Of points of equal cost all belong to the band: the first ones of a grid have much in common.
    farthest = np.sort(distance)[: max(round(_BAND * len(rows)), _MIN_BAND)][-1]
    band = rows[distance <= farthest]
    drawn = rng.choice(band, min(_DRAWN, len(band)), replace=False)
    to_nearest = cdist(pool.features[drawn], stacked(snapshot.points or [snapshot.first])).min(axis=1)
    return pool.points[drawn[np.argmax(to_nearest)]]


def _van_der_corput(index: int) -> float:
    """0, 1/2, 1/4, 3/4, 1/8, ...: the binary digits of the index, mirrored at the binary point."""
    return int(f"{index:b}"[::-1], 2) / 2 ** index.bit_length()
