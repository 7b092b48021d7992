"""The initial design: candidates of all costs that differ from each other."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from .candidate_pool import Point, Pool, stacked
from .study_snapshot import StudySnapshot

_BAND = 0.02
"""Share of the candidates, those nearest to a wanted cost, that some are drawn from."""
_MIN_BAND = 5
"""The band has at least this number of candidates."""
_DRAWN = 10
"""Number drawn from the band; the one most different from all trials so far is taken."""


def initial_design(pool: Pool, snapshot: StudySnapshot, shift: float, rng: np.random.Generator) -> Point | None:
    """The next unseen point of the design; None if there is none.

    The wanted costs are quasi-random (van der Corput's sequence). Of some random points near the wanted cost the one
    most different from all trials so far is taken (Mitchell 1991, best-candidate sampling); the most different of all
    points would always be a corner of the space.

    Args:
        pool: the points, seen and unseen.
        snapshot: the trials so far.
        shift: 0 to 1, added to the sequence modulo 1.
        rng: draws.
    """
    rows = np.flatnonzero(pool.unseen(snapshot.seen))
    if not len(rows):
        pool.refresh((), snapshot.seen)
        rows = np.flatnonzero(pool.unseen(snapshot.seen))
    if not len(rows):
        return None
    costs = pool.log_cost[rows]
    wanted_share = (_van_der_corput(snapshot.started) + shift) % 1
    distance = np.abs(costs - (costs.min() + wanted_share * (costs.max() - costs.min())))
    band = rows[np.argsort(distance, kind="stable")[: max(round(_BAND * len(rows)), _MIN_BAND)]]
    drawn = rng.choice(band, min(_DRAWN, len(band)), replace=False)
    if not snapshot.points:
        return pool.points[drawn[0]]
    to_nearest = cdist(pool.features[drawn], stacked(snapshot.points)).min(axis=1)
    return pool.points[drawn[np.argmax(to_nearest)]]


def _van_der_corput(index: int) -> float:
    """0, 1/2, 1/4, 3/4, 1/8, ...: the binary digits of the index, mirrored at the binary point."""
    return int(f"{index:b}"[::-1], 2) / 2 ** index.bit_length()
