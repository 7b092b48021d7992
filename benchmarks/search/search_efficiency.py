"""How many epochs a search needs to find the front: mgnas against its peers, and against itself with one part changed.

Searches are replayed on the shipped tables of trained networks (`mgnas simulate` does the same for a few strategies),
one thread each, judged by the mean accuracy over seeds:

    python benchmarks/search/search_efficiency.py [--searches ehvi tpe ...] [--seeds 40] [--minutes 8]

NAME+added is a table with the trainings that were added to it, in their wider space. Results on NAME and on NAME+added
cannot be compared: the second has another front, and more networks to find it among.

A search ends when it has 99 % of the table's hypervolume, or has trained all of it. Every finished replay is kept as a
line of results/search_efficiency.jsonl, so that a call with --minutes can be repeated until none is missing.
results/search_efficiency.md is written from these lines. `--fresh` drops the lines of the named searches first.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from pathlib import Path
from typing import Any

from compared import COMPARED
from efficiency_report import GRID, markdown
from peers import is_installed

from mgnas.files import write_text
from mgnas.reports.simulation.efficiency import SHARES
from mgnas.reports.simulation.scoring import HypervolumeScorer, until_share
from mgnas.search.history.past_trainings import shipped_tables
from mgnas.search.history.table import TabularBenchmark
from mgnas.search.simulation.replay_pool import ReplayOptions, ReplayPool
from mgnas.search.simulation.simulator import Replay

RESULTS = Path(__file__).parents[1] / "results" / "search_efficiency.md"
STORED = RESULTS.with_suffix(".jsonl")

Results = dict[str, dict[str, dict[str, Any]]]
"""Table -> search -> seed -> the figures of that replay."""


def missing(
    results: Results, tables: list[TabularBenchmark], names: list[str], seeds: int
) -> Iterator[tuple[int, str, int]]:
    """(index of the table, search, seed) of each replay that is not among the results; by seeds, of all searches."""
    for seed in range(seeds):
        for name in names:
            for index, table in enumerate(tables):
                if seed < COMPARED[name].seeds and str(seed) not in results[table.name][name]:
                    yield index, name, seed


def run_missing(results: Results, tables: list[TabularBenchmark], options: argparse.Namespace) -> None:
    """Replay what is not among the results yet, until the minutes are over; replays that run then still end."""
    deadline = time.monotonic() + 60 * options.minutes
    judges = [HypervolumeScorer(table) for table in tables]
    work = missing(results, tables, options.searches, options.seeds)
    with ReplayPool(tables, options.jobs) as pool:
        running: dict[Future[Replay], tuple[int, str, int]] = {}
        while True:
            while len(running) < 2 * options.jobs and time.monotonic() < deadline and (task := next(work, None)):
                index, name, seed = task
                search = COMPARED[name]
                until = search.trainings and search.trainings * tables[index].epochs
                replayed = ReplayOptions(search.workers, until, partial(until_share, max(SHARES)))
                running[pool.submit(index, search.factory, seed, replayed)] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index, name, seed = running.pop(future)
                searches = results[tables[index].name][name]
                searches[str(seed)] = figures(judges[index], future.result())
                keep(tables[index].name, name, seed, searches[str(seed)])
                print(f"{tables[index].name}: {name}: {len(searches)} searches", flush=True)


def figures(judge: HypervolumeScorer, replay: Replay) -> dict[str, Any]:
    """What is kept of a replay: epochs until each share, all epochs, trials, shares after each of GRID trainings."""
    trace = judge.trace(replay)
    shares = trace.at(judge.table.epochs * GRID)
    return {
        "until": [trace.epochs_until(share) for share in SHARES],
        "epochs": replay.epochs,
        "trials": replay.trials,
        "pauses": replay.pauses,
        "final": round(trace.final, 4),
        "shares": [round(float(share), 4) for share in shares],
    }


def keep(table: str, name: str, seed: int, entry: dict[str, Any]) -> None:
    """Append a search; several processes may do so at the same time."""
    with STORED.open("a") as file:
        file.write(json.dumps([table, name, seed, entry]) + "\n")


def load_table(name: str) -> TabularBenchmark:
    """The shipped table of that name, with what was added to it if the name ends in `+added`."""
    table = TabularBenchmark.load(shipped_tables()[name.removesuffix("+added")])
    return table.extended() if name.endswith("+added") else table


def load(tables: list[TabularBenchmark]) -> Results:
    results: Results = {table.name: {name: {} for name in COMPARED} for table in tables}
    for line in STORED.read_text().splitlines() if STORED.exists() else []:
        table, name, seed, entry = json.loads(line)
        results.setdefault(table, {}).setdefault(name, {})[str(seed)] = entry
    return results


def forget(tables: list[str], names: list[str]) -> None:
    """Drop the results of these searches on these tables."""
    if STORED.exists():
        lines = [line for line in STORED.read_text().splitlines() if not _is_of(json.loads(line), tables, names)]
        write_text(STORED, "".join(f"{line}\n" for line in lines))


def _is_of(line: list, tables: list[str], names: list[str]) -> bool:
    return line[0] in tables and line[1] in names


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    installed = list(filter(is_installed, COMPARED))
    parser.add_argument("--searches", nargs="+", choices=COMPARED, default=installed, metavar="SEARCH")
    names = [*shipped_tables(), *(f"{name}+added" for name in shipped_tables())]
    parser.add_argument("--tables", nargs="+", choices=names, default=list(shipped_tables()))
    parser.add_argument("--seeds", type=int, default=40, help="slow peers have fewer, see compared.py")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--fresh", action="store_true", help="forget the results of these searches and tables first")
    options = parser.parse_args()
    if not set(options.searches) <= set(installed):
        parser.error("--searches: Syne Tune is not installed; see benchmarks/README.md")
    RESULTS.parent.mkdir(exist_ok=True)
    tables = [load_table(name) for name in options.tables]
    if options.fresh:
        forget(options.tables, options.searches)
    results = load(tables)
    run_missing(results, tables, options)
    text = markdown(results, tables)
    write_text(RESULTS, text)
    print(text)


if __name__ == "__main__":
    main()
