"""Options that several commands share, and their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from mgnas.errors import ConfigError
from mgnas.space.limits import parse_bytes, parse_count


class Count(click.ParamType):
    """20000, 20k or 1.5M."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_count(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class Bytes(click.ParamType):
    """262144, 256kB or 256KiB."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_bytes(value)
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


class Gpus(click.ParamType):
    """`auto`, or a number of GPUs."""

    name = "gpus"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        try:
            return value if value == "auto" else float(value)
        except ValueError:
            self.fail(f"expected auto or a number of GPUs, got {value!r}", param, ctx)


def gpus_option(default: str) -> Callable[[Callable], Callable]:
    """Decorator: the option --gpus-per-trial.

    Args:
        default: in words, for the help.
    """
    text = "GPUs of a training: auto, 0 for CPUs, 0.25 if four share one."
    return click.option("--gpus-per-trial", type=Gpus(), help=f"{text}  [default: {default}]")


def execution_options(default: str | None) -> Callable[[Callable], Callable]:
    """Decorator: the options --precision and --execution.

    Args:
        default: their value; None: the run's.
    """
    shown = default or "the run's"

    def decorate(command: Callable) -> Callable:
        for name, choices, text in (
            ("--execution", _EXECUTIONS, "How training steps are executed."),
            ("--precision", _PRECISIONS, "Type in which convolutions compute."),
        ):
            option = click.option(name, type=click.Choice(choices), default=default, help=f"{text}  [default: {shown}]")
            command = option(command)
        return command

    return decorate


# Importing the types from search/training would import torch, which takes seconds.
_PRECISIONS = ("auto", "float32", "bfloat16", "float16")
_EXECUTIONS = ("auto", "eager", "compile", "cuda-graphs", "compile-cuda-graphs")

_OPTIONS = (
    click.option("--max-weights", type=Count(), help="Largest number of weights, such as 20k."),
    click.option("--max-macs", type=Count(), help="Largest number of multiply-accumulates per image, such as 5M."),
    click.option("--min-accuracy", type=Accuracy(), help="Smallest validation accuracy, such as 0.97 or 97%."),
    click.option("--max-memory", type=Bytes(), help="Peak bytes of one image's activations (float32), such as 256kB."),
    click.option("--max-memory-int8", type=Bytes(), help="Peak bytes of one image's activations in int8."),
    click.option("--max-size", type=Bytes(), help="Largest number of bytes when exported (float32), such as 100kB."),
    click.option(
        "--max-latency", type=click.FloatRange(0, min_open=True), help="Milliseconds for 1 image, on one thread here."
    ),
    click.option("--max-latency-32", type=click.FloatRange(0, min_open=True), help="Milliseconds for 32 images."),
    click.option("--device", help="Device of these latencies, which `mgnas report --latency` has read."),
    click.option(
        "--prefer",
        type=click.Choice(["knee", "accuracy", "weights", "expected"]),
        default="knee",
        show_default=True,
        help="What to choose of the rest. knee: where more weights stop paying. expected: the best if trained again.",
    ),
)


def selection_options(command: Callable) -> Callable:
    """Decorator: the constraints and the preference, for a command that takes them as keywords."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
