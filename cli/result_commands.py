"""report, select, train."""

from __future__ import annotations

from pathlib import Path

import click

from .options import Accuracy, Count


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Folder to write to.  [default: RUN/report]")
def report(run: Path, output: Path | None) -> None:
    """Write the Pareto front of RUN as a page, pictures and tables."""
    from ..reports.report import write_report
    from ..search.run_directory import RunDirectory

    click.echo(f"Report: {write_report(RunDirectory(run), output)}")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--max-weights", type=Count(), help="At most so many weights, such as 20k.")
@click.option("--min-accuracy", type=Accuracy(), help="At least this validation accuracy, such as 0.97 or 97%.")
@click.option(
    "--prefer",
    type=click.Choice(["knee", "accuracy", "weights"]),
    default="knee",
    show_default=True,
    help="Of the rest.",
)
@click.option("--output", type=click.Path(path_type=Path), default=Path("selected.yaml"), show_default=True)
def select(run: Path, max_weights: int | None, min_accuracy: float | None, prefer: str, output: Path) -> None:
    """Choose a network from the front of RUN, and write what `mgnas train` takes."""
    from dataclasses import asdict

    from ..models.settings import write_yaml
    from ..reports.pareto import pareto_front
    from ..reports.select import select as choose
    from ..reports.select import selection
    from ..search.run_directory import RunDirectory

    directory = RunDirectory(run)
    records = directory.load()
    chosen = choose(records, max_weights=max_weights, min_accuracy=min_accuracy, prefer=prefer)
    config = directory.config
    write_yaml(output, selection(chosen, str(run), asdict(config.data), asdict(config.final_training)))
    front = pareto_front(records)
    place = front.index(chosen)
    for index in range(max(place - 1, 0), min(place + 2, len(front))):
        record, mark = front[index], "->" if index == place else "  "
        network = record.candidate.architecture.describe()
        click.echo(f"{mark} {record.weights:>11,} weights  {100 * record.accuracy:6.2f} %  {network}")
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
    from ..reports.final_training import FinalTraining, train_fully

    task = FinalTraining.load(config, seed, epochs)
    import torch

    from ..models.errors import UserError

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
