"""What matters at equal weights.

Bigger networks are better, so the raw importance of every setting is mostly its effect on the weights. Here the trend
of accuracy with weights is taken off first: z = -log(error) is fitted by a quadratic in log weights. The residual of a
trial says how much better its network is than others of its weights. Permutation importance of a random forest on
held-out trials (Breiman 2001; forest, shuffles and folds are scikit-learn's) then says how much of the residuals each
setting explains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution, IntDistribution

from ...search.samplers.outcome_transforms import LogErrorTransform
from ...search.trial_record import CompletedTrial
from ...space.parameter import Parameter

MIN_TRIALS = 20
"""Complete trials that importance is learned from, at least."""

_TREES, _FOLDS, _REPEATS = 100, 5, 5


@dataclass(frozen=True)
class Importance:
    """How much the settings explain of the differences at equal weights.

    Args:
        names: of the searched settings, most important first.
        values: loss of R^2 on held-out trials when a setting's values are shuffled, one for each name.
        stds: their standard deviations over shuffles.
        explained: R^2 on held-out trials with all settings in place; near 0 or below, `values` mean nothing.
        n_trials: complete trials that it was learned from.
    """

    names: list[str]
    values: list[float]
    stds: list[float]
    explained: float
    n_trials: int


def residuals(trials: Sequence[CompletedTrial]) -> np.ndarray:
    """How much better each trial is than the trend of accuracy with weights, in points (per cent) of accuracy: n.

    The trend is a quadratic in log weights on the scale of -log(error), where outliers bend it little.
    """
    scale = LogErrorTransform()
    accuracy = np.array([trial.accuracy for trial in trials])
    weights = np.log10([trial.weights for trial in trials])
    z = scale.transform(accuracy)
    degree = min(2, len(np.unique(weights)) - 1)
    trend = np.polyval(np.polyfit(weights - weights.mean(), z, degree), weights - weights.mean())
    return 100 * (accuracy - scale.untransform(trend))


def importance(trials: Sequence[CompletedTrial], parameters: Sequence[Parameter]) -> Importance | None:
    """The importance of each searched setting at equal weights; None for fewer than 20 trials.

    If a setting has no effect on a trial's network (group size on an MgNet), that counts as a value of its own.
    """
    if len(trials) < MIN_TRIALS:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    x = np.column_stack([encoded(trials, parameter) for parameter in parameters])
    y = residuals(trials)
    total = max(float(((y - y.mean()) ** 2).sum()), 1e-12)
    # Squared errors are added up over the folds, because the R^2 of a fold of few trials is mostly noise.
    error, increase = 0.0, np.zeros((len(parameters), _REPEATS))
    for train, held_out in KFold(_FOLDS, shuffle=True, random_state=0).split(x):
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, max_features=0.5, random_state=0)
        forest.fit(x[train], y[train])
        error += float(((forest.predict(x[held_out]) - y[held_out]) ** 2).sum())
        # scikit-learn's annotation also allows a dict of results, which only several scorings give.
        shuffled: Any = permutation_importance(
            forest, x[held_out], y[held_out], scoring="neg_mean_squared_error", n_repeats=_REPEATS, random_state=0
        )
        increase += shuffled.importances * len(held_out)
    lost = increase / total
    order = np.argsort(-lost.mean(axis=1), kind="stable")
    return Importance(
        [parameters[i].name for i in order],
        [float(lost[i].mean()) for i in order],
        [float(lost[i].std()) for i in order],
        1 - error / total,
        len(trials),
    )


def encoded(trials: Sequence[CompletedTrial], parameter: Parameter) -> np.ndarray:
    """A setting's values as numbers, n: indices of choices, numbers of a range; -1 if the setting has no effect."""
    return np.array([_code(trial, parameter) for trial in trials], dtype=float)


def _code(trial: CompletedTrial, parameter: Parameter) -> float:
    label = trial.candidate.params[parameter.name]
    if not matters(trial, parameter.name):
        return -1.0
    if parameter.decoded:
        return float(list(parameter.decoded).index(label))
    return math.log(label) if is_logarithmic(parameter) else float(label)


def is_logarithmic(parameter: Parameter) -> bool:
    """Whether the setting is a range on a log scale."""
    distribution = parameter.distribution
    return isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log


def matters(trial: CompletedTrial, name: str) -> bool:
    """Whether the setting of that name has an effect on this trial."""
    return name in trial.candidate.searched_training_settings or trial.architecture.has_effect(name)


@dataclass(frozen=True)
class Effect:
    """The residuals of the trials that have one value of a setting, in points of accuracy.

    Args:
        label: the value.
        mean: of the residuals.
        error: standard error of the mean; None for a single trial.
        n_trials: with that value.
    """

    label: Any
    mean: float
    error: float | None
    n_trials: int


def effects(trials: Sequence[CompletedTrial], parameter: Parameter, bins: int = 5) -> list[Effect]:
    """One-dimensional effects of a setting, over the trials in which it matters, in the order of its values.

    Args:
        trials: of the search.
        parameter: the setting.
        bins: parts, with equally many trials, that a continuous setting is cut into.
    """
    values = residuals(trials) if trials else np.empty(0)
    pairs = [
        (trial.candidate.params[parameter.name], float(value))
        for trial, value in zip(trials, values, strict=True)
        if matters(trial, parameter.name)
    ]
    if parameter.grid is None:
        return _binned(pairs, bins)
    groups = [(label, np.array([value for other, value in pairs if other == label])) for label in parameter.grid]
    return [_effect(label, group) for label, group in groups if len(group)]


def _binned(pairs: list[tuple[float, float]], bins: int) -> list[Effect]:
    parts = np.array_split(np.array(sorted(pairs)).reshape(-1, 2), bins)
    return [_effect(float(f"{np.median(part[:, 0]):.3g}"), part[:, 1]) for part in parts if len(part)]


def _effect(label: Any, values: np.ndarray) -> Effect:
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return Effect(label, float(values.mean()), error, len(values))
