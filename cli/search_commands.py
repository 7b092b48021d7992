"""search, resume, status."""

from __future__ import annotations

import logging
from pathlib import Path

import click


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--trials", type=click.IntRange(1), help="Candidates to train.  [default: the config's]")
@click.option("--workers", type=click.IntRange(1), help="Trials at the same time.  [default: as many as fit]")
@click.option("--sampler", help="ehvi, random, tpe, nsga2 or gp.  [default: the config's]")
@click.option("--prior", help="Learn from an earlier search: a run, a table, or none.  [default: the config's]")
@click.option("--stopping", help="pareto, mo-asha or none.  [default: the config's]")
@click.option("--seed", type=click.IntRange(0), help="Of the sampler and the trainings.  [default: the config's]")
@click.option("--data", "path", help="The images: an .npz file, a folder, or an archive.")
@click.option("--name", help="Of the run directory.  [default: the config's name and a number]")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Parent folder.")
@click.option("--address", help="Ray cluster: auto, ray://HOST:PORT, ...  [default: this machine]")
def search(
    config: Path,
    trials: int | None,
    workers: int | None,
    sampler: str | None,
    prior: str | None,
    stopping: str | None,
    seed: int | None,
    path: str | None,
    name: str | None,
    runs: Path,
    address: str | None,
) -> int:
    """Search the space that CONFIG describes, and write the report.

    Ctrl-C ends the search so that `mgnas resume` can continue it.
    """
    from ..search.data import load_dataset
    from ..search.run_directory import RunDirectory
    from ..search.search_config import SearchConfig
    from ..search.trainings import Trainings, shipped_tables

    _quieten()
    wanted = SearchConfig.load(config)
    if prior is not None and Path(prior).exists() and prior not in shipped_tables():
        prior = str(Path(prior).absolute())
    wanted = wanted.override(
        trials=trials,
        workers=workers,
        sampler=sampler,
        prior=prior,
        stopping=stopping,
        seed=seed,
        path=path and str(Path(path).absolute()),
    )
    if address is not None:
        from ..search.cluster import check_reachable

        check_reachable(address)
    # Before Ray starts: a missing file should not cost ten seconds and a worker's failure.
    load_dataset(wanted.data)
    wanted.search_space()
    if wanted.search.prior != "none":
        Trainings.load(wanted.search.prior)
    run = RunDirectory.create(wanted, runs, name)
    click.echo(f"Searching in {run.path}")
    return _run(run, address)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--trials", type=click.IntRange(1), help="New number of trials in all.")
@click.option("--workers", type=click.IntRange(1), help="New number of trials at the same time.")
@click.option("--address", help="Ray cluster: auto, ray://HOST:PORT, ...  [default: this machine]")
def resume(run: Path, trials: int | None, workers: int | None, address: str | None) -> int:
    """Go on with the search in RUN: after Ctrl-C, after a crash, or for more --trials."""
    from ..models.errors import UserError
    from ..search.data import load_dataset
    from ..search.run_directory import RunDirectory
    from ..search.searching import make_strategy
    from ..search.trial_record import TrialState

    _quieten()
    directory = RunDirectory(run)
    records = directory.load()
    if trials is not None and trials < len(records):
        raise UserError(f"--trials: {trials} is less than the {len(records)} trials that {run} has started already")
    directory.update_config(directory.config.override(trials=trials, workers=workers))
    enough = len(records) >= directory.config.search.trials
    running = any(record.state is TrialState.RUNNING for record in records)
    # Only then does it depend on who may be taken up again; the strategy's prior takes seconds to fit.
    if enough and not running and make_strategy(directory.config, directory.space, records).finished:
        click.echo(f"{run} has all its {len(records)} trials; add some with --trials.")
        return 0
    load_dataset(directory.config.data)
    click.echo(f"Resuming {run}")
    return _run(directory, address)


class _Echo(logging.Handler):
    """Log lines that are for the user."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.getMessage()[:1].upper()}{record.getMessage()[1:]}")


def _quieten() -> None:
    """Leave the terminal to the display: what goes wrong in a trial is in its record.

    Only the conversion of a data set, which may take half a minute, announces itself.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    conversion = logging.getLogger("mgnas.search.data_cache")
    conversion.setLevel(logging.INFO)
    if not conversion.handlers:
        conversion.addHandler(_Echo())


def _run(run, address: str | None) -> int:
    from ..reports.report import write_report
    from ..search.trial_record import TrialState
    from ..search.tuner import run_search
    from .main import INTERRUPTED
    from .progress import make_display, status_lines

    hint = f"mgnas resume {run.path}"
    try:
        progress = run_search(run, make_display, address)
    except KeyboardInterrupt:
        click.echo(f"Stopped at once. Continue with: {hint}")
        return INTERRUPTED
    page = write_report(run)
    if progress.count(TrialState.RUNNING):
        click.echo(f"Interrupted. Continue with: {hint}")
        return INTERRUPTED
    for line in status_lines(run.load(), run.config.search.trials, run.elapsed):
        click.echo(line)
    if len(progress.records) < progress.trials:
        click.echo("The space holds no further candidate.")
    click.echo(f"Report: {page}")
    click.echo(f"Choose: mgnas select {run.path} --prefer knee")
    return 0


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def status(run: Path) -> None:
    """Show where the search in RUN stands: trials, failures, the front so far."""
    from ..search.run_directory import RunDirectory
    from ..search.trial_record import TrialState
    from .progress import status_lines

    directory = RunDirectory(run)
    records = directory.load()
    for line in status_lines(records, directory.config.search.trials, directory.elapsed):
        click.echo(line)
    for record in records:
        if record.state is TrialState.FAILED:
            click.echo(f"trial {record.number} failed: {record.reason}")
        if record.state is TrialState.PAUSED:
            click.echo(f"trial {record.number} at {record.decisions[-1]}")
    if any(record.state is TrialState.RUNNING for record in records):
        click.echo(f"If nothing is searching there now, continue with: mgnas resume {run}")
