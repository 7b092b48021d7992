"""weights."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from mgnas.errors import UserError
from mgnas.files import read_yaml
from mgnas.models.config import ArchitectureConfig
from mgnas.models.cost import Cost, cost_by_part
from mgnas.models.inference_memory import activation_memory, flash_memory

_IMAGE_SIZES = {"cifar10": 32, "cifar100": 32, "tinyimagenet": 64}


@click.command()
@click.option("--preset", help="A published network; `--preset list` shows them all.")
@click.option("--config", type=click.Path(path_type=Path), help="A YAML file with an architecture.")
@click.option("--image-size", type=click.IntRange(8), help="Pixels per side.  [default: the preset's, else 32]")
@click.option("--draw", type=click.Path(path_type=Path), help="Draw the network into this file, which ends in .svg.")
def weights(preset: str | None, config: Path | None, image_size: int | None, draw: Path | None) -> None:
    """Show exact weights and multiply-accumulates of an architecture, part by part, and the memory that it needs."""
    from mgnas.space.published import PublishedModel
    from mgnas.space.published import preset as find

    if preset == "list" and config is None:
        _list_presets()
        return
    if preset is not None and config is None:
        row = find(preset)
        architecture, size = row.config, image_size or _IMAGE_SIZES[row.dataset]
    elif config is not None and preset is None:
        row, architecture, size = None, _read_architecture(config), image_size or 32
    else:
        raise UserError("weights: give one of --preset NAME and --config FILE")
    architecture.check_image_size(size)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("part", "weights", "MACs"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    total = Cost()
    for part, cost in cost_by_part(architecture, size):
        table.add_row(part, f"{cost.weights:,}", f"{cost.macs:,}")
        total += cost
    table.add_section()
    table.add_row("total", f"{total.weights:,}", f"{total.macs:,}", style="bold")
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{architecture.describe()}, {architecture.num_classes} classes, {size} x {size} images")
    console.print(table)
    for memory, single, int8 in (
        ("activations of one image, at most", *(activation_memory(architecture, size, int8) for int8 in (False, True))),
        ("flash memory", *(flash_memory(architecture, int8) for int8 in (False, True))),
    ):
        console.print(f"{memory}: {single:,} bytes in float32, {int8:,} in int8")
    if isinstance(row, PublishedModel):
        console.print(f"Published: {row.weights} weights, {100 * row.accuracy:.2f} % on {row.dataset}.", end="")
        console.print(f" Note: {row.note}." if row.note else "")
    if draw is not None:
        _draw(architecture, size, draw)


def _draw(architecture: ArchitectureConfig, size: int, file: Path) -> None:
    from mgnas.files import write_text
    from mgnas.reports.figures.architecture import draw_architecture
    from mgnas.reports.figures.svg import to_svg

    if file.suffix != ".svg":
        raise UserError(f"--draw {file}: expected a file that ends in .svg")
    write_text(file, to_svg(draw_architecture(architecture, size)) + "\n")
    click.echo(f"Drawn: {file}")


def _list_presets() -> None:
    from mgnas.space.published import PRESETS, PublishedModel

    for row in PRESETS:
        known = f"{100 * row.accuracy:.2f} %  {row.weights} weights on " if isinstance(row, PublishedModel) else "for "
        click.echo(f"{row.name:<26} {row.label:<24} {known}{row.dataset}")


def _read_architecture(path: Path) -> ArchitectureConfig:
    """The `architecture` section of a file that `mgnas select` wrote, or a file that holds nothing else."""
    content = read_yaml(path)
    section = "architecture" if "architecture" in content else ""
    return ArchitectureConfig.from_dict(content[section] if section else content, section, str(path))
