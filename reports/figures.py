"""The report's pictures: the front, the hypervolume over trials, the learning curves.

Deterministic from the run's data; colours are those of Okabe & Ito, told apart in grey and by colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ..models.cost import count_weights
from ..models.settings import write_bytes
from ..search.trial_record import TrialRecord
from ..space.published import PublishedModel
from .pareto import complete, hypervolume_over_trials, pareto_front

_FRONT, _PUBLISHED, _FAINT, _TEXT = "#0072B2", "#D55E00", "#9aa3ab", "#2b2f33"
STYLE = {
    "font.size": 10,
    "axes.edgecolor": "#8a9299",
    "axes.labelcolor": _TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": "#e3e7ea",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "mgnas",
    "text.color": _TEXT,
    "xtick.color": "#555c62",
    "ytick.color": "#555c62",
}


def short_count(value: float) -> str:
    """1234 -> 1.2k, 20000 -> 20k, 1500000 -> 1.5M."""
    for limit, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def front_figure(records: Sequence[TrialRecord], published: Sequence[PublishedModel] = (), title: str = "") -> Figure:
    """Accuracy against weights: the front as a staircase, dominated trials faint, published models labelled.

    Outliers far below the front are left out of the frame; the figure says how many.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 5.2), layout="constrained")
        axes = figure.subplots()
        finished, front = complete(records), pareto_front(records)
        dominated = [record for record in finished if record not in front]
        if dominated:
            axes.scatter(
                [record.weights for record in dominated],
                [100 * record.accuracy for record in dominated],
                s=22,
                color=_FAINT,
                alpha=0.55,
                linewidths=0,
                label=f"dominated trials ({len(dominated)})",
                zorder=2,
            )
        weights = [record.weights for record in front]
        accuracies = [100 * record.accuracy for record in front]
        if front:
            edge = max([record.weights for record in finished] + [count_weights(model.config) for model in published])
            axes.step(
                [*weights, edge * 1.25], [*accuracies, accuracies[-1]], where="post", color=_FRONT, lw=1.6, zorder=3
            )
            label = f"Pareto front ({len(front)})"
            axes.scatter(
                weights, accuracies, s=46, color=_FRONT, edgecolors="white", linewidths=0.9, label=label, zorder=4
            )
        for model in published:
            place = (count_weights(model.config), 100 * model.accuracy)
            axes.scatter(*place, s=70, marker="D", color=_PUBLISHED, edgecolors="white", linewidths=0.9, zorder=4)
        _label_published(axes, published)
        low, high = _accuracy_range(finished, front, published)
        axes.set_ylim(low, high)
        hidden = sum(bool(100 * record.accuracy < low) for record in finished)
        _log_weights(axes, "weights (trainable parameters, log scale)")
        axes.set_ylabel("accuracy (%)" if published else "validation accuracy (%)")
        axes.grid(True, lw=0.8)
        axes.set_axisbelow(True)
        if published:
            axes.scatter([], [], s=60, marker="D", color=_PUBLISHED, label="published (test accuracy, fully trained)")
        if front:
            # Above and left of the front nothing can lie but published models with their labels.
            axes.legend(loc="lower right" if published else "upper left")
        if hidden:
            note = f"{hidden} trial{'s' * (hidden > 1)} below {low:.0f} %"
            axes.annotate(note, (0.01, 0.015), xycoords="axes fraction", fontsize=8.5, color="#6b7278")
        axes.set_title(title or "Accuracy against weights")
        return figure


def _label_published(axes: Axes, published: Sequence[PublishedModel]) -> None:
    """Names above the markers, alternately below where two lie close."""
    ordered = sorted(published, key=lambda model: count_weights(model.config))
    for index, model in enumerate(ordered):
        place = (count_weights(model.config), 100 * model.accuracy)
        above = index % 2 == 0
        axes.annotate(
            f"{model.label}\n{100 * model.accuracy:.2f} %, {model.weights}",
            place,
            textcoords="offset points",
            xytext=(0, 8 if above else -8),
            ha="center",
            va="bottom" if above else "top",
            fontsize=8,
            color=_PUBLISHED,
        )


def _accuracy_range(finished, front, published) -> tuple[float, float]:
    """Limits of the accuracy axis: the front, the published models, and all but far outliers."""
    if not finished:
        return 0.0, 100.0
    values = np.array([100 * record.accuracy for record in finished])
    anchors = [100 * record.accuracy for record in front] + [100 * model.accuracy for model in published]
    spread = max(np.quantile(values, 0.75) - np.quantile(values, 0.25), 0.5)
    low = min(max(values.min(), np.quantile(values, 0.25) - 3 * spread), *anchors)
    high = max(anchors)
    margin = max(0.08 * (high - low), 0.3) * (2 if published else 1)
    return max(low - margin, 0.0), min(high + margin, 100.0 + margin / 2)


def _log_weights(axes: Axes, label: str) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    dense = high / low < 30
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if dense else (1, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def hypervolume_figure(records: Sequence[TrialRecord], weights: int) -> Figure:
    """Dominated area after each complete trial: how fast the search advanced, and whether it still does.

    Args:
        records: all trials.
        weights: of the reference point.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        axes = figure.subplots()
        values = hypervolume_over_trials(records, weights)
        axes.step(range(1, len(values) + 1), values, where="post", color=_FRONT, lw=1.8)
        if values:
            axes.plot(len(values), values[-1], "o", color=_FRONT, ms=6)
            axes.annotate(
                f"{values[-1]:.3f}",
                (len(values), values[-1]),
                (-4, 6),
                textcoords="offset points",
                ha="right",
                fontsize=9,
            )
        axes.set_xlim(0.5, max(len(values), 1) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("complete trials, in the order in which they finished")
        axes.set_ylabel("hypervolume\n(accuracy x decades of weights)")
        axes.margins(y=0.12)
        axes.grid(True, lw=0.8)
        axes.set_title(f"Hypervolume over trials, reference: {short_count(weights)} weights at 0 % accuracy")
        return figure


def curves_figure(records: Sequence[TrialRecord]) -> Figure:
    """Validation error over epochs: networks of the front coloured by their weights, all others faint."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 4.2), layout="constrained")
        axes = figure.subplots()
        front = pareto_front(records)
        for record in records:
            if record.curve and record not in front:
                axes.plot(_epochs(record), _error_percent(record), color=_FAINT, alpha=0.35, lw=0.9)
        if front:
            norm = LogNorm(front[0].weights * 0.999, front[-1].weights * 1.001)
            colours = mpl.colormaps["viridis"]
            for record in front:
                axes.plot(_epochs(record), _error_percent(record), color=colours(norm(record.weights)), lw=1.8)
            bar = figure.colorbar(mpl.cm.ScalarMappable(norm, colours), ax=axes, pad=0.01)
            bar.set_label("weights of the front's networks")
            bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
            bar.ax.yaxis.set_minor_formatter(NullFormatter())
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation error (%, log scale)")
        axes.grid(True, lw=0.8)
        axes.set_title("Learning curves: coloured on the front, grey all other trials")
        return figure


def _epochs(record: TrialRecord) -> range:
    return range(1, len(record.curve) + 1)


def _error_percent(record: TrialRecord) -> list[float]:
    """100 - accuracy; a faultless epoch is drawn at 0.05 %, which a log axis can show."""
    return [max(100 * (1 - value), 0.05) for value in record.curve]


def save_figure(figure: Figure, stem: Path) -> None:
    """Write a figure as `stem`.png and `stem`.svg, the same bytes for the same data, each whole or not at all."""
    with mpl.rc_context(STYLE):
        for suffix, options in (
            (".png", {"dpi": 150, "metadata": {"Software": None}}),
            (".svg", {"metadata": {"Date": None}}),
        ):
            content = BytesIO()
            figure.savefig(content, format=suffix[1:], **options)
            write_bytes(stem.with_suffix(suffix), content.getvalue())
