"""What no search on the shipped tables can do better, and why pausing has little to save there.

    python benchmarks/search/bounds.py

- The oracle knows the truth of every network. The informed oracle knows of each network only what the trainings of all
  *others* in the table say about it: it proposes by exact EHVI from this Gaussian process without that network's
  trainings. A search begins with much less; what remains is the luck of the trainings that the truth consists of.
- What carries over: correlations of the accuracies, on the scale of the logarithm of the error, with what the other
  table's model predicts of the same networks, and with what this table's own model says of each from all others; both
  also at equal weights, with a cubic in the logarithm of the weights taken out of either side. At equal weights it is
  decided who stands on the front; that more weights help needs no prior. The networks that both tables hold show the
  same without any model.
- Evidence of curves: the standard deviation of the final accuracies around what is predicted, on the scale of the
  logarithm of the error, from the model of all other networks alone, from the curve alone, and from both. Where both
  together are no better than the model, an unfinished curve cannot tell which trial to pause.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mgnas.models.config import ArchitectureConfig
from mgnas.reports.simulation.efficiency import SHARES
from mgnas.reports.simulation.scoring import HypervolumeScorer, until_share
from mgnas.search.history.past_trainings import TaskEvaluations, shipped_tables
from mgnas.search.history.table import TabularBenchmark
from mgnas.search.samplers.acquisition import Front
from mgnas.search.samplers.features import architecture_features
from mgnas.search.samplers.gaussian_process import AccuracyModel
from mgnas.search.samplers.outcome_transforms import LogErrorTransform

_SCALE = LogErrorTransform()


@dataclass(frozen=True)
class LeftOut:
    """What the trainings of all other networks say about each of a table.

    Args:
        ids: of the networks, n.
        mean, std: of each one's accuracy on the model's scale, n.
        of_row: the mean for each row of the table.
        noise: between seeds, as the model learned it.
    """

    ids: list[str]
    mean: np.ndarray
    std: np.ndarray
    of_row: np.ndarray
    noise: float


def left_out(table: TabularBenchmark) -> LeftOut:
    """Fit a model to the whole table and take each network's own trainings out again."""
    x = np.array([architecture_features(row.config) for row in table.rows])
    model = AccuracyModel()
    model.fit(x, _SCALE.transform(np.array([row.curve[-1] for row in table.rows])), np.zeros(len(x)))
    ids = list(table.by_id)
    groups = np.array([ids.index(row.config.id) for row in table.rows])
    of_row = model.leave_one_group_out(groups)
    precision, learned = torch.cholesky_inverse(model._factor).numpy(), model.hyperparameters
    std = []
    for group in range(len(ids)):
        rows = np.flatnonzero(groups == group)
        # The variance given all others is that block of the precision, inverted; the noise is not part of the accuracy.
        variance = np.linalg.inv(precision[np.ix_(rows, rows)])[0, 0] - learned.noise
        std.append(learned.y_std * np.sqrt(max(variance, 0.0)))
    first = [int(np.flatnonzero(groups == group)[0]) for group in range(len(ids))]
    return LeftOut(ids, of_row[first], np.array(std), of_row, model.noise)


def informed_oracle(table: TabularBenchmark) -> list[int]:
    """Epochs until each share."""
    judge, known = HypervolumeScorer(table), left_out(table)
    cost, accuracy = (np.array([judge.points[name][axis] for name in known.ids]) for axis in (0, 1))
    reached = _SCALE.transform(accuracy)
    lowest = float(_SCALE.transform(judge.reference[1]))
    left, done, found = list(range(len(known.ids))), [], []
    waiting = [until_share(share, table) for share in SHARES]
    while len(found) < len(SHARES):
        front = Front(cost[done], reached[done], judge.reference[0], lowest, _SCALE.improvement)
        best = left[int(np.argmax(front.improvement(known.mean[left], known.std[left], cost[left])))]
        left.remove(best)
        done.append(best)
        arrived = [enough(known.ids[best]) for enough in waiting]
        found += [len(done) * table.epochs] * (sum(arrived) - len(found))
    return found


def evidence(table: TabularBenchmark) -> list[tuple[int, float, float]]:
    """After each epoch: residual standard deviation of curve and model together, and of the curve alone.

    The model alone stands at epoch 0, with the seeds' standard deviation in the last place.
    """
    curves = _SCALE.transform(np.array([row.curve for row in table.rows]))
    model, end = left_out(table).of_row, curves[:, -1]
    one = np.ones(len(end))
    finals = [_SCALE.transform(np.array([row.curve[-1] for row in rows])) for rows in table.by_id.values()]
    seeds = float(np.sqrt(np.mean([values.var(ddof=1) for values in finals if len(values) > 1])))
    found = [(0, _residual(np.column_stack([one, model]), end), seeds)]
    for epoch in range(1, table.epochs):
        curve = np.column_stack([one, curves[:, epoch - 1], curves[:, :epoch].mean(axis=1)])
        found.append((epoch, _residual(np.column_stack([curve, model]), end), _residual(curve, end)))
    return found


def carried_over(table: TabularBenchmark, other: str) -> list[tuple[str, int, float, float]]:
    """(what is compared with this table's accuracies, networks, correlation, the same at equal weights)."""
    known, judge = left_out(table), HypervolumeScorer(table)
    configs = [table.by_id[name][0].config for name in known.ids]
    cost, accuracy = np.array([judge.points[name] for name in known.ids]).T
    truth = _SCALE.transform(accuracy)
    prior = TaskEvaluations.load(other).prior()
    elsewhere = _by_features(TabularBenchmark.load(shipped_tables()[other]))
    features = [_key(config) for config in configs]
    both = [row for row, name in enumerate(features) if name in elsewhere]
    there = _SCALE.transform(np.array([elsewhere[features[row]] for row in both]))
    compared = [
        (f"the model of {other}", truth, _SCALE.transform(prior.mean(configs)), cost),
        ("its own model of all others", truth, known.mean, cost),
        (f"the accuracies on {other}", truth[both], there, cost[both]),
    ]
    return [(name, len(y), _correlation(x, y), _correlation(x, y, w)) for name, y, x, w in compared]


def _by_features(table: TabularBenchmark) -> dict[tuple, float]:
    """Accuracies by `_key`."""
    truth = table.mean_accuracies()
    return {_key(rows[0].config): truth[name] for name, rows in table.by_id.items()}


def _key(config: ArchitectureConfig) -> tuple[float, ...]:
    """Equal for networks that differ in nothing but classes and input channels."""
    return tuple(architecture_features(config).round(6))


def _correlation(x: np.ndarray, y: np.ndarray, log_weights: np.ndarray | None = None) -> float:
    if log_weights is not None:
        x, y = (values - np.polyval(np.polyfit(log_weights, values, 3), log_weights) for values in (x, y))
    return float(np.corrcoef(x, y)[0, 1])


def _residual(x: np.ndarray, y: np.ndarray) -> float:
    """Of the least squares fit."""
    return float((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]).std())


def main() -> None:
    torch.set_num_threads(1)
    for name, path in shipped_tables().items():
        table = TabularBenchmark.load(path)
        oracle = HypervolumeScorer(table).oracle()
        bounds = ", ".join(f"{100 * share:g} %: {oracle.epochs_until(share)}" for share in SHARES)
        informed = ", ".join(f"{100 * s:g} %: {n}" for s, n in zip(SHARES, informed_oracle(table), strict=True))
        print(f"{name}\n  oracle, epochs until {bounds}\n  informed oracle, epochs until {informed}")
        other = next(others for others in shipped_tables() if others != name)
        print("  accuracies correlate (at equal weights) with")
        for compared, networks, whole, equal in carried_over(table, other):
            print(f"    {compared}: {whole:.2f} ({equal:.2f}), {networks} networks")
        (_, alone, seeds), *after = evidence(table)
        print(
            f"  model of all others: {alone:.3f}; between seeds {seeds:.3f}; after epoch: with the curve (curve alone)"
        )
        print("  " + "  ".join(f"{epoch}: {both:.3f} ({curve:.3f})" for epoch, both, curve in after))


if __name__ == "__main__":
    main()
