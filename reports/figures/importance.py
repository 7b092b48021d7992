"""Pictures of what matters: importance, effects, the interaction of grouping and scaling, the front's settings."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ...search.trial_record import TrialRecord
from ...space.parameter import Parameter
from ..analysis.importance import Importance, effects, matters
from ..analysis.pareto import complete, pareto_front
from .style import FRONT, QUIET, TEXT, log_weights, make_figure, ramp, series

_COLUMNS = 4
_MOST_PANELS = 4
_INTERACTION = ("group_size", "fully_coupled_channels", "channel_scaling")


def importance_figure(found: Importance) -> Figure:
    """Bars of importance at equal weights, with the standard deviation over shuffles."""

    def draw(axes: Axes) -> None:
        places = np.arange(len(found.names))[::-1]
        axes.barh(places, found.values, xerr=found.errors, color=FRONT, height=0.62, ecolor=TEXT, capsize=3)
        axes.set_yticks(places, [found_name.replace("_", " ") for found_name in found.names])
        axes.axvline(0, color=QUIET, lw=0.8)
        axes.set_xlabel("loss of R² on held-out trials when the setting is shuffled")
        axes.grid(True, axis="x", lw=0.8)
        axes.set_axisbelow(True)
        explains = f"{100 * found.explained:.0f} %" if found.explained > 0 else "nothing"
        axes.set_title(f"What matters at equal weights (the settings explain {explains})")

    return make_figure(draw, 8.4, 1.3 + 0.36 * len(found.names))


def effects_figure(records: Sequence[TrialRecord], parameters: Sequence[Parameter]) -> Figure:
    """One panel per setting: mean accuracy at equal weights for each of its values, with standard errors."""
    shown = [(parameter, effects(records, parameter)) for parameter in parameters]
    shown = [(parameter, found) for parameter, found in shown if len(found) > 1]
    columns = min(_COLUMNS, max(len(shown), 1))
    rows = max(math.ceil(len(shown) / columns), 1)

    def draw(grid: np.ndarray) -> None:
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        for axes, (parameter, found) in zip(grid.flat, shown, strict=False):
            places = range(len(found))
            axes.axhline(0, color=QUIET, lw=0.8)
            axes.errorbar(
                places,
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
            labels = [f"{effect.label}{between}{effect.trials}" for effect in found]
            axes.set_xticks(places, labels, fontsize=8 if upright else 7, rotation=0 if upright else 90)
            axes.set_title(parameter.name.replace("_", " "), fontsize=10)
            axes.grid(True, axis="y", lw=0.8)
            axes.margins(x=0.15)
        grid.flat[0].set_ylabel("points of accuracy\nat equal weights")

    title = "Effect of each value at equal weights (and how many trials had it)"
    return make_figure(draw, 8.4, 0.6 + 2.3 * rows, title, rows=rows, columns=columns, squeeze=False, sharey=True)


def interaction_figure(records: Sequence[TrialRecord], parameters: Sequence[Parameter]) -> Figure | None:
    """Accuracy against weights, one line per group size, one mark per scaling, one panel per fully coupled channels.

    Trials that agree in all three are averaged, whatever else differs; only those that have groups count.

    Returns:
        the figure; None if the group size is not searched or matters in no complete trial.
    """
    names = [name for name in _INTERACTION if any(parameter.name == name for parameter in parameters)]
    grouped = [record for record in complete(records) if matters(record, "group_size")]
    if "group_size" not in names or not grouped:
        return None
    means = _means(grouped, names)
    panels = sorted({key[1] for key in means}, key=_order)
    # The panels with the most trials behind them, if there are more than fit.
    counts = collections.Counter(_key(record, names)[1] for record in grouped)
    panels = sorted(sorted(panels, key=lambda panel: -counts[panel])[:_MOST_PANELS], key=_order)
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


def _key(record: TrialRecord, names: Sequence[str]) -> tuple:
    values = record.candidate.params
    return tuple(values[name] if name in names else None for name in _INTERACTION)


def _means(records: Sequence[TrialRecord], names: Sequence[str]) -> dict[tuple, tuple[float, float]]:
    """(group size, fully coupled channels, scaling) -> geometric mean of weights, mean accuracy in per cent."""
    groups = collections.defaultdict(list)
    for record in records:
        groups[_key(record, names)].append(record)
    return {
        key: (
            float(np.exp(np.mean(np.log([record.weights for record in members])))),
            float(100 * np.mean([record.accuracy for record in members])),
        )
        for key, members in groups.items()
    }


def _order(value: Any) -> tuple:
    return (value is not None, value if isinstance(value, int | float) else 0, str(value))


def parallel_figure(records: Sequence[TrialRecord], parameters: Sequence[Parameter]) -> Figure:
    """Parallel coordinates of the front: one line per network through its settings, coloured by accuracy.

    A setting without effect on a network is passed at the bottom, below the lowest value.
    """
    front = pareto_front(records)

    def draw(axes: Axes) -> None:
        accuracies = [100 * record.accuracy for record in front]
        norm = Normalize(min(accuracies) - 1e-6, max(accuracies) + 1e-6)
        colours = ramp()
        columns = ["weights", *(parameter.name for parameter in parameters), "accuracy"]
        heights = [_scaled(np.log([record.weights for record in front]))]
        for place, parameter in enumerate(parameters, start=1):
            heights.append(_column(axes, place, parameter, front))
        heights.append(_scaled(np.array(accuracies)))
        for line, record in zip(np.array(heights).T, front, strict=True):
            axes.plot(range(len(columns)), line, color=colours(norm(100 * record.accuracy)), lw=1.6, alpha=0.9)
        for place, values in ((0, [f"{front[0].weights:,}", f"{front[-1].weights:,}"]), (len(columns) - 1, None)):
            shown = values or [f"{min(accuracies):.1f} %", f"{max(accuracies):.1f} %"]
            for height, text in zip((0, 1), shown, strict=True):
                axes.annotate(text, (place, height), (0, 7 if height else -14), **_NOTE)
        for place in range(len(columns)):
            axes.axvline(place, color=QUIET, lw=0.8, zorder=1)
        names = [name.replace("_", "\n") for name in columns]
        axes.set_xticks(range(len(columns)), names, fontsize=8)
        axes.tick_params(axis="x", length=0)
        axes.set_yticks([])
        axes.set_ylim(-0.28, 1.14)
        axes.spines[:].set_visible(False)
        bar = axes.figure.colorbar(mpl.cm.ScalarMappable(norm, colours), ax=axes, pad=0.02)
        bar.set_label("validation accuracy (%)")
        axes.set_title("The front's networks, setting by setting")

    return make_figure(draw, 8.4, 4.2)


_NOTE = {"textcoords": "offset points", "ha": "center", "fontsize": 7.5, "color": TEXT}


def _column(axes: Axes, place: int, parameter: Parameter, front: Sequence[TrialRecord]) -> np.ndarray:
    """Heights of the front's values of one setting, which are written beside the axis."""
    labels = [record.candidate.params[parameter.name] for record in front]
    if parameter.grid is None:
        low, high = parameter.distribution.low, parameter.distribution.high
        values = np.array(labels, dtype=float)
        logarithm = np.log if parameter.distribution.log else (lambda value: value)
        heights = (logarithm(values) - logarithm(low)) / (logarithm(high) - logarithm(low))
        for height, value in ((0, low), (1, high)):
            axes.annotate(f"{value:.3g}", (place, height), (0, 7 if height else -14), **_NOTE)
    else:
        grid = list(parameter.grid)
        heights = np.array([grid.index(label) / max(len(grid) - 1, 1) for label in labels])
        for index, label in enumerate(grid):
            at = (place, index / max(len(grid) - 1, 1))
            axes.annotate(str(label), at, (4, 0), textcoords="offset points", va="center", fontsize=7, color=TEXT)
    without = np.array([not matters(record, parameter.name) for record in front])
    return np.where(without, -0.18, heights)


def _scaled(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (np.ptp(values) or 1.0)
