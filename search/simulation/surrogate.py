"""A table of every architecture of a space, most of them with accuracies that a model predicts.

For tests at scale. A result on it is only as good as the model: name it a surrogate wherever a result is shown.
"""

from __future__ import annotations

import numpy as np

from mgnas.errors import UserError

from ...space.candidate import Candidate
from ...space.search_space import ENUMERABLE
from ..history.table import TableRow, TabularBenchmark
from ..samplers.features import architecture_features
from ..samplers.transfer_prior import TransferPrior

_TRAININGS = 3
"""Trainings of each predicted architecture: a search sees one of them, the truth is their mean."""


def surrogate_table(table: TabularBenchmark, seed: int = 0) -> TabularBenchmark:
    """The table, extended to its whole space by a Gaussian process fitted to it.

    Trainings of the table are kept. Every other architecture gets three trainings. Their final accuracies are the
    model's mean plus noise with the table's standard deviation between seeds; without noise if no architecture was
    trained twice. Curve and seconds are those of the nearest trained architecture, by features; the curve is scaled to
    end at the final accuracy.

    Args:
        table: trained architectures.
        seed: of the noise.

    Raises:
        UserError: the space is too large to be enumerated, or the table too small for a model.
    """
    space = table.whole_space()
    if not space.enumerable:
        raise UserError(f"{table.name}: a surrogate needs a space of at most {ENUMERABLE:,} effective points")
    missing = [candidate for candidate in space.enumerate() if candidate.id not in table.by_id]
    rows = list(table.rows)
    if missing:
        configs = [row.config for row in table.rows]
        prior = TransferPrior.from_accuracies(configs, [row.curve[-1] for row in table.rows])
        means = prior.mean([candidate.architecture for candidate in missing])
        trained = [rows_of_one[0] for rows_of_one in table.by_id.values()]
        features = np.array([architecture_features(row.config) for row in trained])
        noise, rng = seed_noise(table), np.random.default_rng(seed)
        for candidate, mean in zip(missing, means, strict=True):
            distances = np.linalg.norm(features - architecture_features(candidate.architecture), axis=1)
            nearest = trained[int(np.argmin(distances))]
            for number in range(_TRAININGS):
                rows.append(_predicted(candidate, nearest, float(mean + noise * rng.normal()), number))
    meta = dict(table.meta) | {"name": f"{table.name}-surrogate", "surrogate": True}
    return TabularBenchmark(meta, tuple(rows))


def seed_noise(table: TabularBenchmark) -> float:
    """Standard deviation of final accuracies between the seeds of an architecture, pooled; 0 if none has several."""
    finals = [np.array([row.curve[-1] for row in rows]) for rows in table.by_id.values() if len(rows) > 1]
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in finals)
    freedom = sum(len(values) - 1 for values in finals)
    return float(np.sqrt(squares / freedom)) if freedom else 0.0


def _predicted(candidate: Candidate, nearest: TableRow, final: float, seed: int) -> TableRow:
    """A training of the candidate that ends at `final`."""
    final = min(max(final, 0.0), 1.0)
    scale = final / nearest.curve[-1] if nearest.curve[-1] else 1.0
    curve = (*(round(min(value * scale, 1.0), 6) for value in nearest.curve[:-1]), round(final, 6))
    return TableRow(candidate.architecture, candidate.weights, seed, curve, nearest.seconds)
