"""Pictures of how a search went: hypervolume over epochs and time, learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ...search.trial_record import CompletedTrial, TrialRecord, completed_trials
from ..analysis.pareto import hypervolume_over_trials
from ..analysis.run_data import RunData
from ..text import short_count
from .style import FAINT, SERIES, make_figure, percent_axis, ramp, series

_RASTERIZED = 300
"""More curves than this are drawn as one picture of pixels, which takes less room than their lines."""


def growth(run: RunData, weights: int, accuracy: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The hypervolume after each complete trial, in the order in which they finished.

    Args:
        run: the run.
        weights, accuracy: of the reference point.

    Returns:
        epochs trained until then by all trials that have ended, hours of searching, hypervolume: n each.
    """
    ended = sorted(
        (record for record in run.records if record.finished is not None), key=lambda r: (r.finished, r.number)
    )
    epochs = np.cumsum([len(record.curve) for record in ended])
    is_complete = np.array([record.completed is not None for record in ended], dtype=bool)
    hours = np.array([record.finished for record in ended]) / 3600
    values = np.array(hypervolume_over_trials(completed_trials(ended), weights, accuracy))
    return epochs[is_complete], hours[is_complete], values


def hypervolume_figure(runs: Sequence[RunData], weights: int, accuracy: float = 0.0) -> Figure:
    """Dominated area over epochs and over time: how fast the searches advanced, and whether they still do.

    For three runs or more, the figure also has their median and a band between their quartiles.

    Args:
        runs: on the same data set.
        weights, accuracy: of the reference point.
    """
    grown = [growth(run, weights, accuracy) for run in runs]

    def draw(both: Sequence[Axes]) -> None:
        for axes, part, label in zip(both, (0, 1), ("epochs trained", "hours of searching"), strict=True):
            for index, (run, values) in enumerate(zip(runs, grown, strict=True)):
                look = series(index) | {"marker": None}
                axes.step(values[part], values[2], where="post", lw=1.8, label=run.name, **look)
                if len(values[2]):
                    axes.plot(values[part][-1], values[2][-1], **series(index), ms=6)
            if len(runs) > 2:
                _draw_band(axes, [(values[part], values[2]) for values in grown])
            axes.set_xlabel(label)
            axes.set_xlim(left=0)
            axes.margins(y=0.12)
            axes.grid(True, lw=0.8)
        both[0].set_ylabel("hypervolume\n(accuracy x decades of weights)")
        if len(runs) > 1:
            both[0].legend(loc="lower right", fontsize=8.5)

    title = f"Hypervolume, measured from {short_count(weights)} weights at {100 * accuracy:g} % accuracy"
    return make_figure(draw, 8.4, 3.6, title, columns=2, sharey=True)


def _draw_band(axes: Axes, curves: list[tuple[np.ndarray, np.ndarray]]) -> None:
    grid = np.unique(np.concatenate([at for at, _ in curves]))
    rows = [np.concatenate([[0.0], values])[np.searchsorted(at, grid, side="right")] for at, values in curves]
    low, median, high = np.quantile(rows, [0.25, 0.5, 0.75], axis=0)
    axes.fill_between(grid, low, high, step="post", color=SERIES[-1], alpha=0.15, lw=0, label="quartiles")
    axes.step(grid, median, where="post", color=SERIES[-1], lw=1, label="median")


def curves_figure(run: RunData) -> Figure:
    """Validation error over epochs: networks of the front coloured by their weights, all others faint."""

    def draw(axes: Axes) -> None:
        front = run.front
        numbers = {trial.number for trial in front}
        others = [record for record in run.records if record.curve and record.number not in numbers]
        lines = [np.column_stack([_epochs(record), _error_percent(record)]) for record in others]
        faint = {"color": FAINT, "alpha": 0.35, "lw": 0.9, "rasterized": len(others) > _RASTERIZED}
        axes.add_collection(LineCollection(lines, **faint))
        axes.autoscale_view()
        if front:
            norm = LogNorm(front[0].weights * 0.999, front[-1].weights * 1.001)
            colours = ramp()
            for trial in front:
                axes.plot(_epochs(trial), _error_percent(trial), color=colours(norm(trial.weights)), lw=1.8)
            bar = axes.figure.colorbar(ScalarMappable(norm, colours), ax=axes, pad=0.01)
            bar.set_label("weights of the front's networks")
            bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
            bar.ax.yaxis.set_minor_formatter(NullFormatter())
        if not lines and not front:
            axes.set_ylim(1, 100)  # Empty axes start at 0, which a log scale cannot show.
        axes.set_yscale("log")
        percent_axis(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation error (%, log scale)")
        axes.grid(True, lw=0.8)
        axes.set_title("Learning curves: coloured on the front, grey all other trials")

    return make_figure(draw, 8.4, 4.2)


def _epochs(trial: TrialRecord | CompletedTrial) -> range:
    return range(1, len(trial.curve) + 1)


def _error_percent(trial: TrialRecord | CompletedTrial) -> list[float]:
    """100 - accuracy; an epoch without errors is drawn at 0.05 %, because a log axis cannot show 0."""
    return [max(100 * (1 - value), 0.05) for value in trial.curve]
