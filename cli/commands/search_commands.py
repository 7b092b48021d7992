"""search, resume, status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..logging import configure_logging


def _running_options(command: Callable) -> Callable:
    """What `search` and `resume` both take: where and how to run, which changes nothing that a trial means."""
    for option in (
        click.option("--trials", type=click.IntRange(1), help="Candidates to train in all.  [default: the config's]"),
        click.option("--workers", type=click.IntRange(1), help="Trials at the same time, at most.  [default: all fit]"),
        click.option("--time-limit", type=click.FloatRange(1), help="Seconds that a trial may take.  [default: none]"),
        click.option("--address", help="Ray cluster: auto, HOST:PORT, ray://HOST:PORT.  [default: this machine]"),
        click.option("--storage", help="Folder or address all nodes reach, for checkpoints.  [default: the run]"),
        click.option(
            "--study",
            envvar="MGNAS_STUDY",
            help="Database server for the study: postgresql://USER@HOST/DATABASE.  [default: SQLite in the run]",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@_running_options
@click.option("--sampler", help="ehvi, random, tpe, nsga2 or gp.  [default: the config's]")
@click.option("--prior", help="Learn from an earlier search: a run, a table, or none.  [default: the config's]")
@click.option("--stopping", help="pareto or none.  [default: the config's]")
@click.option("--seed", type=click.IntRange(0), help="Of the sampler and the trainings.  [default: the config's]")
@click.option("--cpus-per-trial", type=click.IntRange(1), help="Cores of a trial.  [default: the config's]")
@click.option("--gpus-per-trial", type=click.FloatRange(0), help="0.25: four on one GPU.  [default: the config's]")
@click.option("--data", "path", help="The images: an .npz file, a folder, or an archive.")
@click.option("--name", help="Of the run directory.  [default: the config's name and a number]")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Parent folder.")
def search(config: Path, name: str | None, runs: Path, address: str | None, study: str | None, **changes: Any) -> int:
    """Search the space that CONFIG describes, and write the report.

    Ctrl-C ends the search so that `mgnas resume` can continue it.
    """
    from ...search.config import SearchConfig
    from ...search.data.dataset import load_dataset
    from ...search.history.past_trainings import TaskEvaluations, shipped_tables
    from ...search.storage.run_directory import RunDirectory

    configure_logging()
    prior = changes["prior"]
    if prior is not None and prior not in shipped_tables() and Path(prior).exists():
        changes["prior"] = str(Path(prior).absolute())
    wanted = SearchConfig.load(config).override(**_absolute(changes))
    # Before Ray starts: a missing file should not cost ten seconds and a worker's failure.
    dataset = load_dataset(wanted.data)
    wanted.search_space()
    if wanted.search.prior != "none":
        TaskEvaluations.load(wanted.search.prior)
    if address is not None:
        from ...search.tuner.cluster import check_reachable

        check_reachable(address)
    run = RunDirectory.create(wanted, runs, name, study)
    with run.lock:
        run.check_data(dataset)
        click.echo(f"Searching in {run.path}")
        return _run(run, address)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@_running_options
def resume(run: Path, address: str | None, study: str | None, **changes: Any) -> int:
    """Go on with the search in RUN: after Ctrl-C, after a crash, or for more --trials.

    In RUN/config.yaml trials, workers, time limit, storage and loggers may be changed, nothing that trials depend on.
    """
    from mgnas.errors import UserError

    from ...reports.report import PAGE, report_folder, write_report
    from ...search.data.dataset import load_dataset
    from ...search.storage.run_directory import RunDirectory
    from ...search.strategy.factory import make_strategy
    from ...search.trial_record import TrialState

    configure_logging()
    with RunDirectory.open_for_resume(run, study) as directory:
        records = directory.load()
        trials = changes["trials"]
        if trials is not None and trials < len(records):
            raise UserError(f"--trials: {trials} is less than the {len(records)} trials that {run} has started already")
        directory.update_config(directory.config.override(**_absolute(changes)))
        enough = len(records) >= directory.config.search.trials
        running = any(record.state is TrialState.RUNNING for record in records)
        # Only then does it depend on who may be taken up again; the strategy's prior takes seconds to fit.
        if enough and not running and make_strategy(directory.config, directory.space, records).finished:
            click.echo(f"{run} has all its {len(records)} trials; add some with --trials.")
            if not (report_folder(directory) / PAGE).exists():
                # The driver was killed between the end of its last trial and the report.
                click.echo(f"Report: {write_report(directory)}")
            return 0
        directory.check_data(load_dataset(directory.config.data))
        click.echo(f"Resuming {run}")
        return _run(directory, address)


def _absolute(changes: dict[str, Any]) -> dict[str, Any]:
    """Options that name files, as they are called from everywhere."""
    found = dict(changes)
    for name in ("path", "storage"):
        value = found.get(name)
        if value is not None and "://" not in value:
            found[name] = str(Path(value).absolute())
    return found


def _run(run, address: str | None) -> int:
    from ...reports.report import write_report
    from ...search.trial_record import TrialState
    from ...search.tuner.ray_tune import run_search
    from ..display import make_display, status_lines
    from ..exit_codes import INTERRUPTED

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
    if len(progress.records) < progress.n_trials:
        click.echo("The space holds no further candidate.")
    click.echo(f"Report: {page}")
    click.echo(f"Choose: mgnas select {run.path} --prefer knee")
    return 0


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def status(run: Path) -> None:
    """Show where the search in RUN stands: trials, failures, the front so far."""
    from ...search.storage.run_directory import RunDirectory
    from ...search.storage.run_lock import holder_of
    from ...search.trial_record import TrialState
    from ..display import status_lines

    configure_logging()
    directory = RunDirectory(run)
    records = directory.load()
    for line in status_lines(records, directory.config.search.trials, directory.elapsed):
        click.echo(line)
    for record in records:
        if record.state is TrialState.FAILED:
            click.echo(f"trial {record.number} failed: {record.reason}")
        elif record.decisions and (record.state is TrialState.PAUSED or "checkpoint" in record.decisions[-1]):
            click.echo(f"trial {record.number} at {record.decisions[-1]}")
    holder = holder_of(directory.path)
    if holder is not None:
        click.echo(f"Searching there now: process {holder['pid']} on {holder['host']}")
    elif any(record.state is TrialState.RUNNING for record in records):
        click.echo(f"Nothing is searching there now; continue with: mgnas resume {run}")
