"""select."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import selection_options

if TYPE_CHECKING:
    from mgnas.reports.analysis.int8 import Int8Choice
    from mgnas.reports.analysis.select import Choice
    from mgnas.run import Run


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
    if int8:
        quantised = opened.select_int8(**constraints)
        chosen, lines = quantised.network.trial, _int8_lines(quantised)
    else:
        choice = opened.select(**constraints)
        chosen, lines = choice.record, _lines(choice, opened)
    if any(constraints[name] for name in ("max_latency", "max_latency_32", "device")):
        meter = opened.latency_meter(constraints["device"])
        latency = meter.int8_in_words(chosen.candidate) if int8 else meter.in_words(chosen.candidate)
        lines.append(f"Latency: {latency}")
    config = opened.config
    write_yaml(output, selection(chosen, str(run), asdict(config.data), asdict(config.final_training)))
    lines.append(f"Wrote {output}" if int8 else f"Wrote {output}. Train it fully: mgnas train {output}")
    for line in lines:
        click.echo(line)


def _lines(choice: Choice, run: Run) -> list[str]:
    """The chosen trial among its neighbours, why, and what is known of it."""
    chosen = choice.record
    index = choice.front.index(chosen)
    lines = []
    for trial in choice.front[max(index - 1, 0) : index + 2]:
        mark = "->" if trial is chosen else "  "
        network = trial.candidate.architecture.describe()
        lines.append(f"{mark} {trial.weights:>11,} weights  {100 * trial.accuracy:6.2f} %  {network}")
    lines.append(f"Chosen for {choice.why}.")
    confidence = choice.confidence or run.front_confidence()
    if confidence is not None:
        lines.append(f"How sure: {confidence.in_words(chosen)}")
    for other, exchange in choice.neighbours():
        word = "lighter" if other.weights < chosen.weights else "heavier"
        lines.append(f"The next {word} one, trial {other.number}: {exchange}")
    return lines + [f"Retrained: {full.in_words()}" for full in run.retrained if full.trial == chosen.number]


def _int8_lines(choice: Int8Choice) -> list[str]:
    """The chosen int8 network among its neighbours, why, and where it lies."""
    chosen = choice.network
    index = choice.front.index(chosen)
    return [
        *(
            f"{'->' if network is chosen else '  '} {network.in_words()}"
            for network in choice.front[max(index - 1, 0) : index + 2]
        ),
        f"Chosen for {choice.why}.",
        f"The accuracy is that on the {chosen.part} images, over {chosen.seeds} of its trainings.",
        f"Its most accurate one: {chosen.folder}",
    ]
