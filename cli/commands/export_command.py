"""export."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "kind",
    type=click.Choice(["onnx", "torch-export", "safetensors"]),
    default="onnx",
    show_default=True,
    help="onnx: any runtime. torch-export: PyTorch without mgnas. safetensors: weights for mgnas.load.",
)
@click.option("--int8", is_flag=True, help="Quantise the ONNX network, too, and measure what that costs and saves.")
@click.option("--output", type=click.Path(path_type=Path), help="File to write.  [default: in MODEL]")
@click.option("--tolerance", type=click.FloatRange(0), default=1e-4, show_default=True, help="Largest difference.")
@click.option("--data", "path", help="The images, if they have moved: an .npz file or a folder.")
def export(model: Path, kind: str, int8: bool, output: Path | None, tolerance: float, path: str | None) -> None:
    """Export the trained network in the folder MODEL, and verify it on real images.

    The export takes raw uint8 images, as many at a time as you like; normalisation is inside, and class names are in
    its metadata. It is run and compared with the PyTorch network; if any logit differs by more than the tolerance,
    nothing is written. The folder's model_card.md tells how to use it.
    """
    from ...reports.deploy.verified_export import export_and_verify

    path = path and str(Path(path).absolute())
    export_and_verify(model, kind, output=output, int8=int8, tolerance=tolerance, data_path=path, say=click.echo)
    click.echo(f"Model card: {model / 'model_card.md'}")
