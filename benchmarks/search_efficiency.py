"""How many epochs a search needs to find the front: mgnas against its peers and against itself with parts left out.

Searches are replayed on the shipped tables of trained networks (`mgnas simulate` does the same for a few strategies),
one thread each, judged by the mean accuracy over seeds:

    python benchmarks/search_efficiency.py [--seeds 40] [--workers 1] [--strategies ehvi tpe] [--minutes 30]

Every replay that has ended is kept in results/search_efficiency.json, so that a call with --minutes can be repeated
until all are there; results/search_efficiency.md is written from what is there. A search is cut off after as
many epochs as --trials whole trainings take. `other prior` is the other data set's table, `shuffled` the same with
its accuracies permuted among the architectures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import botorch
import numpy as np
import optuna
import torch
from peers import PEERS

from mgnas.models.settings import write_text
from mgnas.reports.efficiency import SHARES
from mgnas.reports.scoring import Judge, quartiles
from mgnas.search.prior import Prior
from mgnas.search.replays import STRATEGIES, StrategyFactory, replay_all
from mgnas.search.samplers import make_sampler
from mgnas.search.stopping import make_stopping
from mgnas.search.strategy import Strategy
from mgnas.search.table import Table
from mgnas.search.trainings import Trainings, shipped_tables
from mgnas.space.search_space import SearchSpace

RESULTS = Path(__file__).parent / "results" / "search_efficiency"
BASE = "ehvi, other prior"
"""What mgnas does by default; all others are compared with it."""

_RESAMPLED = 2000


@lru_cache
def _other(name: str) -> tuple[Trainings, Prior]:
    """The trainings of another shipped table than that of this name, and their model; once in a process."""
    trainings = Trainings.load(next(other for other in shipped_tables() if other != name))
    return trainings, trainings.prior()


def with_prior(
    table: Table, space: SearchSpace, seed: int, *, shuffled: bool = False, stopping: str = "none"
) -> Strategy:
    """ehvi with what the other table knows."""
    trainings, prior = _other(table.name)
    if shuffled:
        prior = prior.shuffled(seed)
    rule = make_stopping(stopping, space.training.epochs, trainings.curves)
    sampler = make_sampler("ehvi", seed, space, prior)
    return Strategy(space, sampler, trials=len(table.by_id), seed=seed, stopping=rule)


COMPARED: dict[str, StrategyFactory] = {
    BASE: with_prior,
    "ehvi": STRATEGIES["ehvi"],
    "ehvi, shuffled prior": partial(with_prior, shuffled=True),
    "ehvi, other prior, pausing": partial(with_prior, stopping="pareto"),
    "ehvi, pausing": STRATEGIES["ehvi+pausing"],
    "ehvi, mo-asha": STRATEGIES["ehvi+mo-asha"],
    "random": STRATEGIES["random"],
    "tpe": STRATEGIES["tpe"],
    "nsga2": STRATEGIES["nsga2"],
    "gp": STRATEGIES["gp"],
    "tpe as it is": PEERS["tpe-raw"],
    "nsga2 as it is": PEERS["nsga2-raw"],
    "gp as it is": PEERS["gp-raw"],
}
"""Optuna's samplers stand behind mgnas's no-repeat layer, or as they are, where a repeated proposal costs again."""


def run_missing(known: dict[str, Any], tables: Iterable[Table], options: argparse.Namespace) -> None:
    """Replay what is not among the results yet, a few seeds at a time, until the minutes are over."""
    deadline = time.monotonic() + 60 * options.minutes
    for name in options.strategies:
        for table in tables:
            judge = Judge(table)
            searches = known.setdefault(table.name, {}).setdefault(_key(name, options), {})
            missing = [seed for seed in range(options.seeds) if str(seed) not in searches]
            while missing and time.monotonic() < deadline:
                some, missing = missing[: 10 * options.jobs], missing[10 * options.jobs :]
                searches.update(_replayed(judge, COMPARED[name], some, options))
                _save(known)
                print(f"{table.name}: {name}: {len(searches)} of {options.seeds} searches", flush=True)


def _key(name: str, options: argparse.Namespace) -> str:
    return f"{name} | {options.workers} workers, {options.trials} trials"


def _replayed(judge: Judge, factory: StrategyFactory, seeds: list[int], options: argparse.Namespace) -> dict[str, Any]:
    until = options.trials * judge.table.epochs
    (found,) = replay_all([judge.table], {"": factory}, seeds, options.workers, until, options.jobs)
    entries = {}
    for seed, replay in zip(seeds, found[""], strict=True):
        trace = judge.trace(replay)
        epochs = {f"{share:g}": trace.epochs_until(share) for share in SHARES}
        entries[str(seed)] = {"epochs": epochs, "final": round(trace.final, 5), "trials": replay.trials}
    return entries


def _save(known: dict[str, Any]) -> None:
    write_text(RESULTS.with_suffix(".json"), json.dumps(known, indent=1) + "\n")


def ratio(slower: list[float], faster: list[float], statistic: Callable = np.median) -> tuple[float, float, float]:
    """Of the medians, with a bootstrap interval of 95 %: (ratio, low, high). What did not arrive is infinite."""
    rng = np.random.default_rng(0)

    def of(a: np.ndarray, b: np.ndarray) -> float:
        above, below = statistic(a), statistic(b)
        return above / below if math.isfinite(below) else math.nan

    draws = [of(rng.choice(slower, len(slower)), rng.choice(faster, len(faster))) for _ in range(_RESAMPLED)]
    low, high = np.quantile(np.nan_to_num(draws, nan=0.0, posinf=math.inf), [0.025, 0.975], method="nearest")
    return of(np.array(slower), np.array(faster)), float(low), float(high)


def markdown(known: dict[str, Any], tables: Iterable[Table], options: argparse.Namespace) -> str:
    """Per table: epochs until each share, the share of searches that arrived, and the ratio to what mgnas does."""
    lines = []
    for table in tables:
        judge = Judge(table)
        oracle = judge.oracle()
        weights, accuracy = 10 ** judge.reference[0], 100 * judge.reference[1]
        lines += [
            f"## {table.name}: {len(judge.points)} architectures, {table.epochs} epochs each",
            "",
            f"Hypervolume from {weights:,.0f} weights at {accuracy:.2f} %. Epochs until a share of it, median "
            f"(quartiles) of searches of {options.trials} whole trainings on {options.workers} simulated workers; in "
            f"brackets how many got there; x: the median over that of `{BASE}`, "
            "with a bootstrap interval of 95 %.",
            "",
            "| search | " + " | ".join(f"{100 * share:g} % | x" for share in SHARES) + " | share at the end |",
            "|---|" + "---|" * (2 * len(SHARES) + 1),
        ]
        found = {name: known.get(table.name, {}).get(_key(name, options), {}) for name in COMPARED}
        base = found[BASE].values()
        for name, searches in found.items():
            if searches:
                lines.append(f"| {name} | " + " | ".join(_cells(list(searches.values()), list(base))) + " |")
        bound = " | | ".join(str(oracle.epochs_until(share)) for share in SHARES)
        lines += [f"| oracle that knows the truth | {bound} | | |", ""]
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, botorch {botorch.__version__}"
    flags = f"--seeds {options.seeds} --trials {options.trials} --workers {options.workers}"
    lines.append(f"{versions}, optuna {optuna.__version__}. Command: `python benchmarks/search_efficiency.py {flags}`.")
    return "\n".join(lines) + "\n"


def _cells(searches: list[dict], base: list[dict]) -> list[str]:
    cells = []
    for share in SHARES:
        epochs, reference = (
            [math.inf if entry["epochs"][f"{share:g}"] is None else entry["epochs"][f"{share:g}"] for entry in entries]
            for entries in (searches, base)
        )
        low, middle, high = (_number(value) for value in quartiles(epochs))
        arrived = sum(map(math.isfinite, epochs))
        cells.append(f"{middle} ({low} to {high}) [{arrived} of {len(epochs)}]")
        factor, least, most = ratio(epochs, reference) if reference else (math.nan,) * 3
        cells.append("" if math.isnan(factor) else f"{_factor(factor)} ({_factor(least)} to {_factor(most)})")
    final = quartiles([entry["final"] for entry in searches])
    return [*cells, f"{100 * final[1]:.1f} %"]


def _number(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "-"


def _factor(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategies", nargs="+", choices=COMPARED, default=list(COMPARED), metavar="STRATEGY")
    parser.add_argument("--tables", nargs="+", choices=shipped_tables(), default=list(shipped_tables()))
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--workers", type=int, default=1, help="simulated")
    parser.add_argument("--trials", type=int, default=80, help="whole trainings after which a search is cut off")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    options = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    stored = RESULTS.with_suffix(".json")
    known = json.loads(stored.read_text()) if stored.exists() else {}
    tables = [Table.load(shipped_tables()[name]) for name in options.tables]
    run_missing(known, tables, options)
    text = markdown(known, tables, options)
    write_text(RESULTS.with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
