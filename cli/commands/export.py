"""export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mgnas.reports.deploy.export import Format


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "kind",
    type=click.Choice(["onnx", "torch-export", "executorch", "litert", "safetensors"]),
    default="onnx",
    show_default=True,
    help="onnx: any runtime. torch-export: PyTorch without mgnas. executorch, litert: phones and small computers. "
    "safetensors: weights for mgnas.load.",
)
@click.option("--int8", is_flag=True, help="Also quantise the ONNX network, and measure what that costs and saves.")
@click.option("--output", type=click.Path(path_type=Path), help="File to write.  [default: in MODEL]")
@click.option(
    "--tolerance", type=click.FloatRange(0), default=1e-4, show_default=True, help="Largest difference of a logit."
)
@click.option("--data", "path", help="The images, if they have moved: an .npz file or a folder.")
def export(model: Path, kind: Format, int8: bool, output: Path | None, tolerance: float, path: str | None) -> None:
    """Export the trained network in the folder MODEL, and verify it on real images.

    The export takes raw uint8 images, any number at a time (executorch, litert: one). Normalisation is part of the
    network, and its metadata has the class names (not in litert). It is run and compared with the PyTorch network; if
    any logit differs by more than the tolerance, nothing is written. The folder's model_card.md tells how to use it. If
    the images of the training are not at hand, random ones verify the export, and a warning says so.

    --int8 quantises per channel, with ranges measured on training images, and prints accuracy and size of both
    networks. If more than half a point is lost, the network is fine-tuned with rounding for a few epochs.
    """
    from mgnas.reports.deploy.verified_export import export_and_verify

    path = path and str(Path(path).absolute())
    export_and_verify(model, kind, output=output, int8=int8, tolerance=tolerance, data_path=path, say=click.echo)
    click.echo(f"Model card: {model / 'model_card.md'}")
