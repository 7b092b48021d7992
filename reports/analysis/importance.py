"""What matters at equal weights.

Bigger networks are better, so the raw importance of every setting is mostly its effect on the weights. Here the trend
of accuracy with weights is taken off first: z = -log(error) is fitted by a quadratic in log weights, and what is left
of an accuracy is how much better the network is than others of its weights. Permutation importance of a random forest
on held-out trials (Breiman 2001; forest, shuffles and folds are scikit-learn's) says how much each setting explains of
it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...search.samplers.outcome_transforms import LogErrorTransform
from ...search.trial_record import TrialRecord
from ...space.parameter import Parameter
from .pareto import complete

LEAST_TRIALS = 20
"""Complete trials below which nothing is said."""

_TREES, _FOLDS, _REPEATS = 100, 5, 5


@dataclass(frozen=True)
class Importance:
    """How much the settings explain of the differences at equal weights.

    Args:
        names: of the searched settings, most important first.
        values: loss of R^2 on held-out trials when a setting's values are shuffled, one for each name.
        errors: their standard deviations over shuffles.
        explained: R^2 on held-out trials with all settings in place; near 0 or below, nothing of this means anything.
        trials: complete trials that it was learned from.
    """

    names: list[str]
    values: list[float]
    errors: list[float]
    explained: float
    trials: int


def residuals(records: Sequence[TrialRecord]) -> np.ndarray:
    """How much better each complete trial is than its weights let expect, in points (per cent) of accuracy: n.

    The trend is a quadratic in log weights on the scale of -log(error), which outliers bend little.
    """
    finished = complete(records)
    scale = LogErrorTransform()
    accuracy = np.array([record.accuracy for record in finished])
    weights = np.log10([record.weights for record in finished])
    z = scale.transform(accuracy)
    degree = min(2, len(np.unique(weights)) - 1)
    expected = np.polyval(np.polyfit(weights - weights.mean(), z, degree), weights - weights.mean())
    return 100 * (accuracy - scale.untransform(expected))


def importance(records: Sequence[TrialRecord], parameters: Sequence[Parameter]) -> Importance | None:
    """The importance of each searched setting at equal weights; None of fewer than 20 complete trials.

    A setting that has no effect on a trial's network (group size on an MgNet) counts as a value of its own there.
    """
    finished = complete(records)
    if len(finished) < LEAST_TRIALS:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    x = np.column_stack([encoded(finished, parameter) for parameter in parameters])
    y = residuals(finished)
    total = max(float(((y - y.mean()) ** 2).sum()), 1e-12)
    # Squared errors are added up over the folds: R^2 of a fold of five trials would be little but noise.
    left, lost = 0.0, np.zeros((len(parameters), _REPEATS))
    for train, held_out in KFold(_FOLDS, shuffle=True, random_state=0).split(x):
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, max_features=0.5, random_state=0)
        forest.fit(x[train], y[train])
        left += float(((forest.predict(x[held_out]) - y[held_out]) ** 2).sum())
        shuffled = permutation_importance(
            forest, x[held_out], y[held_out], scoring="neg_mean_squared_error", n_repeats=_REPEATS, random_state=0
        )
        lost += shuffled.importances * len(held_out)
    lost /= total
    order = np.argsort(-lost.mean(axis=1), kind="stable")
    return Importance(
        [parameters[i].name for i in order],
        [float(lost[i].mean()) for i in order],
        [float(lost[i].std()) for i in order],
        1 - left / total,
        len(finished),
    )


def encoded(records: Sequence[TrialRecord], parameter: Parameter) -> np.ndarray:
    """A setting's values as numbers, n: places among its choices, or the numbers themselves; -1 without effect."""
    return np.array([_code(record, parameter) for record in records], dtype=float)


def _code(record: TrialRecord, parameter: Parameter) -> float:
    label = record.candidate.params[parameter.name]
    if not matters(record, parameter.name):
        return -1.0
    if parameter.decoded:
        return float(list(parameter.decoded).index(label))
    return math.log(label) if parameter.distribution.log else float(label)


def matters(record: TrialRecord, name: str) -> bool:
    """Whether the setting of that name has an effect on this trial."""
    return name in record.candidate.searched_training_settings or record.candidate.architecture.has_effect(name)


@dataclass(frozen=True)
class Effect:
    """The mean of what is left at equal weights, for one value of a setting.

    Args:
        label: the value.
        mean, error: and its standard error; points of accuracy. The error is None of a single trial.
        trials: with that value.
    """

    label: Any
    mean: float
    error: float | None
    trials: int


def effects(records: Sequence[TrialRecord], parameter: Parameter, bins: int = 5) -> list[Effect]:
    """One-dimensional effects of a setting, over the trials in which it matters, in the order of its values.

    Args:
        records: trials.
        parameter: the setting; a continuous one is cut into `bins` parts with equally many trials.
        bins: of a continuous setting.
    """
    finished = complete(records)
    left = residuals(finished) if finished else np.empty(0)
    pairs = [
        (record.candidate.params[parameter.name], value)
        for record, value in zip(finished, left, strict=True)
        if matters(record, parameter.name)
    ]
    if parameter.grid is None:
        return _binned(pairs, bins)
    found = []
    for label in parameter.grid:
        values = np.array([value for other, value in pairs if other == label])
        if len(values):
            found.append(_effect(label, values))
    return found


def _binned(pairs: list[tuple[float, float]], bins: int) -> list[Effect]:
    ordered = sorted(pairs)
    parts = [part for part in np.array_split(np.array(ordered).reshape(-1, 2), bins) if len(part)]
    return [_effect(float(f"{np.median(part[:, 0]):.3g}"), part[:, 1]) for part in parts]


def _effect(label: Any, values: np.ndarray) -> Effect:
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return Effect(label, float(values.mean()), error, len(values))
