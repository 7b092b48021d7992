"""weights and space: what is known before anything is trained."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from mgnas.errors import ConfigError, UserError
from mgnas.files import read_yaml

from ...models.config import ArchitectureConfig
from ...models.cost import Cost, cost_by_part

_IMAGE_SIZES = {"cifar10": 32, "cifar100": 32, "tinyimagenet": 64}


@click.command()
@click.option("--preset", help="A published network; `--preset list` shows them all.")
@click.option("--config", type=click.Path(path_type=Path), help="A YAML file with an architecture.")
@click.option("--image-size", type=click.IntRange(8), help="Pixels per side.  [default: the preset's, else 32]")
@click.option("--draw", type=click.Path(path_type=Path), help="Draw it, too: a file that ends in .svg.")
def weights(preset: str | None, config: Path | None, image_size: int | None, draw: Path | None) -> None:
    """Show exact weights and multiply-accumulates of an architecture, part by part."""
    from ...space.published import preset as find

    if (preset is None) == (config is None):
        raise UserError("weights: give one of --preset NAME and --config FILE")
    if preset == "list":
        _list_presets()
        return
    if preset is not None:
        row = find(preset)
        architecture, size = row.config, image_size or _IMAGE_SIZES[row.dataset]
    else:
        row, architecture, size = None, _read_architecture(config), image_size or 32
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
    if row is not None:
        console.print(f"Published: {row.weights} weights, {100 * row.accuracy:.2f} % on {row.dataset}.", end="")
        console.print(f" Note: {row.note}." if row.note else "")
    if draw is not None:
        _draw(architecture, size, draw)


def _draw(architecture: ArchitectureConfig, size: int, file: Path) -> None:
    from mgnas.files import write_text

    from ...reports.figures.architecture import draw_architecture
    from ...reports.figures.svg import to_svg

    if file.suffix != ".svg":
        raise UserError(f"--draw {file}: expected a file that ends in .svg")
    write_text(file, to_svg(draw_architecture(architecture, size)) + "\n")
    click.echo(f"Drawn: {file}")


def _list_presets() -> None:
    from ...space.published import PUBLISHED

    for row in PUBLISHED:
        click.echo(f"{row.name:<24} {row.label:<24} {100 * row.accuracy:.2f} %  {row.weights} weights on {row.dataset}")


def _read_architecture(path: Path) -> ArchitectureConfig:
    """The `architecture` section of a file that `mgnas select` wrote, or a file that holds nothing else."""
    content = read_yaml(path)
    section = "architecture" if "architecture" in content else ""
    return ArchitectureConfig.from_dict(content[section] if section else content, section, str(path))


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--bins", type=click.IntRange(1, 100), default=12, show_default=True, help="Bars of the histogram.")
def space(config: Path, bins: int) -> None:
    """Show what the search space in CONFIG holds: points, distinct valid networks, and what they weigh."""
    import numpy as np

    from ...search.config import SearchConfig

    loaded = SearchConfig.load(config)
    searched = loaded.search_space()
    summary = searched.summary()
    points = "continuous" if summary.points is None else f"{summary.points:,}"
    click.echo(f"points             {points}")
    found = len(summary.weights)
    if summary.enumerated:
        click.echo(f"distinct and valid {found:,}")
    else:
        valid = summary.examined - sum(summary.rejections.values())
        share = 100 * valid / summary.examined
        click.echo(f"distinct and valid at least {found:,} (found in a sample of {summary.examined:,} points)")
        click.echo(f"valid points       {share:.1f} % of the sample")
    for key, count in sorted(summary.rejections.items(), key=lambda item: -item[1]):
        click.echo(f"rejected           {count:,} points: {key}")
    if not found:
        raise ConfigError("space", "no valid point was found in the sample; widen the limits", loaded.file)
    click.echo(f"weights            {summary.weights[0]:,} to {summary.weights[-1]:,}")
    edges = np.geomspace(summary.weights[0], summary.weights[-1] + 1, bins + 1)
    counts, _ = np.histogram(summary.weights, edges)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        bar = "#" * round(50 * count / max(counts.max(), 1))
        click.echo(f"  {round(low):>11,} to {round(high):>11,}  {count:>6,}  {bar}")
