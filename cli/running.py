"""What `search` and `resume` share: their options, and the search itself with what it says at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from .exit_codes import INTERRUPTED, STOPPED

if TYPE_CHECKING:
    from mgnas.search.storage.run_directory import RunDirectory


def running_options(command: Callable) -> Callable:
    """Decorator: where and how to run, which does not change what a trial means."""
    for option in (
        click.option("--trials", type=click.IntRange(1), help="Candidates to train in all.  [default: the config's]"),
        click.option(
            "--until", help="End when the next 20 trials would add less than this: 0.5%.  [default: the config's]"
        ),
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


def search_and_report(directory: RunDirectory, address: str | None) -> int:
    """Search in a run whose lock has been taken, write its report, and say what to do next; returns the exit code."""
    from mgnas.errors import printable
    from mgnas.launch import found_enough, search
    from mgnas.reports.analysis.failures import in_a_sentence, nothing_complete
    from mgnas.reports.report import write_report
    from mgnas.search.trial_record import TrialState

    from .display import make_display, status_lines

    hint = f"mgnas resume {printable(directory.path)}"
    try:
        progress = search(directory, make_display, address)
    except KeyboardInterrupt:
        click.echo(f"Stopped at once. Continue with: {hint}")
        return INTERRUPTED
    page = write_report(directory)
    if progress.count(TrialState.RUNNING):
        click.echo(f"Interrupted. Continue with: {hint}")
        return INTERRUPTED
    for line in status_lines(directory.load(), directory.config.search.trials, directory.elapsed):
        click.echo(line)
    if found_enough(directory):
        click.echo(
            f"Found enough: further trials would add less than search.until wants. Go on with: {hint} --until none"
        )
    elif len(progress.records) < progress.n_trials:
        click.echo("The space holds no further candidate.")
    click.echo(f"Report: {printable(page)}")
    if not progress.count(TrialState.COMPLETE):
        click.echo(in_a_sentence(nothing_complete(progress.records)))
        return STOPPED
    click.echo(f"Choose: mgnas select {printable(directory.path)} --prefer knee")
    return 0
