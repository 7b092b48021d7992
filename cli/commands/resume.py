"""resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..logging import configure_logging
from ..options import gpus_option
from ..running import running_options, search_and_report


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@running_options
@gpus_option("the run's; another one is forced")
def resume(run: Path, address: str | None, study: str | None, **changes: Any) -> int:
    """Continue the search in RUN: after Ctrl-C, after a crash, or for more --trials.

    In RUN/config.yaml trials, until, focus, workers, time limit, storage and loggers may be changed, nothing that
    trials depend on. A search on GPUs continues on CPUs, or the reverse, only if --gpus-per-trial forces it.
    """
    from mgnas.errors import printable
    from mgnas.launch import is_finished, resumed_run
    from mgnas.reports.analysis.failures import in_a_sentence, nothing_complete
    from mgnas.reports.report import PAGE, report_folder, write_report
    from mgnas.search.data.dataset import load_dataset
    from mgnas.search.trial_record import completed_trials

    configure_logging()
    with resumed_run(run, study=study, **changes) as directory:
        if is_finished(directory):
            directory.store_config()
            records = directory.load()
            found_enough = len(records) < directory.config.search.trials
            why = "has found enough with" if found_enough else "has all"
            remedy = "go on with --until none" if found_enough else "add some with --trials"
            click.echo(f"{printable(run)} {why} its {len(records)} trials; {remedy}.")
            if not completed_trials(records):
                click.echo(in_a_sentence(nothing_complete(records)))
            if not (report_folder(directory) / PAGE).exists():
                # The process that searched was killed between the end of its last trial and the report.
                click.echo(f"Report: {printable(write_report(directory))}")
            return 0
        directory.check_data(load_dataset(directory.config.data))
        click.echo(f"Resuming {printable(run)}")
        return search_and_report(directory, address)
