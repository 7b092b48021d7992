"""report."""

from __future__ import annotations

from pathlib import Path

import click


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
@click.option(
    "--latency",
    "latencies",
    type=click.Path(path_type=Path),
    multiple=True,
    help="latency.json that a kit of `mgnas latency` has measured on a device. RUN keeps it. May be given repeatedly.",
)
def report(runs: tuple[Path, ...], output: Path | None, latency_seconds: float, latencies: tuple[Path, ...]) -> None:
    """Write the Pareto front of RUN, or of several runs side by side, as a page, pictures and tables.

    The page is one file that needs no network: an interactive front, what matters at equal weights, how the search
    went, the chosen network drawn. Every figure is also written as PNG and SVG.
    """
    from mgnas.reports.report import write_report
    from mgnas.search.storage.run_directory import RunDirectory

    directories = [RunDirectory(run) for run in {run.resolve(): run for run in runs}.values()]
    click.echo(f"Report: {write_report(directories, output, latency_seconds, latencies)}")
