"""select."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..options import selection_options


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@selection_options
@click.option(
    "--int8",
    is_flag=True,
    help="Choose of the networks that `mgnas retrain --int8` has quantised. Accuracy, size and latencies are int8's.",
)
@click.option("--output", type=click.Path(path_type=Path), default=Path("selected.yaml"), show_default=True)
@click.option("--force", is_flag=True, help="Overwrite the file, if it exists.")
def select(run: Path, int8: bool, output: Path, force: bool, **constraints: Any) -> None:
    """Choose a network from the trials of RUN, and write what `mgnas train` takes.

    Prints the choice between its neighbours on the front of all that keeps the limits, why it was chosen, how probably
    it belongs to the run's front, and what the neighbours would cost. Latencies are measured on this machine, in ONNX
    Runtime on one thread, and kept in RUN; with --device they are those of another device.
    """
    from dataclasses import asdict

    from mgnas.api import open_run
    from mgnas.errors import UserError
    from mgnas.files import write_yaml
    from mgnas.reports.deploy.final_training import selection

    opened = open_run(run)
    if not force and (output.exists() or output.is_symlink()):
        raise UserError(f"{output}: exists already; --force overwrites it, --output chooses another file")
    config = opened.config
    limits_latency = any(constraints[name] for name in ("max_latency", "max_latency_32", "device"))
    if int8:
        found = opened.select_int8(**constraints)
        chosen = found.network
        write_yaml(output, selection(chosen.trial, str(run), asdict(config.data), asdict(config.final_training)))
        position = found.front.index(chosen)
        for network in found.front[max(position - 1, 0) : position + 2]:
            click.echo(f"{'->' if network is chosen else '  '} {network.in_words()}")
        click.echo(f"Chosen for {found.why}.")
        click.echo(f"The accuracy is that on the {chosen.part} images, over {chosen.seeds} of its trainings.")
        if limits_latency:
            click.echo(f"Latency: {opened.latency_meter(constraints['device']).int8_in_words(chosen.trial.candidate)}")
        click.echo(f"Its most accurate one: {chosen.folder}")
        click.echo(f"Wrote {output}")
        return
    choice = opened.select(**constraints)
    chosen = choice.record
    write_yaml(output, selection(chosen, str(run), asdict(config.data), asdict(config.final_training)))
    index = choice.front.index(chosen)
    for trial in choice.front[max(index - 1, 0) : index + 2]:
        mark = "->" if trial is chosen else "  "
        network = trial.candidate.architecture.describe()
        click.echo(f"{mark} {trial.weights:>11,} weights  {100 * trial.accuracy:6.2f} %  {network}")
    click.echo(f"Chosen for {choice.why}.")
    if limits_latency:
        click.echo(f"Latency: {opened.latency_meter(constraints['device']).in_words(chosen.candidate)}")
    confidence = choice.confidence or opened.front_confidence()
    if confidence is not None:
        click.echo(f"How sure: {confidence.in_words(chosen)}")
    for other, exchange in choice.neighbours():
        word = "lighter" if other.weights < chosen.weights else "heavier"
        click.echo(f"The next {word} one, trial {other.number}: {exchange}")
    for retrained in opened.retrained:
        if retrained.trial == chosen.number:
            click.echo(f"Retrained: {retrained.in_words()}")
    click.echo(f"Wrote {output}. Train it fully: mgnas train {output}")
