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
@click.option(
    "--try",
    "tried",
    type=click.Path(path_type=Path),
    help="A YAML file with the parameters of the first trials: a mapping, or `networks:` with a list of mappings.",
)
@click.option("--name", help="Name of the run directory.  [default: the config's name and a number]")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Parent folder.")
def search(
    config: Path,
    tried: Path | None,
    name: str | None,
    runs: Path,
    address: str | None,
    study: str | None,
    **changes: Any,
) -> int:
    """Search the space that CONFIG describes, and write the report.

    Ctrl-C ends the search so that `mgnas resume` can continue it.
    """
    from mgnas.errors import printable
    from mgnas.launch import configured, new_run

    configure_logging()
    enqueue = [] if tried is None else _networks(tried)
    wanted = configured(config, **changes)
    with new_run(wanted, runs, name, address=address, study=study, enqueue=enqueue) as directory:
        click.echo(f"Searching in {printable(directory.path)}")
        return search_and_report(directory, address)


def _networks(file: Path) -> list[Any]:
    """The parameters in a file of --try.

    Raises:
        UserError: the file cannot be read, or is empty.
    """
    from mgnas.errors import ConfigError
    from mgnas.files import read_yaml

    content = read_yaml(file)
    if "networks" not in content:
        return [content]
    networks = content["networks"]
    if not isinstance(networks, list) or not networks or len(content) > 1:
        raise ConfigError("networks", "expected a list of mappings, and no other key beside it", str(file))
    return networks
