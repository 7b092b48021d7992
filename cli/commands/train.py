"""train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..options import execution_options

if TYPE_CHECKING:
    from mgnas.search.training.execution import Execution
    from mgnas.search.training.precision import Precision
    from mgnas.search.training.trainer import EpochResult


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder to write to.  [default: trained/<architecture id>]"
)
@click.option("--epochs", type=click.IntRange(1), help="Instead of the config's.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all cores, or 1 for small networks]")
@execution_options("auto")
def train(
    config: Path,
    output: Path | None,
    epochs: int | None,
    seed: int,
    device: str,
    threads: int | None,
    precision: Precision,
    execution: Execution,
) -> None:
    """Train the network in CONFIG fully, measure it on the test images, and save it.

    Trains on a GPU if there is one. An interrupted training continues when the same command is given again.
    """
    from mgnas.reports.deploy.final_training import FinalTraining, train_fully

    task = FinalTraining.load(config, seed, epochs)
    import torch

    from mgnas.errors import UserError, printable
    from mgnas.search.data.dataset import load_dataset
    from mgnas.search.training.threads import default_threads

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if device == "cuda" and gpu is None:
        raise UserError("--device cuda: PyTorch sees no CUDA device here; use --device cpu")
    on_gpu = gpu is not None and device != "cpu"
    if gpu is not None and not on_gpu:
        click.echo(f"The GPU ({gpu}) is not used; --device cuda uses it.")
    if not on_gpu:
        if threads is None:
            size = load_dataset(task.data).image_size
            threads = default_threads(task.architecture, task.training.batch_size, size)
        torch.set_num_threads(threads)
    folder = output or Path("trained") / task.architecture.id
    total = task.training.epochs
    click.echo(f"{task.architecture.describe()}: {total} epochs on {f'the GPU ({gpu})' if on_gpu else 'the CPU'}")

    def show(epoch: EpochResult) -> None:
        click.echo(f"epoch {epoch.epoch}/{total}  loss {epoch.loss:.4f}  {epoch.seconds:.1f} s")

    result = train_fully(task, folder, "cuda" if on_gpu else "cpu", show, precision, execution)
    part = "test" if "test_accuracy" in result else "validation"
    accuracy, images = result[f"{part}_accuracy"], result[f"{part}_images"]
    click.echo(f"{part} accuracy {100 * accuracy:.2f} % on {images:,} images, {result['weights']:,} weights")
    balanced, largest = result[f"{part}_balanced_accuracy"], result["largest_class"]
    click.echo(
        f"balanced accuracy {100 * balanced:.2f} %; the largest class, {printable(largest['name'])}, is "
        f"{100 * largest['share']:.2f} % of these images"
    )
    click.echo(f"Model: {folder / 'model.pt'}")
    click.echo(f"Export: mgnas export {folder} --to onnx")
