"""report, select, train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..options import choose, selection_options


@click.command()
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder.  [default: RUN/report; of several runs: comparison]",
)
@click.option(
    "--latency-seconds",
    type=click.FloatRange(0),
    default=8.0,
    show_default=True,
    help="Time to measure latencies of the front that are not known yet.",
)
def report(runs: tuple[Path, ...], output: Path | None, latency_seconds: float) -> None:
    """Write the Pareto front of RUN, or of several runs side by side, as a page, pictures and tables.

    The page is one file that needs no network: an interactive front, what matters at equal weights, how the search
    went, the chosen network drawn. Every figure is also written as PNG and SVG.
    """
    from ...reports.report import write_report
    from ...search.storage.run_directory import RunDirectory

    directories = [RunDirectory(run) for run in {run.resolve(): run for run in runs}.values()]
    click.echo(f"Report: {write_report(directories, output, latency_seconds)}")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@selection_options
@click.option("--output", type=click.Path(path_type=Path), default=Path("selected.yaml"), show_default=True)
def select(run: Path, output: Path, prefer: str, **limits: Any) -> None:
    """Choose a network from the trials of RUN, and write what `mgnas train` takes.

    Prints the choice between its neighbours on the front of all that keeps the limits, why it was chosen, and what the
    neighbours would cost. Latencies are measured on this machine, with PyTorch on the CPU, and kept in RUN.
    """
    from dataclasses import asdict

    from mgnas.files import write_yaml

    from ...reports.deploy.final_training import selection
    from ...reports.deploy.retraining import load_retrained
    from ...search.storage.run_directory import RunDirectory

    directory = RunDirectory(run)
    choice = choose(directory, directory.load(), prefer, limits)
    config, chosen = directory.config, choice.record
    write_yaml(output, selection(chosen, str(run), asdict(config.data), asdict(config.final_training)))
    place = choice.front.index(chosen)
    for index in range(max(place - 1, 0), min(place + 2, len(choice.front))):
        record, mark = choice.front[index], "->" if index == place else "  "
        network = record.candidate.architecture.describe()
        click.echo(f"{mark} {record.weights:>11,} weights  {100 * record.accuracy:6.2f} %  {network}")
    click.echo(f"Chosen for {choice.why}.")
    for other, exchange in choice.neighbours():
        word = "lighter" if other.weights < chosen.weights else "heavier"
        click.echo(f"The next {word} one, trial {other.number}: {exchange}")
    for retrained in load_retrained(directory):
        if retrained.trial == chosen.number:
            click.echo(f"Retrained: {retrained.in_words()}")
    click.echo(f"Wrote {output}. Train it fully: mgnas train {output}")


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder to write to.  [default: trained/<architecture id>]"
)
@click.option("--epochs", type=click.IntRange(1), help="Instead of the config's.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all cores]")
def train(config: Path, output: Path | None, epochs: int | None, seed: int, device: str, threads: int | None) -> None:
    """Train the network in CONFIG fully, measure it on the test images, and save it.

    An interrupted training continues when the same command is given again.
    """
    from ...reports.deploy.final_training import FinalTraining, train_fully

    task = FinalTraining.load(config, seed, epochs)
    import torch

    from mgnas.errors import UserError

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no CUDA device here; use --device cpu")
    if threads:
        torch.set_num_threads(threads)
    folder = output or Path("trained") / task.architecture.id
    total = task.training.epochs
    click.echo(f"{task.architecture.describe()}: {total} epochs on {device}")

    def show(epoch) -> None:
        click.echo(f"epoch {epoch.epoch}/{total}  loss {epoch.loss:.4f}  {epoch.seconds:.1f} s")

    result = train_fully(task, folder, device, show)
    part = "test" if "test_accuracy" in result else "validation"
    accuracy, images = result[f"{part}_accuracy"], result[f"{part}_images"]
    click.echo(f"{part} accuracy {100 * accuracy:.2f} % on {images:,} images, {result['weights']:,} weights")
    click.echo(f"Model: {folder / 'model.pt'}")
    click.echo(f"Export: mgnas export {folder} --to onnx")
