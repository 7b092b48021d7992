"""How many epochs replayed searches need: a table for the terminal, JSON, and a figure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from mgnas.errors import UserError
from mgnas.files import write_text

from ...search.simulation.simulator import Replay
from ..figures.style import make_figure, save_figure
from ..text import short_count
from .scoring import HypervolumeScorer, Trace, quartiles

SHARES = (0.90, 0.95, 0.99)
"""Shares of the table's hypervolume; the epochs until each of them are counted."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_MIN_MISSING = 0.002
_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1 - _MIN_MISSING)


@dataclass(frozen=True)
class Efficiency:
    """The searches of one strategy on one table.

    Args:
        strategy: its name.
        replays: one for each seed.
        traces: of the replays, in the same order.
    """

    strategy: str
    replays: Sequence[Replay]
    traces: Sequence[Trace]

    def reached(self, share: float) -> int:
        """How many of the searches reached the share."""
        return sum(trace.epochs_until(share) is not None for trace in self.traces)

    def epochs_until(self, share: float) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of the epochs until the share; they may be infinite.

        A search that did not reach the share counts as infinitely many epochs.
        """
        epochs = [trace.epochs_until(share) for trace in self.traces]
        return quartiles([math.inf if value is None else float(value) for value in epochs])

    @property
    def final(self) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of the shares at the end."""
        return quartiles([trace.final for trace in self.traces])


@dataclass(frozen=True)
class TableResult:
    """Everything about the searches on one table.

    Args:
        scorer: of the table.
        strategies: in the order in which the user named them.
    """

    scorer: HypervolumeScorer
    strategies: Sequence[Efficiency]

    @classmethod
    def of(cls, scorer: HypervolumeScorer, replays: dict[str, list[Replay]]) -> TableResult:
        """Score the replays of each strategy."""
        return cls(
            scorer, [Efficiency(name, own, [scorer.trace(replay) for replay in own]) for name, own in replays.items()]
        )

    @property
    def title(self) -> str:
        """The table in one line, which says whether it is a surrogate."""
        kind = " (surrogate: most accuracies predicted)" if self.scorer.surrogate else ""
        return f"{self.scorer.table.name}: {len(self.scorer.points):,} architectures{kind}"


def as_text(result: TableResult) -> str:
    """A table for the terminal.

    Its columns: for each share the epochs until it, as median (quartiles), and how many searches reached it; the final
    share.
    """
    scorer = result.scorer
    seeds = len(result.strategies[0].traces)
    rows = [["strategy", *_flat((f"epochs until {100 * share:g} %", f"of {seeds}") for share in SHARES), "final share"]]
    for efficiency in result.strategies:
        cells = _flat((_range(efficiency.epochs_until(share)), str(efficiency.reached(share))) for share in SHARES)
        rows.append([efficiency.strategy, *cells, f"{100 * efficiency.final[1]:.1f} %"])
    oracle = scorer.oracle()
    rows.append(["oracle", *_flat((f"{oracle.epochs_until(share):,}", "") for share in SHARES), "100.0 %"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    weights, accuracy = round(10 ** scorer.reference[0]), 100 * scorer.reference[1]
    origin = f"reference {weights:,} weights at {accuracy:.2f} %"
    return "\n".join([f"{result.title}, {origin}; median (quartiles) of {seeds} searches each", *lines])


def _flat(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [cell for pair in pairs for cell in pair]


def _range(values: tuple[float, float, float]) -> str:
    """`median (lower to upper)`; a dash for what was not reached."""
    low, middle, high = ("-" if math.isinf(value) else f"{value:,.0f}" for value in values)
    return f"{middle} ({low} to {high})" if (low, high) != ("-", "-") else "-"


def as_json(results: Sequence[TableResult], settings: dict) -> str:
    """Everything as JSON: the settings; for each table the bound; for each strategy the quartiles and every search."""
    content = {"settings": settings, "tables": [_table_entry(result) for result in results]}
    return json.dumps(content) + "\n"


def _table_entry(result: TableResult) -> dict:
    scorer = result.scorer
    oracle = scorer.oracle()
    return {
        "name": scorer.table.name,
        "surrogate": scorer.surrogate,
        "architectures": len(scorer.points),
        "reference": {"weights": round(10 ** scorer.reference[0]), "accuracy": scorer.reference[1]},
        "oracle": {"epochs_until": {f"{share:g}": oracle.epochs_until(share) for share in SHARES}},
        "strategies": {efficiency.strategy: _strategy_entry(efficiency) for efficiency in result.strategies},
    }


def _strategy_entry(efficiency: Efficiency) -> dict:
    until = {}
    for share in SHARES:
        low, middle, high = (None if math.isinf(v) else v for v in efficiency.epochs_until(share))
        reached = efficiency.reached(share)
        until[f"{share:g}"] = {"lower": low, "median": middle, "upper": high, "reached": reached}
    searches = [
        {
            "epochs": replay.epochs,
            "seconds": round(replay.seconds, 3),
            "trials": replay.trials,
            "complete": len(replay.completions),
            "pauses": replay.pauses,
            "trace": {"epochs": trace.epochs.tolist(), "shares": trace.shares.round(6).tolist()},
        }
        for replay, trace in zip(efficiency.replays, efficiency.traces, strict=True)
    ]
    final = dict(zip(("lower", "median", "upper"), efficiency.final, strict=True))
    return {"epochs_until": until, "final": final, "searches": searches}


def efficiency_figure(results: Sequence[TableResult], unit: str = "epochs trained") -> Figure:
    """Share of the hypervolume against epochs, one panel a table: medians, quartile bands, and the oracle's bound.

    The axis of the shares is logarithmic in the missing share: from 90 to 95 % is as far as from 95 to 97.5 %. Shares
    above 99.8 % are drawn at the top.

    Args:
        results: one for each panel.
        unit: what the epochs of the replays are called.
    """
    columns = min(len(results), 2)
    rows = math.ceil(len(results) / columns)

    def draw(panels: np.ndarray) -> None:
        for axes, result in zip(panels.flat, results, strict=False):
            _panel(axes, result, unit)
        for axes in panels.flat[len(results) :]:
            axes.set_visible(False)

    return make_figure(draw, 8.4 if columns == 1 else 12.6, 4.6 * rows, rows=rows, columns=columns, squeeze=False)


def _panel(axes: Axes, result: TableResult, unit: str) -> None:
    oracle = result.scorer.oracle()
    first = int(oracle.epochs[0])
    axes.step(*_steps(oracle, first), where="post", color="#555c62", lw=1.2, ls=(0, (1, 2)), label="oracle (bound)")
    for index, efficiency in enumerate(result.strategies):
        grid = _grid(efficiency.traces, first)
        shares = np.array([quartiles(column) for column in np.transpose([t.at(grid) for t in efficiency.traces])])
        missing = np.maximum(1 - shares, _MIN_MISSING).T
        colour, dashes = _COLOURS[index % len(_COLOURS)], _DASHES[index // len(_COLOURS) % len(_DASHES)]
        axes.fill_between(grid, missing[0], missing[2], step="post", color=colour, alpha=0.16, lw=0)
        axes.step(grid, missing[1], where="post", color=colour, ls=dashes, lw=1.9, label=efficiency.strategy)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yscale("log")
    axes.set_ylim(1.0, _MIN_MISSING * 0.9)
    axes.yaxis.set_major_locator(FixedLocator([1 - share for share in _TICKS]))
    axes.yaxis.set_major_formatter(FuncFormatter(_share_label))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"{unit} in all (log scale)")
    axes.set_ylabel("share of the table's hypervolume (%)")
    axes.grid(True, lw=0.8)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", fontsize=9)
    axes.set_title(f"{result.title}\n")
    counts = sorted({len(efficiency.traces) for efficiency in result.strategies})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    of_each = f"median and quartiles of {seeds} searches of each strategy"
    what = "one search of each strategy" if seeds == "1" else of_each
    axes.annotate(what, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=9.5)


def _share_label(missing: float, _) -> str:
    share = f"{100 * (1 - missing):.3g}"
    return f"\N{GREATER-THAN OR EQUAL TO} {share}" if missing < 1.01 * _MIN_MISSING else share


def _steps(trace: Trace, first: int) -> tuple[list[int], list[float]]:
    """A trace as steps of the missing share: epochs, missing shares."""
    return [first, *trace.epochs], [1.0, *np.maximum(1 - trace.shares, _MIN_MISSING)]


def _grid(traces: Sequence[Trace], first: int) -> np.ndarray:
    """All epochs at which one of the traces rises, the epochs of the longest search, and `first`: ascending."""
    return np.unique([first, *np.concatenate([trace.epochs for trace in traces]), max(t.total for t in traces)])


def write_results(results: Sequence[TableResult], settings: dict, folder: Path) -> None:
    """Write simulation.json, hypervolume.png and hypervolume.svg; the same for the same results.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_figure(efficiency_figure(results), folder / "hypervolume")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder with --out") from None
    write_text(folder / "simulation.json", as_json(results, settings))
