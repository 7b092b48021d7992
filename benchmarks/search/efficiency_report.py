"""The figures of search_efficiency.py as Markdown."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from bounds import informed_oracle
from compared import BASE, COMPARED, WITHOUT_ADDED

from mgnas.reports.simulation.efficiency import SHARES
from mgnas.reports.simulation.scoring import HypervolumeScorer, quartiles
from mgnas.search.history.table import TabularBenchmark

GRID = np.array([5, 10, 20, 30, 40, 60, 80, 120, 160, 240])
"""Whole trainings after which the shares of searches are compared."""
_RESAMPLED = 2000

Entries = dict[str, dict[str, Any]]
"""Seed -> the figures of its replay."""


def epochs(searches: Entries, share: float) -> list[float]:
    """Epochs of each search until the share; infinite for a search that did not reach it."""
    until = [entry["until"][SHARES.index(share)] for entry in searches.values()]
    return [math.inf if epochs is None else float(epochs) for epochs in until]


def ratio(above: Sequence[float], below: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of the medians with a bootstrap interval of 95 %: (ratio, low, high).

    The ratio is infinite if only the upper median is, 0 if only the lower one is, nan if both are.
    """
    rng = np.random.default_rng(0)

    def of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        top, bottom = _median(a), _median(b)
        with np.errstate(invalid="ignore"):
            return top / bottom

    draws = of(
        rng.choice(np.asarray(above), (_RESAMPLED, len(above))), rng.choice(np.asarray(below), (_RESAMPLED, len(below)))
    )
    finite = draws[~np.isnan(draws)]
    low, high = np.quantile(finite, [0.025, 0.975], method="nearest") if len(finite) else (math.nan, math.nan)
    return float(of(np.array([above]), np.array([below]))[0]), float(low), float(high)


def _median(rows: np.ndarray) -> np.ndarray:
    """Median of each row; infinite if one of its middle values is."""
    ordered = np.sort(rows, axis=1)
    middle = rows.shape[1] // 2
    return ordered[:, middle] if rows.shape[1] % 2 else (ordered[:, middle - 1] + ordered[:, middle]) / 2


def markdown(results: dict[str, dict[str, Entries]], tables: Sequence[TabularBenchmark]) -> str:
    """Per table: epochs until each share with the ratios to those of BASE, and which targets are met."""
    lines = []
    for table in tables:
        lines += [*_epochs_table(results[table.name], table), *_targets(results[table.name]), ""]
    lines.append(f"{versions()}. Command: `python benchmarks/search/search_efficiency.py`.")
    return "\n".join(lines) + "\n"


def versions() -> str:
    """Of Python and of what is installed of that which computes."""
    packages = [f"{name} {version(name)}" for name in ("torch", "optuna", "botorch", "syne-tune") if _has(name)]
    return ", ".join([f"Python {platform.python_version()}", *packages])


def _has(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _epochs_table(by_search: dict[str, Entries], table: TabularBenchmark) -> list[str]:
    judge = HypervolumeScorer(table)
    oracle = judge.oracle()
    weights, accuracy = 10 ** judge.reference[0], 100 * judge.reference[1]
    lines = [
        f"## {table.name}: {len(judge.points)} architectures, {table.epochs} epochs each",
        "",
        f"Hypervolume from {weights:,.0f} weights at {accuracy:.2f} %. Epochs until a share of it: median (quartiles) "
        f"[searches that got there]; x: the median over that of `{BASE}`, with a bootstrap interval of 95 %. A dash: "
        "not reached by half of the searches.",
        "",
        "| search | n | " + " | ".join(f"{100 * share:g} % | x" for share in SHARES) + " |",
        "|---|---:|" + "---|" * (2 * len(SHARES)),
    ]
    for name in COMPARED:
        searches = by_search.get(name, {})
        if searches:
            cut = f", cut at {COMPARED[name].trainings}" if COMPARED[name].trainings else ""
            lines.append(f"| {name}{cut} | {len(searches)} | {' | '.join(_cells(searches, by_search[BASE]))} |")
    bound = " | ".join(f"{oracle.epochs_until(share)} | {_bound(oracle, by_search[BASE], share)}" for share in SHARES)
    informed = " | ".join(f"{n} |" for n in informed_oracle(table))
    lines.append(f"| informed oracle (bounds.py) | | {informed}")
    return [*lines, f"| oracle that knows the truth | | {bound} |", ""]


def _bound(oracle, base: Entries, share: float) -> str:
    return number(oracle.epochs_until(share) / np.median(epochs(base, share)), 2) if base else ""


def _cells(searches: Entries, base: Entries) -> list[str]:
    cells = []
    for share in SHARES:
        until = epochs(searches, share)
        low, middle, high = (number(value) for value in quartiles(until))
        cells.append(f"{middle} ({low} to {high}) [{sum(map(math.isfinite, until))}]")
        cells.append(_ratio(until, epochs(base, share)) if base else "")
    return cells


def _ratio(above: Sequence[float], below: Sequence[float]) -> str:
    factor, low, high = (number(value, 2) for value in ratio(above, below))
    return "" if factor == "nan" else f"{factor} ({low} to {high})"


def number(value: float, digits: int = 0) -> str:
    if math.isnan(value):
        return "nan"
    return f"{value:,.{digits}f}" if math.isfinite(value) else "-"


def _targets(by_search: dict[str, Entries]) -> list[str]:
    """The targets: each a ratio of medians, with its interval."""
    lines = ["", "| target | measured |", "|---|---|"]

    def line(text: str, above: str, below: str, share: float, most: float) -> None:
        a, b = by_search.get(above), by_search.get(below)
        if a and b:
            factor, low, high = ratio(epochs(a, share), epochs(b, share))
            verdict = "" if math.isnan(factor) else "met" if factor <= most else "missed"
            interval = f"{number(factor, 2)} ({number(low, 2)} to {number(high, 2)})"
            lines.append(f"| {text}, {100 * share:g} %: at most {most:.2f} | {interval} {verdict} |")

    for share in (0.9, 0.95):
        line("against TPE as it is", BASE, "tpe as it is", share, 1 / 5)
    for share, most in ((0.9, 1 / 2), (0.95, 1 / 2), (0.99, 1 / 1.5)):
        best = best_peer(by_search, share)
        line(f"against the best peer behind the no-repeat layer ({best})", BASE, best, share, most)
    line("against random", BASE, "random", 0.95, 1 / 3)
    line("with the other table as prior against none", BASE, "ehvi", 0.9, 1 / 2)
    for share in SHARES:
        line("with a shuffled prior against none", "ehvi, shuffled prior", "ehvi", share, 1.2)
    for share in SHARES:
        line("with what was added to the prior against without", BASE, WITHOUT_ADDED, share, 1.05)
    for share in SHARES:
        line("8 workers against 1", "ehvi, other prior, 8 workers", BASE, share, 1.5)
    for name in (BASE, "ehvi", "ehvi, other prior, pausing", "ehvi, pausing"):
        if by_search.get(name):
            arrived = sum(map(math.isfinite, epochs(by_search[name], SHARES[-1])))
            lines.append(f"| {name}: every seed reaches {100 * SHARES[-1]:g} % | {arrived} of {len(by_search[name])} |")
    if by_search.get(BASE) and by_search.get("random"):
        lines += _against_random(by_search)
    return lines


def best_peer(by_search: dict[str, Entries], share: float) -> str:
    """The peer with the smallest median."""
    peers = [name for name in ("random", "tpe", "nsga2", "gp", "botorch qLogNEHVI") if by_search.get(name)]
    return min(peers, key=lambda name: quartiles(epochs(by_search[name], share))[1], default="")


def _against_random(by_search: dict[str, Entries]) -> list[str]:
    """Number of searches below random ones at equal epochs: below that of the same seed at the end, below the median
    before. A search ends at 99 %, so that random ones count as 99 % from there on.
    """
    own, random = by_search[BASE], np.array([entry["shares"] for entry in by_search["random"].values()])
    middle = np.minimum(np.median(random, axis=0), SHARES[-1])
    shares = np.array([entry["shares"] for entry in own.values()])
    pairs = [(entry, by_search["random"][seed]) for seed, entry in own.items() if seed in by_search["random"]]
    worse = sum(entry["shares"][-1] < min(other["shares"][-1], SHARES[-1]) for entry, other in pairs)
    below = ", ".join(f"{count} after {n}" for n, count in zip(GRID, (shares < middle).sum(axis=0), strict=True))
    return [
        f"| none ends below random at equal epochs | {worse} of {len(pairs)} below that of the same seed |",
        f"| below the median of random after so many trainings | {below} |",
    ]
