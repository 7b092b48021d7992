"""retrain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..logging import configure_logging
from ..options import choose, selection_options


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--front", is_flag=True, help="All networks of the Pareto front.")
@click.option("--select", "selected", is_flag=True, help="The one that the options below choose, as `mgnas select`.")
@click.option("--trial", "trials", type=click.IntRange(0), multiple=True, help="This trial's; may be given repeatedly.")
@selection_options
@click.option("--seeds", type=click.IntRange(1, 1000), default=3, show_default=True, help="Trainings of each network.")
@click.option("--epochs", type=click.IntRange(1), help="Of each.  [default: the run's final_training]")
@click.option("--address", help="Ray cluster: auto, ray://HOST:PORT, ...  [default: this machine]")
def retrain(
    run: Path,
    front: bool,
    selected: bool,
    trials: tuple[int, ...],
    prefer: str,
    seeds: int,
    epochs: int | None,
    address: str | None,
    **limits: Any,
) -> int:
    """Train chosen networks of RUN fully, each with several seeds, and put the results into its report.

    Trains on all training images, measures each training on the test images once, and keeps every model in
    RUN/retrained. An interrupted command continues when it is given again.
    """
    from mgnas.errors import UserError

    from ...reports.analysis.pareto import pareto_front
    from ...reports.deploy.retraining import Outcome
    from ...reports.deploy.retraining import retrain as train_all
    from ...reports.report import write_report
    from ...search.data.dataset import load_dataset
    from ...search.storage.run_directory import RunDirectory
    from ..exit_codes import INTERRUPTED

    given = [name for name, value in limits.items() if value is not None]
    if front + selected + bool(trials) != 1:
        raise UserError("retrain: give one of --front, --select with its limits, and --trial NUMBER")
    if given and not selected:
        raise UserError(f"--{given[0].replace('_', '-')}: chooses for --select; give that, too")
    configure_logging()
    directory = RunDirectory(run)
    records = directory.load()
    if selected:
        chosen = [choose(directory, records, prefer, limits).record]
    else:
        chosen = pareto_front(records) if front else [_complete(records, number, run) for number in trials]
    if not chosen:
        raise UserError("no trial of this run is complete yet; continue it with `mgnas resume`")
    load_dataset(directory.config.data)
    total, done = len(chosen) * seeds, []
    click.echo(f"{len(chosen)} network{'s' * (len(chosen) > 1)}, {seeds} seed{'s' * (seeds > 1)} each")

    def show(outcome: Outcome) -> None:
        done.append(outcome)
        result = f"failed: {outcome.reason}" if outcome.accuracy is None else f"{100 * outcome.accuracy:.2f} %"
        note = " (finished before)" if outcome.finished_before else ""
        network = outcome.record.candidate.architecture.describe()
        click.echo(
            f"[{len(done)}/{total}] trial {outcome.record.number}, seed {outcome.seed}: {result}{note}  {network}"
        )

    try:
        found = train_all(directory, chosen, seeds, epochs=epochs, address=address, on_end=show)
    except KeyboardInterrupt:
        click.echo("Stopped at once. The same command continues.")
        return INTERRUPTED
    for retrained in found:
        if retrained.trial in {record.number for record in chosen}:
            click.echo(f"trial {retrained.trial}: {retrained.in_words()}")
            click.echo(f"  {retrained.folder}")
    click.echo(f"Report: {write_report(directory)}")
    failed = sum(outcome.accuracy is None for outcome in done)
    if failed:
        click.echo(f"{failed} of {total} trainings failed; the same command tries them again.")
    return 1 if failed else 0


def _complete(records, number: int, run: Path):
    """The trial of that number, which must be complete."""
    from mgnas.errors import UserError

    for record in records:
        if record.number == number and record.completed is not None:
            return record.completed
    raise UserError(f"--trial {number}: no complete trial of {run} has this number; `mgnas status {run}` shows them")
