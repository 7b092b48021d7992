"""Option types that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from mgnas.errors import ConfigError

from ..space.limits import parse_count


class Count(click.ParamType):
    """20000, 20k or 1.5M."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_count(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class Accuracy(click.ParamType):
    """0.97 or 97%."""

    name = "accuracy"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            accuracy = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            accuracy = -1.0
        if not 0 <= accuracy <= 1:
            self.fail(f"expected a fraction such as 0.97, or 97%, got {value!r}", param, ctx)
        return accuracy


_OPTIONS = (
    click.option("--max-weights", type=Count(), help="At most so many weights, such as 20k."),
    click.option("--max-macs", type=Count(), help="At most so many multiply-accumulates per image, such as 5M."),
    click.option("--min-accuracy", type=Accuracy(), help="At least this validation accuracy, such as 0.97 or 97%."),
    click.option("--max-size", type=Count(), help="At most so many bytes when exported (float32), such as 100k."),
    click.option(
        "--max-latency", type=click.FloatRange(0, min_open=True), help="At most so many ms for 1 image, measured here."
    ),
    click.option("--max-latency-32", type=click.FloatRange(0, min_open=True), help="At most so many ms for 32 images."),
    click.option(
        "--prefer",
        type=click.Choice(["knee", "accuracy", "weights", "expected"]),
        default="knee",
        show_default=True,
        help="Of the rest. knee: where more weights stop paying. expected: the best if trained again, without luck.",
    ),
)


def selection_options(command: Callable) -> Callable:
    """Decorator: the constraints and the preference, for a command that takes them as keywords."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def choose(directory, records, prefer: str, limits: dict[str, Any]):
    """The choice that these options make among a run's trials.

    Args:
        directory: the run.
        records: its trials.
        prefer: as given.
        limits: the other options, as given.

    Raises:
        UserError: nothing keeps the limits.
    """
    from ..reports.analysis.select import Constraints, select
    from ..reports.deploy.latency import LatencyMeter

    return select(records, Constraints(**limits), prefer, LatencyMeter(directory.path / "latency.json"))
