"""latency."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--kit", type=click.Path(path_type=Path), help="New folder for a kit that measures another device.")
@click.option("--device", help="Show what was measured there, after `mgnas report RUN --latency FILE`.")
def latency(run: Path, kit: Path | None, device: str | None) -> None:
    """Measure how long the networks on the front of RUN take, here or on the device that they are for.

    A kit is a folder to copy to the device. There `python measure.py --device NAME` needs onnxruntime and numpy alone
    and writes latency.json, which `mgnas report RUN --latency latency.json` reads. Without --kit and --device all
    networks of the front are measured on this machine, in ONNX Runtime on one thread.

    From four networks on, a model is fitted that predicts others. It is printed as the limits of a search file.
    """
    from mgnas.api import open_run
    from mgnas.errors import UserError
    from mgnas.reports.analysis.failures import nothing_complete
    from mgnas.reports.analysis.pareto import leading_fronts
    from mgnas.reports.deploy.latency.device import DeviceLatencies
    from mgnas.reports.deploy.latency.fit import MIN_NETWORKS, fit_with_error
    from mgnas.reports.deploy.latency.kit import write_kit
    from mgnas.search.trial_record import completed_trials

    if kit is not None and device is not None:
        raise UserError("latency: give one of --kit and --device")
    opened = open_run(run)
    front = opened.front
    if not front:
        raise UserError(nothing_complete(opened.trials))
    if kit is not None:
        chosen = leading_fronts(completed_trials(opened.trials), MIN_NETWORKS)
        if len(chosen) > len(front):
            click.echo(
                f"The front has {len(front)}; others are added, since a prediction needs {MIN_NETWORKS} networks."
            )
        write_kit([trial.candidate for trial in chosen], kit, click.echo)
        click.echo(f"Wrote {kit}. Copy it to the device; there, with onnxruntime and numpy alone:")
        click.echo("  python measure.py --device NAME")
        click.echo(f"Then here: mgnas report {run} --latency latency.json")
        return
    meter = opened.latency_meter(device)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("trial", "weights", "accuracy", "MACs", "ms, 1 image", "ms, 32 images"):
        table.add_column(heading, justify="right")
    times = [meter.latencies(trial.candidate) for trial in front]
    for trial, milliseconds in zip(front, times, strict=True):
        numbers = (f"{trial.number}", f"{trial.weights:,}", f"{100 * trial.accuracy:.2f} %", f"{trial.macs:,}")
        table.add_row(*numbers, *(f"{value:.4g}" for value in milliseconds.values()))
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"On {meter.machine}:")
    console.print(table)
    if not (meter.predicts if isinstance(meter, DeviceLatencies) else len(front) >= MIN_NETWORKS):
        console.print(f"A model that predicts other networks needs {MIN_NETWORKS}.")
        return
    costs = [trial.candidate.cost for trial in front]
    fitted = (
        meter.fitted() if isinstance(meter, DeviceLatencies) else fit_with_error(costs, [time[1] for time in times])
    )
    error = f"the median error is {100 * fitted.error:.0f} %"
    console.print(f"A model of {fitted.networks} networks; if each is predicted from the others, {error}. In a search:")
    model = ", ".join(f"{name}: {value:.6f}" for name, value in asdict(fitted.model).items())
    console.print(f"  limits:\n    max_latency: {max(time[1] for time in times):.3g}\n    latency_model: {{{model}}}")
