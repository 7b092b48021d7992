"""Pictures of what matters: importance, effects, the interaction of grouping and scaling, the front's settings."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from optuna.distributions import FloatDistribution, IntDistribution

from ...search.trial_record import CompletedTrial
from ...space.parameter import Parameter
from ..analysis.importance import Effect, Importance, effects, is_logarithmic, matters
from ..analysis.pareto import nondominated
from .style import FRONT, QUIET, TEXT, log_weights, make_figure, ramp, series

_COLUMNS = 4
_MAX_PANELS = 4
_INTERACTION = ("group_size", "fully_coupled_channels", "channel_scaling")


def importance_figure(shown: Importance) -> Figure:
    """Bars of importance at equal weights, with the standard deviation over shuffles."""

    def draw(axes: Axes) -> None:
        heights = np.arange(len(shown.names))[::-1]
        axes.barh(heights, shown.values, xerr=shown.stds, color=FRONT, height=0.62, ecolor=TEXT, capsize=3)
        axes.set_yticks(heights, [name.replace("_", " ") for name in shown.names])
        axes.axvline(0, color=QUIET, lw=0.8)
        axes.set_xlabel("loss of R² on held-out trials when the setting is shuffled")
        axes.grid(True, axis="x", lw=0.8)
        axes.set_axisbelow(True)
        explains = f"{100 * shown.explained:.0f} %" if shown.explained > 0 else "nothing"
        axes.set_title(f"What matters at equal weights (the settings explain {explains})")

    return make_figure(draw, 8.4, 1.3 + 0.36 * len(shown.names))


def effects_figure(trials: Sequence[CompletedTrial], parameters: Sequence[Parameter]) -> Figure:
    """One panel per setting: mean accuracy at equal weights for each of its values, with standard errors."""
    by_parameter = [(parameter, effects(trials, parameter)) for parameter in parameters]
    shown = [(parameter, found) for parameter, found in by_parameter if len(found) > 1]
    columns = min(_COLUMNS, max(len(shown), 1))
    rows = max(math.ceil(len(shown) / columns), 1)

    def draw(grid: np.ndarray) -> None:
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        for axes, (parameter, found) in zip(grid.flat, shown, strict=False):
            _draw_effects(axes, found)
            axes.set_title(parameter.name.replace("_", " "), fontsize=10)
        grid.flat[0].set_ylabel("points of accuracy\nat equal weights")

    title = "Effect of each value at equal weights (and how many trials had it)"
    return make_figure(draw, 8.4, 0.6 + 2.3 * rows, title, rows=rows, columns=columns, squeeze=False, sharey=True)


def _draw_effects(axes: Axes, found: Sequence[Effect]) -> None:
    columns = range(len(found))
    axes.axhline(0, color=QUIET, lw=0.8)
    axes.errorbar(
        columns,
        [effect.mean for effect in found],
        yerr=[effect.error or 0.0 for effect in found],
        fmt="o-",
        color=FRONT,
        lw=1.2,
        ms=5,
        capsize=3,
    )
    upright = max(len(str(effect.label)) for effect in found) <= 6
    between = "\n" if upright else ": "
    labels = [f"{effect.label}{between}{effect.n_trials}" for effect in found]
    axes.set_xticks(columns, labels, fontsize=8 if upright else 7, rotation=0 if upright else 90)
    axes.grid(True, axis="y", lw=0.8)
    axes.margins(x=0.15)


def interaction_figure(trials: Sequence[CompletedTrial], parameters: Sequence[Parameter]) -> Figure | None:
    """Accuracy against weights: one line per group size, one mark per scaling, one panel per fully coupled channels.

    Trials that agree in these three settings are averaged over all others. Only trials that have groups count.

    Returns:
        the figure; None if the group size is not searched or matters in no trial.
    """
    names = [name for name in _INTERACTION if any(parameter.name == name for parameter in parameters)]
    grouped = [trial for trial in trials if matters(trial, "group_size")]
    if "group_size" not in names or not grouped:
        return None
    means = _means(grouped, names)
    panels = sorted({key[1] for key in means}, key=_order)
    # If there are more panels than fit, those with the most trials are kept.
    counts = collections.Counter(_key(trial, names)[1] for trial in grouped)
    panels = sorted(sorted(panels, key=lambda panel: -counts[panel])[:_MAX_PANELS], key=_order)
    sizes = sorted({key[0] for key in means}, key=_order)

    def draw(grid: np.ndarray) -> None:
        for axes, panel in zip(grid.flat, panels, strict=True):
            for index, size in enumerate(sizes):
                line = sorted(value for key, value in means.items() if key[:2] == (size, panel))
                if line:
                    axes.plot(*zip(*line, strict=True), ms=5, lw=1.3, label=f"g_s = {size}", **series(index))
            log_weights(axes, "weights")
            axes.tick_params(axis="x", labelsize=8)
            axes.grid(True, lw=0.8)
            if panel is not None:
                axes.set_title(f"{panel} fully coupled", fontsize=10)
        grid.flat[0].set_ylabel("validation accuracy (%)")
        handles: dict[str, Any] = {}
        for axes in grid.flat:
            handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        ordered = [f"g_s = {size}" for size in sizes if f"g_s = {size}" in handles]
        grid.flat[-1].legend([handles[label] for label in ordered], ordered, fontsize=8)

    marks = ", one mark per lambda" if "channel_scaling" in names else ""
    title = f"Group size and fully coupled channels: mean accuracy{marks}"
    return make_figure(draw, 8.4, 3.6, title, columns=len(panels), squeeze=False, sharey=True)


def _key(trial: CompletedTrial, names: Sequence[str]) -> tuple:
    """(group size, fully coupled channels, scaling); None for a setting that is not among the searched `names`."""
    values = trial.candidate.params
    return tuple(values[name] if name in names else None for name in _INTERACTION)


def _means(trials: Sequence[CompletedTrial], names: Sequence[str]) -> dict[tuple, tuple[float, float]]:
    """`_key` -> geometric mean of weights, mean accuracy in per cent."""
    groups = collections.defaultdict(list)
    for trial in trials:
        groups[_key(trial, names)].append(trial)
    return {
        key: (
            float(np.exp(np.mean(np.log([trial.weights for trial in members])))),
            float(100 * np.mean([trial.accuracy for trial in members])),
        )
        for key, members in groups.items()
    }


def _order(value: Any) -> tuple:
    """Sorts labels of one setting, numbers or words; None comes first."""
    return (value is not None, value if isinstance(value, int | float) else 0, str(value))


def parallel_figure(trials: Sequence[CompletedTrial], parameters: Sequence[Parameter]) -> Figure:
    """Parallel coordinates of the front: one line per network through its settings, coloured by accuracy.

    A line runs below the lowest value of a setting that has no effect on its network.
    """
    front = nondominated(trials)

    def draw(axes: Axes) -> None:
        accuracies = [100 * trial.accuracy for trial in front]
        norm = Normalize(min(accuracies) - 1e-6, max(accuracies) + 1e-6)
        colours = ramp()
        columns = ["weights", *(parameter.name for parameter in parameters), "accuracy"]
        heights = [_scaled(np.log([trial.weights for trial in front]))]
        heights += [_column(axes, index, parameter, front) for index, parameter in enumerate(parameters, start=1)]
        heights.append(_scaled(np.array(accuracies)))
        for line, accuracy in zip(np.array(heights).T, accuracies, strict=True):
            axes.plot(range(len(columns)), line, color=colours(norm(accuracy)), lw=1.6, alpha=0.9)
        _write_ends(axes, 0, f"{front[0].weights:,}", f"{front[-1].weights:,}")
        _write_ends(axes, len(columns) - 1, f"{min(accuracies):.1f} %", f"{max(accuracies):.1f} %")
        for index in range(len(columns)):
            axes.axvline(index, color=QUIET, lw=0.8, zorder=1)
        names = [name.replace("_", "\n") for name in columns]
        axes.set_xticks(range(len(columns)), names, fontsize=8)
        axes.tick_params(axis="x", length=0)
        axes.set_yticks([])
        axes.set_ylim(-0.28, 1.14)
        axes.spines[:].set_visible(False)
        bar = axes.figure.colorbar(ScalarMappable(norm, colours), ax=axes, pad=0.02)
        bar.set_label("validation accuracy (%)")
        axes.set_title("The front's networks, setting by setting")

    return make_figure(draw, 8.4, 4.2)


def _write_ends(axes: Axes, x: int, low: str, high: str) -> None:
    """Write what the lower and the upper end of a column mean."""
    for height, offset, text in ((0, -14, low), (1, 7, high)):
        axes.annotate(text, (x, height), (0, offset), textcoords="offset points", ha="center", fontsize=7.5, color=TEXT)


def _column(axes: Axes, x: int, parameter: Parameter, front: Sequence[CompletedTrial]) -> np.ndarray:
    """Write the values of a setting beside its column, and return the heights of the front's values: n, from 0 to 1."""
    labels = [trial.candidate.params[parameter.name] for trial in front]
    distribution = parameter.distribution
    if parameter.grid is None and isinstance(distribution, FloatDistribution | IntDistribution):
        values = np.array([distribution.low, distribution.high, *labels], dtype=float)
        low, high, *scaled = np.log(values) if is_logarithmic(parameter) else values
        heights = (np.array(scaled) - low) / (high - low)
        _write_ends(axes, x, f"{distribution.low:.3g}", f"{distribution.high:.3g}")
    else:
        grid = list(parameter.grid or ())
        heights = np.array([grid.index(label) / max(len(grid) - 1, 1) for label in labels])
        for index, label in enumerate(grid):
            at = (x, index / max(len(grid) - 1, 1))
            axes.annotate(str(label), at, (4, 0), textcoords="offset points", va="center", fontsize=7, color=TEXT)
    without_effect = np.array([not matters(trial, parameter.name) for trial in front])
    return np.where(without_effect, -0.18, heights)


def _scaled(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (np.ptp(values) or 1.0)
