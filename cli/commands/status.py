"""status."""

from __future__ import annotations

from pathlib import Path

import click

from ..logging import configure_logging


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--study", help="Database server with the study, if you have not made the run.  [default: MGNAS_STUDY]")
def status(run: Path, study: str | None) -> None:
    """Show where the search in RUN stands: trials, failures, the front so far."""
    from mgnas.api import open_run
    from mgnas.errors import printable
    from mgnas.search.storage.run_lock import holder_of
    from mgnas.search.trial_record import TrialState

    from ..display import status_lines

    configure_logging()
    opened = open_run(run, study=study)
    trials = opened.trials
    for line in status_lines(trials, opened.config.search.trials, opened.elapsed):
        click.echo(line)
    if opened.largest_class is not None:
        name, share = opened.largest_class
        click.echo(f"Largest class: {printable(name)}, {100 * share:.2f} % of the validation images")
    for trial in trials:
        if trial.state is TrialState.FAILED:
            click.echo(f"trial {trial.number} failed: {printable(trial.reason)}")
        elif trial.decisions and (trial.state is TrialState.PAUSED or "checkpoint" in trial.decisions[-1]):
            click.echo(f"trial {trial.number} at {printable(trial.decisions[-1])}")
    for training in opened.unfinished:
        click.echo(f"Retraining: {training.in_words()}")
    holder = holder_of(opened.path)
    if holder is not None:
        click.echo(f"Searching there now: process {holder['pid']} on {printable(holder['host'])}")
    elif any(trial.state is TrialState.RUNNING for trial in trials):
        click.echo(f"Nothing is searching there now; continue with: mgnas resume {printable(run)}")
