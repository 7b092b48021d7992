"""retrain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..logging import configure_logging
from ..options import execution_options, gpus_option, selection_options

if TYPE_CHECKING:
    from mgnas.reports.analysis.select import Preference
    from mgnas.run import Run
    from mgnas.search.trial_record import CompletedTrial


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--front", is_flag=True, help="All networks of the Pareto front.")
@click.option(
    "--select", "selected", is_flag=True, help="The network that `mgnas select` chooses with the limits below."
)
@click.option(
    "--trial",
    "trials",
    type=click.IntRange(0),
    multiple=True,
    help="The network of this trial; may be given repeatedly.",
)
@click.option(
    "--doubtful",
    type=click.IntRange(1),
    help="This number of networks: those whose training decides most about which ones belong to the front.",
)
@selection_options
@click.option("--seeds", type=click.IntRange(1, 1000), default=3, show_default=True, help="Trainings of each network.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of each training.  [default: the run's final_training]")
@click.option("--address", help="Ray cluster: auto, ray://HOST:PORT, ...  [default: this machine]")
@click.option("--workers", type=click.IntRange(1), help="Trainings at the same time, at most.  [default: all fit]")
@gpus_option("the run's, or auto if there are not that many")
@execution_options(None)
@click.option("--int8", is_flag=True, help="Export each network as ONNX, too, and quantise it, for select --int8.")
def retrain(
    run: Path,
    front: bool,
    selected: bool,
    trials: tuple[int, ...],
    doubtful: int | None,
    prefer: Preference,
    seeds: int,
    epochs: int | None,
    address: str | None,
    workers: int | None,
    gpus_per_trial: float | Literal["auto"] | None,
    precision: str | None,
    execution: str | None,
    int8: bool,
    **limits: Any,
) -> int:
    """Train chosen networks of RUN fully, each with several seeds, and put the results into its report.

    Trains on all training images, measures each training on the test images once, and keeps every model in
    RUN/retrained. An interrupted command continues when it is given again.
    """
    from mgnas.api import open_run
    from mgnas.errors import UserError
    from mgnas.progress import RetrainingLines
    from mgnas.reports.analysis.failures import nothing_complete
    from mgnas.search.data.dataset import load_dataset
    from mgnas.search.storage.run_directory import RunDirectory

    from ..exit_codes import INTERRUPTED

    given = [name for name, value in limits.items() if value is not None]
    if front + selected + bool(trials) + (doubtful is not None) != 1:
        raise UserError("retrain: give one of --front, --select with its limits, --trial NUMBER and --doubtful COUNT")
    if given and not selected:
        raise UserError(f"--{given[0].replace('_', '-')}: chooses for --select; give that, too")
    configure_logging()
    opened = open_run(run)
    # What cannot be used is refused before the first line. Early versions did not store the number of images.
    RunDirectory(run).check_data(load_dataset(opened.config.data))
    opened = open_run(run)
    if selected:
        chosen = [opened.select(prefer=prefer, **limits).record]
    elif doubtful is not None:
        chosen = _doubtful(opened, doubtful)
        if not chosen:
            click.echo("Nothing to train: no training would tell anything about which networks belong to the front.")
            return 0
    else:
        chosen = opened.front if front else [_complete(opened, number) for number in trials]
    if not chosen:
        raise UserError(nothing_complete(opened.trials))
    opened.config.override(gpus_per_trial=gpus_per_trial)
    lines = RetrainingLines(len(chosen), seeds)
    try:
        results = opened.retrain(
            chosen,
            seeds=seeds,
            epochs=epochs,
            address=address,
            workers=workers,
            gpus_per_trial=gpus_per_trial,
            precision=precision,
            execution=execution,
            int8=int8,
            progress=lines.show,
            on_epoch=lines.show_progress,
        )
    except KeyboardInterrupt:
        click.echo("Stopped at once. The same command continues.")
        return INTERRUPTED
    for retrained in results:
        click.echo(f"trial {retrained.trial}: {retrained.in_words()}")
        click.echo(f"  {retrained.folder}")
    click.echo(f"Report: {opened.report()}")
    failed = sum(outcome.accuracy is None for outcome in lines.outcomes)
    if failed:
        click.echo(f"{failed} of {lines.total} trainings failed; the same command tries them again.")
    return 1 if failed else 0


def _doubtful(run: Run, count: int) -> list[CompletedTrial]:
    """The networks that --doubtful trains, after a line about each.

    Raises:
        UserError: too few trials are complete.
    """
    chosen = run.doubtful(count)
    confidence = run.front_confidence()
    for trial in chosen:
        assert confidence is not None, "doubtful ones were found with it"
        accuracy = (
            f"{100 * trial.accuracy:.2f} %, on the front with {100 * confidence.expected[trial.number].on_front:.0f} %"
        )
        click.echo(f"trial {trial.number}: {trial.weights:,} weights, {accuracy}")
    return chosen


def _complete(run: Run, number: int) -> CompletedTrial:
    """The trial of that number.

    Raises:
        UserError: there is none, or it is not complete.
    """
    from mgnas.errors import UserError

    for record in run.trials:
        if record.number == number and record.completed is not None:
            return record.completed
    shows = f"`mgnas status {run.path}` shows them"
    raise UserError(f"--trial {number}: no complete trial of {run.path} has this number; {shows}")
