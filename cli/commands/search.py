"""search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..logging import configure_logging
from ..options import gpus_option
from ..running import running_options, search_and_report


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@running_options
@click.option("--sampler", help="ehvi, random, tpe, nsga2 or gp.  [default: the config's]")
@click.option("--prior", help="Learn from an earlier search: a run, a table, or none.  [default: the config's]")
@click.option("--stopping", help="pareto or none.  [default: the config's]")
@click.option("--seed", type=click.IntRange(0), help="Seed of the sampler and the trainings.  [default: the config's]")
@click.option("--cpus-per-trial", type=click.IntRange(1), help="Cores of a trial.  [default: the config's]")
@gpus_option("the config's")
@click.option("--data", "path", help="The images: an .npz file, a folder, or an archive.")
@click.option("--name", help="Name of the run directory.  [default: the config's name and a number]")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Parent folder.")
def search(config: Path, name: str | None, runs: Path, address: str | None, study: str | None, **changes: Any) -> int:
    """Search the space that CONFIG describes, and write the report.

    Ctrl-C ends the search so that `mgnas resume` can continue it.
    """
    from mgnas.launch import configured, new_run

    configure_logging()
    with new_run(configured(config, **changes), runs, name, address=address, study=study) as directory:
        click.echo(f"Searching in {directory.path}")
        return search_and_report(directory, address)
