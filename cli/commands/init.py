"""init."""

from __future__ import annotations

import re
from pathlib import Path

import click


@click.command()
@click.argument("data")
@click.option("--image-size", type=click.IntRange(8, 1024), help="Pixels per side.  [default: by the images]")
@click.option("--output", type=click.Path(path_type=Path), help="File to write.  [default: named after DATA]")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def init(data: str, image_size: int | None, output: Path | None, force: bool) -> None:
    """Write a commented search config for the images in DATA.

    DATA is a folder with a folder for each class, an .npz file, or the name of a data set (digits, cifar10, ...). The
    images are read and converted now; the search takes them from the cache.
    """
    import yaml

    from mgnas.errors import UserError
    from mgnas.files import write_text
    from mgnas.search.config import SearchConfig
    from mgnas.search.config_template import detect_dataset, render_config
    from mgnas.search.data.dataset import load_dataset

    settings = detect_dataset(data, image_size)
    stem = Path(settings.path).name if settings.path else settings.name
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem.removesuffix(".npz").removesuffix(".zip")).strip("-") or "search"
    output = output or Path(f"{name}.yaml")
    if output.exists() and not force:
        raise UserError(f"{output}: exists already; choose another with --output, or replace it with --force")
    dataset = load_dataset(settings)
    text = render_config(name, settings, dataset)
    # Nothing is written unless it can be searched.
    summary = SearchConfig.from_mapping(yaml.safe_load(text), str(output)).search_space().summary()
    write_text(output, text)
    networks = f"{'' if summary.enumerated else 'at least '}{len(summary.weights):,} networks"
    weights = f"{summary.weights[0]:,} to {summary.weights[-1]:,} weights"
    size = f"{dataset.image_size} x {dataset.image_size}"
    click.echo(
        f"{len(dataset.train) + len(dataset.validation):,} images of {dataset.num_classes} classes, {size} pixels"
    )
    if dataset.own_validation:
        click.echo(f"{len(dataset.validation):,} of them are the data set's own for validation; none is held out")
    click.echo(f"Wrote {output}: {networks} of {weights}")
    click.echo(f"Search: mgnas search {output}")
