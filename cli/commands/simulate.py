"""simulate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mgnas.search.history.table import TabularBenchmark


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...")
@click.option(
    "--strategy",
    "strategies",
    default="random,tpe,ehvi",
    show_default=True,
    help="Searches to compare, separated by commas.",
)
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="Searches of each strategy.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Simulated workers.")
@click.option("--epochs", type=click.IntRange(1), help="Cut each search off there.  [default: never]")
@click.option("--surrogate", is_flag=True, help="Extend each table to its whole space by a model fitted to it.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("simulation"), show_default=True, help="Folder.")
@click.option("--jobs", type=click.IntRange(1), help="Processes.  [default: the machine's cores]")
def simulate(
    tables: tuple[str, ...],
    strategies: str,
    seeds: int,
    workers: int,
    epochs: int | None,
    surrogate: bool,
    out: Path,
    jobs: int | None,
) -> None:
    """Replay searches on TABLEs of trained networks: how many epochs does each strategy need?

    A TABLE is a file, or the name of one that comes with mgnas (digits, cifar10). Prints epochs until 90, 95 and 99 %
    of the table's hypervolume; writes simulation.json and hypervolume.png and .svg.
    """
    from mgnas.machine import usable_cores
    from mgnas.reports.simulation.efficiency import TableResult, as_text, write_results
    from mgnas.reports.simulation.scoring import HypervolumeScorer
    from mgnas.search.simulation.replay_pool import ReplayOptions, find_strategies, replay_all

    names = list(dict.fromkeys(name.strip() for name in strategies.split(",")))
    chosen = find_strategies(names)
    benchmarks = [_load(table) for table in tables]
    if surrogate:
        from mgnas.search.simulation.surrogate import surrogate_table  # It brings torch.

        benchmarks = [surrogate_table(benchmark) for benchmark in benchmarks]
    scorers = [HypervolumeScorer(benchmark) for benchmark in benchmarks]
    n_searches = len(benchmarks) * len(chosen) * seeds
    with click.progressbar(length=n_searches, label="Replaying", file=sys.stderr) as bar:
        options, n_jobs = ReplayOptions(workers, epochs), jobs or usable_cores()
        replays = replay_all(benchmarks, chosen, range(seeds), options, n_jobs, lambda: bar.update(1))
    results = [TableResult.of(scorer, searches) for scorer, searches in zip(scorers, replays, strict=True)]
    for result in results:
        click.echo(as_text(result) + "\n")
    settings = {"strategies": names, "seeds": seeds, "workers": workers, "epochs": epochs}
    write_results(results, settings, out)
    click.echo(f"Written: {out}/simulation.json, {out}/hypervolume.png and .svg")


def _load(name: str) -> TabularBenchmark:
    """The table in that file, or the shipped one of that name."""
    from mgnas.errors import UserError
    from mgnas.search.history.past_trainings import shipped_tables
    from mgnas.search.history.table import TabularBenchmark

    shipped = shipped_tables()
    if name not in shipped and not Path(name).is_file():
        raise UserError(f"{name}: no such file, nor a table that comes with mgnas ({', '.join(shipped)})")
    return TabularBenchmark.load(shipped.get(name, name))
