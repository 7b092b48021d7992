"""Pictures of the front: accuracy against weights, its attainment over several runs, latency against MACs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import moocore
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ...models.cost import count_weights
from ...search.trial_record import CompletedTrial
from ...space.published import PublishedModel
from ..analysis.pareto import objectives
from ..analysis.run_data import RunData
from ..text import short_count
from .style import FAINT, PUBLISHED, QUIET, SERIES, log_weights, make_figure, series

_RASTERIZED = 300
"""More dominated trials than this are drawn as one picture of pixels, which takes less room than their circles."""


def front_figure(runs: Sequence[RunData], published: Sequence[PublishedModel] = (), title: str = "") -> Figure:
    """Accuracy against weights: each run's front as a staircase, dominated trials faint, published models labelled.

    A network that was trained fully has a second mark at its mean, with one standard deviation up and down. Outliers
    far below the front lie outside the frame; the figure says how many.
    """

    def draw(axes: Axes) -> None:
        edge = max(
            [trial.weights for run in runs for trial in run.finished]
            + [count_weights(model.config) for model in published],
            default=1,
        )
        for index, run in enumerate(runs):
            _draw_run(axes, run, index, edge, len(runs) > 1)
        for model in published:
            point = (count_weights(model.config), 100 * model.accuracy)
            axes.scatter(*point, s=70, marker="D", color=PUBLISHED, edgecolors="white", linewidths=0.9, zorder=4)
        _label_published(axes, published)
        low, high = accuracy_range(runs, published)
        axes.set_ylim(low, high)
        log_weights(axes, "weights (trainable parameters, log scale)")
        axes.set_ylabel("accuracy (%)" if published else "validation accuracy (%)")
        axes.grid(True, lw=0.8)
        axes.set_axisbelow(True)
        if published:
            axes.scatter([], [], s=60, marker="D", color=PUBLISHED, label="published (test accuracy, fully trained)")
        if any(run.front for run in runs):
            # Above and to the left of the front there can be only published models and their labels.
            axes.legend(loc="lower right" if published or len(runs) > 1 else "upper left", fontsize=9)
        hidden = sum(bool(100 * trial.accuracy < low) for run in runs for trial in run.finished)
        if hidden:
            note = f"{hidden} trial{'s' * (hidden > 1)} below {low:.0f} %"
            axes.annotate(note, (0.01, 0.015), xycoords="axes fraction", fontsize=8.5, color=QUIET)
        axes.set_title(title or "Accuracy against weights")

    return make_figure(draw, 8.4, 5.2)


def _draw_run(axes: Axes, run: RunData, index: int, edge: float, named: bool) -> None:
    look, front = series(index), run.front
    numbers = {trial.number for trial in front}
    dominated = [trial for trial in run.finished if trial.number not in numbers]
    if dominated:
        axes.scatter(
            [trial.weights for trial in dominated],
            [100 * trial.accuracy for trial in dominated],
            s=22,
            marker=look["marker"],
            color=look["color"] if named else FAINT,
            alpha=0.3 if named else 0.55,
            linewidths=0,
            label=None if named else f"dominated trials ({len(dominated)})",
            zorder=2,
            rasterized=len(dominated) > _RASTERIZED,
        )
    if not front:
        return
    weights = [trial.weights for trial in front]
    accuracies = [100 * trial.accuracy for trial in front]
    line = {key: look[key] for key in ("color", "linestyle")}
    axes.step([*weights, edge * 1.25], [*accuracies, accuracies[-1]], where="post", lw=1.6, zorder=3, **line)
    axes.plot(
        weights,
        accuracies,
        linestyle="",
        marker=look["marker"],
        ms=7,
        color=look["color"],
        markeredgecolor="white",
        markeredgewidth=0.9,
        label=f"{run.name}: front ({len(front)})" if named else f"Pareto front ({len(front)})",
        zorder=4,
    )
    _draw_retrained(axes, run, look["color"])


def _draw_retrained(axes: Axes, run: RunData, colour: str) -> None:
    weights = {record.number: record.weights for record in run.records}
    retrained = [network for number, network in run.retrained.items() if number in weights]
    for index, network in enumerate(retrained):
        label = f"trained fully, {network.part} accuracy, mean and sd of {len(network.accuracies)}"
        axes.errorbar(
            [weights[network.trial]],
            [100 * network.mean],
            yerr=None if network.std is None else 100 * network.std,
            fmt="_",
            ms=13,
            mew=2,
            capsize=4,
            color=colour,
            label=label if index == 0 else None,
            zorder=5,
        )


def _label_published(axes: Axes, published: Sequence[PublishedModel]) -> None:
    """Names in turn above and below the markers, by ascending weights, so that neighbours do not cover each other."""
    ordered = sorted(published, key=lambda model: count_weights(model.config))
    for index, model in enumerate(ordered):
        point = (count_weights(model.config), 100 * model.accuracy)
        above = index % 2 == 0
        axes.annotate(
            f"{model.label}\n{100 * model.accuracy:.2f} %, {model.weights}",
            point,
            textcoords="offset points",
            xytext=(0, 8 if above else -8),
            ha="center",
            va="bottom" if above else "top",
            fontsize=8,
            color=PUBLISHED,
        )


def accuracy_range(runs: Sequence[RunData], published: Sequence[PublishedModel]) -> tuple[float, float]:
    """Limits of the accuracy axis in per cent: around the fronts, the published models, and all but far outliers.

    Far outliers lie more than three interquartile ranges below the lower quartile.
    """
    values = np.array([100 * trial.accuracy for run in runs for trial in run.finished])
    if not len(values):
        return 0.0, 100.0
    anchors = [100 * trial.accuracy for run in runs for trial in run.front]
    anchors += [100 * model.accuracy for model in published]
    retrained = [network for run in runs for network in run.retrained.values()]
    anchors += [100 * (network.mean + side * (network.std or 0)) for network in retrained for side in (-1, 1)]
    lower, upper = (float(np.quantile(values, part)) for part in (0.25, 0.75))
    low = min(max(float(values.min()), lower - 3 * max(upper - lower, 0.5)), *anchors)
    high = max(anchors)
    margin = max(0.08 * (high - low), 0.3) * (2 if published else 1)
    return max(low - margin, 0.0), min(high + margin, 100.0 + margin / 2)


def attainment_figure(runs: Sequence[RunData]) -> Figure:
    """What half of several searches attain, and the band between a quarter and three quarters of them.

    The empirical attainment function (Grunert da Fonseca, Fonseca & Hall 2001), by moocore.
    """
    sets = [objectives(run.front) for run in runs if run.front]
    points = np.concatenate(sets)
    numbers = np.repeat(np.arange(len(sets)), [len(front) for front in sets])
    surfaces = moocore.eaf(points, numbers, percentiles=[25, 50, 75])

    def surface(percentile: int) -> tuple[np.ndarray, np.ndarray]:
        rows = surfaces[surfaces[:, 2] == percentile]
        rows = rows[np.argsort(rows[:, 0])]
        return 10 ** rows[:, 0], 100 * (1 - rows[:, 1])

    def draw(axes: Axes) -> None:
        edge = 1.25 * 10 ** points[:, 0].max()
        steps = {p: surface(p) for p in (25, 50, 75)}
        grid = np.unique(np.concatenate([weights for weights, _ in steps.values()] + [[edge]]))

        def on_grid(percentile: int) -> np.ndarray:
            weights, accuracy = steps[percentile]
            indices = np.searchsorted(weights, grid, side="right")
            return np.where(indices > 0, np.concatenate([[0.0], accuracy])[indices], np.nan)

        reached, sure = on_grid(25), on_grid(75)
        low = np.nanmin(points[:, 1])
        bottom = 100 * (1 - points[:, 1].max())
        axes.fill_between(
            grid,
            np.nan_to_num(sure, nan=bottom),
            reached,
            step="post",
            color=SERIES[0],
            alpha=0.22,
            lw=0,
            label="between a quarter and three quarters of the runs",
        )
        axes.step(grid, on_grid(50), where="post", color=SERIES[0], lw=1.8, label=f"half of {len(sets)} runs")
        axes.set_ylim(max(bottom - 0.5, 0), min(100 * (1 - low) + 0.5, 100.5))
        log_weights(axes, "weights (trainable parameters, log scale)")
        axes.set_ylabel("validation accuracy (%)")
        axes.grid(True, lw=0.8)
        axes.legend(loc="lower right", fontsize=9)
        axes.set_title("What several searches attain")

    return make_figure(draw, 8.4, 4.4)


def latency_figure(runs: Sequence[RunData]) -> Figure:
    """Milliseconds per image against MACs for networks of the front, one image or 32 at a time."""

    def draw(axes: Axes) -> None:
        for index, run in enumerate(runs):
            macs = {record.number: record.candidate.macs for record in run.records}
            measured = [(macs[number], times) for number, times in run.latencies.items()]
            for batch, filled in ((1, True), (32, False)):
                look = series(index)
                images = "1 image at a time" if batch == 1 else f"{batch} images at a time"
                axes.plot(
                    [count for count, _ in measured],
                    [times[batch] / batch for _, times in measured],
                    linestyle="",
                    marker=look["marker"],
                    ms=7,
                    color=look["color"],
                    markerfacecolor=look["color"] if filled else "none",
                    label=images if len(runs) == 1 else f"{run.name}: {images}",
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("multiply-accumulates per image (log scale)")
        axes.set_ylabel("milliseconds per image (log scale)")
        axes.grid(True, lw=0.8)
        axes.legend(fontsize=9)
        axes.set_title("Latency of the front's networks on this machine")

    return make_figure(draw, 8.4, 4.0)


def spearman(trials: Sequence[CompletedTrial], latencies: dict[int, dict[int, float]], batch: int) -> float | None:
    """Rank correlation of MACs and measured latency; None for fewer than 3 networks."""
    from scipy.stats import spearmanr

    measured = [trial for trial in trials if trial.number in latencies]
    if len(measured) < 3:
        return None
    times = [latencies[trial.number][batch] for trial in measured]
    result: Any = spearmanr([trial.macs for trial in measured], times)  # scipy does not annotate what it returns.
    return float(result.statistic)
