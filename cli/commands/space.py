"""space."""

from __future__ import annotations

from pathlib import Path

import click

from mgnas.errors import ConfigError


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--data", "path", help="The images: an .npz file, a folder, or an archive.  [default: the config's]")
@click.option("--bins", type=click.IntRange(1, 100), default=12, show_default=True, help="Bars of the histogram.")
def space(config: Path, path: str | None, bins: int) -> None:
    """Show what the search space in CONFIG holds: points, distinct valid networks, and what they weigh."""
    import numpy as np

    from mgnas.search.config import SearchConfig

    loaded = SearchConfig.load(config).override(path=path)
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
