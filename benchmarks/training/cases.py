"""The networks and recipes that the benchmarks of training measure, and the functions that the benchmarks share."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import torchvision
from tables import table

from mgnas.errors import first_line
from mgnas.models import ArchitectureConfig
from mgnas.search.data.images import ImageDataset
from mgnas.search.training.execution import Execution
from mgnas.search.training.precision import Precision
from mgnas.search.training.trainer import Trainer
from mgnas.space.candidate import TrainingSettings

# The recipes of configs/cifar10.yaml and configs/digits.yaml, but with another learning rate and other epochs, which do
# not change the speed. The loss on random images stays finite at a small rate, and with many epochs the rate stays
# above 0.
CIFAR = TrainingSettings(
    epochs=10_000, batch_size=128, learning_rate=0.01, label_smoothing=0.1, crop_padding=4, flip=True
)
DIGITS = TrainingSettings(epochs=10_000, batch_size=64, learning_rate=0.01, crop_padding=1)


@dataclass(frozen=True)
class Case:
    """A network, its recipe, and the size of its images in pixels per side."""

    architecture: ArchitectureConfig
    settings: TrainingSettings
    size: int


def _cifar(family: str, channels: tuple[int, ...] = (64, 128, 256, 256), **architecture: Any) -> Case:
    mapping = {"family": family, "base_channels": channels, **architecture}
    return Case(ArchitectureConfig.from_dict(mapping), CIFAR, 32)


def _digits(family: str, channels: tuple[int, ...], **architecture: Any) -> Case:
    mapping = {"family": family, "base_channels": channels, "in_channels": 1, **architecture}
    return Case(ArchitectureConfig.from_dict(mapping), DIGITS, 8)


CASES = {
    "mgiad-g8": _cifar("mgiad", group_size=8, fully_coupled_channels=8),
    "mgiad-g4": _cifar("mgiad", group_size=4, fully_coupled_channels=8),
    "mgiad-g64": _cifar("mgiad", group_size=64, fully_coupled_channels=64),
    "mgnet": _cifar("mgnet"),
    "resnet18": _cifar("resnet", (64, 128, 256, 512)),
    "digits-mgiad": _digits("mgiad", (16, 32), group_size=8, fully_coupled_channels=8),
    "digits-mgic": _digits("mgic", (8, 16), group_size=2, fully_coupled_channels=8),
    "digits-mgnet": _digits("mgnet", (8, 16)),
}


def case_for(name: str, options: argparse.Namespace) -> Case:
    """The case of that name, with the batch size of the options."""
    return with_batch(CASES[name], options)


def with_batch(case: Case, options: argparse.Namespace) -> Case:
    """The case with the batch size of the options, if they have one."""
    return replace(case, settings=replace(case.settings, batch_size=options.batch)) if options.batch else case


def steps_for(case: Case, options: argparse.Namespace) -> int:
    """Steps per epoch. The default on a CPU is an epoch of digits, 18 steps, or 2 steps of CIFAR; on a GPU it is 40."""
    return options.steps or (40 if options.device == "cuda" else 2 if case.size == 32 else 18)


def random_images(case: Case, count: int) -> ImageDataset:
    """`count` images of random pixels with random labels."""
    generator = np.random.default_rng(0)
    shape = (count, case.architecture.in_channels, case.size, case.size)
    pixels = generator.integers(0, 256, shape, dtype=np.uint8)
    return ImageDataset(pixels, generator.integers(0, case.architecture.num_classes, count))


def make_trainer(case: Case, options: argparse.Namespace) -> Trainer:
    """mgnas's trainer of this case, on random images. An epoch has `steps_for` steps."""
    train = random_images(case, case.settings.batch_size * steps_for(case, options))
    how = (0, options.device, options.precision, options.execution)
    return Trainer(case.architecture, case.settings, train, None, *how)


def precision_name(trainer: Trainer) -> str:
    return str(trainer.precision or torch.float32).removeprefix("torch.")


def hardware(options: argparse.Namespace) -> dict[str, Any]:
    """The machine and the versions that the figures were measured with."""
    return {
        "cpu": processor(),
        "cores": available_cores(),
        "threads": options.threads,
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def processor() -> str:
    """The processor's name, as Linux gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def markdown(rows: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The rows as a Markdown table, with the machine and the versions below it."""
    return "\n".join(table(rows)) + "\n\n" + ", ".join(f"{key}: {value}" for key, value in machine.items()) + "\n"


def make_parser(description: str | None, cases: Mapping[str, Case] = CASES) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks of training share.

    Args:
        description: the script's docstring.
        cases: that can be named; all of them by default.
    """
    parser = argparse.ArgumentParser(description=first_line(description or ""))
    parser.add_argument("--cases", nargs="+", choices=cases, default=list(cases), metavar="CASE", help=", ".join(cases))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto", help="type that mgnas computes in")
    parser.add_argument("--execution", choices=get_args(Execution), default="eager", help="how mgnas executes steps")
    parser.add_argument("--threads", type=int, default=available_cores(), help="default: all cores")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, help="per repetition; default on a CPU 2 at 32x32, 18 at 8x8; on a GPU 40")
    parser.add_argument("--batch", type=int, help="images per step; default 128 at 32x32, 64 at 8x8")
    parser.add_argument("--output", type=Path, help="writes OUTPUT.json and OUTPUT.md; default: print only")
    return parser


def measure_all(jobs: Mapping[str, Callable[[], dict[str, Any]]], options: argparse.Namespace) -> int:
    """Run the measurements one after the other and print their results, then print the table and write --output.

    The row of a measurement that fails holds its error. The others are not affected.

    Args:
        jobs: what to measure -> a function that measures it and returns a row of the table.
        options: of the command line.

    Returns:
        The exit status: 1 if a measurement has failed.
    """
    torch.set_num_threads(options.threads)
    rows, failed = [], False
    for name, job in jobs.items():
        try:
            rows.append(job())
        except Exception as error:
            rows.append({"case": name, "failure": f"{type(error).__name__}: {first_line(error)}"})
            failed = True
        print(json.dumps(rows[-1]), flush=True)
    machine = hardware(options)
    text = markdown(rows, machine)
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.with_name(options.output.name + ".md").write_text(text)
        result = json.dumps({"machine": machine, "results": rows}, indent=2)
        options.output.with_name(options.output.name + ".json").write_text(result + "\n")
    return int(failed)
