"""Bounds of what any search on the shipped tables can reach, and why pausing has little to save there.

    python benchmarks/search/bounds.py

All accuracies are taken on the scale of the logarithm of the error.

- Oracles. The oracle knows the mean accuracy of every network. The informed oracle knows of each network only what the
  trainings of all *others* in the table say about it: it proposes by exact EHVI from a Gaussian process without that
  network's trainings. A search begins with much less. What is left to the informed oracle is the luck of the trainings
  that the mean accuracies consist of.
- What carries over from one table to the other: correlations of a table's accuracies with what the other table's model
  predicts of the same networks, and with what its own model predicts of each from all others. The networks that both
  tables hold show the same without any model. Each correlation is also given at equal weights, with a cubic in the
  logarithm of the weights taken out of both sides: a prior is not needed to know that more weights help, but which of
  two networks of equal weights stands on the front.
- What curves say: the standard deviation of the final accuracies around their predictions, from the model of all other
  networks alone, from the curve alone, and from both. If both together are no better than the model, an unfinished
  curve cannot tell which trial to pause.
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
from mgnas.search.samplers.features import FEATURES, added_features, architecture_features
from mgnas.search.samplers.gaussian_process import AccuracyModel
from mgnas.search.samplers.outcome_transforms import LogErrorTransform

_LOG_ERROR = LogErrorTransform()


@dataclass(frozen=True)
class LeaveOneOut:
    """What the trainings of all other networks say about each network of a table.

    Args:
        ids: of the networks, n.
        mean, std: of each one's accuracy, n each.
        row_mean: the mean for each row of the table.
        noise: standard deviation between seeds, as the model learned it.
    """

    ids: list[str]
    mean: np.ndarray
    std: np.ndarray
    row_mean: np.ndarray
    noise: float


def leave_one_out(table: TabularBenchmark) -> LeaveOneOut:
    """Fit a model to the whole table and take each network's own trainings out again."""
    x = np.array([_features(row.config) for row in table.rows])
    x = x[:, (np.arange(x.shape[1]) < len(FEATURES)) | (np.ptp(x, axis=0) > 0)]
    z = _LOG_ERROR.transform([row.curve[-1] for row in table.rows])
    posterior = AccuracyModel().fit(x, z, np.zeros(len(x)))
    ids = list(table.by_id)
    groups = np.array([ids.index(row.config.id) for row in table.rows])
    row_mean = posterior.leave_one_group_out(groups)
    precision, learned = torch.cholesky_inverse(posterior.factor).numpy(), posterior.hyperparameters
    std = []
    for group in range(len(ids)):
        rows = np.flatnonzero(groups == group)
        # The variance given all others is that block of the precision, inverted; the noise is not part of the accuracy.
        variance = np.linalg.inv(precision[np.ix_(rows, rows)])[0, 0] - learned.noise
        std.append(learned.y_std * np.sqrt(max(variance, 0.0)))
    first_rows = [int(np.flatnonzero(groups == group)[0]) for group in range(len(ids))]
    return LeaveOneOut(ids, row_mean[first_rows], np.array(std), row_mean, posterior.noise)


def informed_oracle(table: TabularBenchmark) -> list[int]:
    """Epochs until each share."""
    judge, known = HypervolumeScorer(table), leave_one_out(table)
    cost, accuracy = (np.array([judge.points[name][axis] for name in known.ids]) for axis in (0, 1))
    z = _LOG_ERROR.transform(accuracy)
    lowest = float(_LOG_ERROR.transform(judge.reference[1]))
    untrained, trained, epochs = list(range(len(known.ids))), [], []
    until = [until_share(share, table) for share in SHARES]
    while len(epochs) < len(SHARES):
        front = Front(cost[trained], z[trained], judge.reference[0], lowest, _LOG_ERROR.expected_improvement)
        gains = front.improvement(known.mean[untrained], known.std[untrained], cost[untrained])
        best = untrained.pop(int(np.argmax(gains)))
        trained.append(best)
        reached = sum([enough(known.ids[best]) for enough in until])
        epochs += [len(trained) * table.epochs] * (reached - len(epochs))
    return epochs


def curve_residuals(table: TabularBenchmark) -> list[tuple[int, float, float]]:
    """(epoch, residual standard deviation of curve and model together, the same of the curve alone), by epoch.

    The entry of epoch 0 is (0, the same of the model alone, standard deviation between seeds).
    """
    curves = _LOG_ERROR.transform([row.curve for row in table.rows])
    model, end = leave_one_out(table).row_mean, curves[:, -1]
    one = np.ones(len(end))
    finals = [_LOG_ERROR.transform([row.curve[-1] for row in rows]) for rows in table.by_id.values()]
    between_seeds = float(np.sqrt(np.mean([values.var(ddof=1) for values in finals if len(values) > 1])))
    residuals = [(0, _residual(np.column_stack([one, model]), end), between_seeds)]
    for epoch in range(1, table.epochs):
        curve = np.column_stack([one, curves[:, epoch - 1], curves[:, :epoch].mean(axis=1)])
        residuals.append((epoch, _residual(np.column_stack([curve, model]), end), _residual(curve, end)))
    return residuals


def carried_over(table: TabularBenchmark, other: str) -> list[tuple[str, int, float, float]]:
    """(what is compared with this table's accuracies, networks, correlation, the same at equal weights)."""
    known, judge = leave_one_out(table), HypervolumeScorer(table)
    configs = [table.by_id[name][0].config for name in known.ids]
    cost, accuracy = np.array([judge.points[name] for name in known.ids]).T
    own = _LOG_ERROR.transform(accuracy)
    prior = TaskEvaluations.load(other).prior()
    elsewhere = _accuracy_by_key(TabularBenchmark.load(shipped_tables()[other]))
    keys = [_key(config) for config in configs]
    in_both = [row for row, key in enumerate(keys) if key in elsewhere]
    others = _LOG_ERROR.transform([elsewhere[keys[row]] for row in in_both])
    compared = [
        (f"the model of {other}", own, _LOG_ERROR.transform(prior.mean(configs)), cost),
        ("its own model of all others", own, known.mean, cost),
        (f"the accuracies on {other}", own[in_both], others, cost[in_both]),
    ]
    return [(name, len(y), _correlation(x, y), _correlation(x, y, w)) for name, y, x, w in compared]


def _accuracy_by_key(table: TabularBenchmark) -> dict[tuple, float]:
    accuracies = table.mean_accuracies()
    return {_key(rows[0].config): accuracies[name] for name, rows in table.by_id.items()}


def _key(config: ArchitectureConfig) -> tuple[float, ...]:
    """Equal for networks that differ in nothing but classes and input channels."""
    return tuple(_features(config).round(6))


def _features(config: ArchitectureConfig) -> np.ndarray:
    return np.concatenate([architecture_features(config), added_features(config)])


def _correlation(x: np.ndarray, y: np.ndarray, log_weights: np.ndarray | None = None) -> float:
    if log_weights is not None:
        x, y = (values - np.polyval(np.polyfit(log_weights, values, 3), log_weights) for values in (x, y))
    return float(np.corrcoef(x, y)[0, 1])


def _residual(x: np.ndarray, y: np.ndarray) -> float:
    """Standard deviation of what a least squares fit of y by the columns of x leaves."""
    return float((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]).std())


def main() -> None:
    torch.set_num_threads(1)
    for name, path in shipped_tables().items():
        table = TabularBenchmark.load(path)
        oracle = HypervolumeScorer(table).oracle()
        bounds = ", ".join(f"{100 * share:g} %: {oracle.epochs_until(share)}" for share in SHARES)
        informed = ", ".join(f"{100 * s:g} %: {n}" for s, n in zip(SHARES, informed_oracle(table), strict=True))
        print(f"{name}\n  oracle, epochs until {bounds}\n  informed oracle, epochs until {informed}")
        other = next(other for other in shipped_tables() if other != name)
        print("  accuracies correlate (at equal weights) with")
        for compared, networks, whole, equal in carried_over(table, other):
            print(f"    {compared}: {whole:.2f} ({equal:.2f}), {networks} networks")
        (_, alone, seeds), *after = curve_residuals(table)
        print(
            f"  model of all others: {alone:.3f}; between seeds {seeds:.3f}; after epoch: with the curve (curve alone)"
        )
        print("  " + "  ".join(f"{epoch}: {both:.3f} ({curve:.3f})" for epoch, both, curve in after))


if __name__ == "__main__":
    main()
