"""Compares training recipes at equal epochs: on digits and on CIFAR-10 at 16 x 16 pixels, with several seeds.

A recipe is `standard`, or what is added to it, such as `trivial` or `adamw+mixup+ema`. On each data set there are two
networks. Accuracies are those of held-out training images, after the last epoch; test images are not used. Recipes are
compared seed by seed: trainings of one seed begin with the same weights, and see the same images in the same order.

    python benchmarks/training/recipes.py --out recipes.jsonl --threads 2 [--data-cifar10 cifar10.npz] [--seeds 10]
        [--recipes standard trivial adamw+trivial ...] [--data digits cifar10] [--networks small large] [--minutes 60]

Each finished training is a line of --out. The same call again goes on with those that are missing; --show prints the
table of the lines that are there, and trains nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from resumable import Job, add_options, run_script, train, train_missing
from tables import table

from mgnas.errors import UserError, first_line
from mgnas.models import ArchitectureConfig
from mgnas.search.data.dataset import Dataset, DataSettings
from mgnas.search.training.trainer import Trainer
from mgnas.settings import build
from mgnas.space.candidate import TrainingSettings

STANDARD = "standard"

PARTS: dict[str, dict[str, Any]] = {
    "plain": {"crop_padding": 0, "flip": False},
    "decay": {"weight_decay": 1e-4},
    "smoothing": {"label_smoothing": 0.1},
    "cutout": {},  # of a quarter of the image's side
    "trivial": {"augmentation": "trivial"},
    "autoaugment": {"augmentation": "autoaugment"},
    "resized": {"crop_padding": 0, "random_resized_crop": 0.4},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "ema": {"ema_decay": 0.99},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.003, "weight_decay": 0.05},
}
"""What may be added to the standard recipe."""

DEFAULT_RECIPES = (
    STANDARD,
    *PARTS,
    "mixup+cutmix",
    "trivial+ema",
    "trivial+mixup",
    "trivial+smoothing",
    "adamw+ema",
    "adamw+trivial+ema",
    "adamw+trivial+ema+mixup",
)


@dataclass(frozen=True)
class Task:
    """A data set with its networks and its standard recipe.

    Args:
        networks: of each size.
        recipe: the standard recipe, but for its epochs.
        epochs: by default.
        images: to train on and to measure accuracy on, by default; None: half of all each.
        size: pixels per side.
    """

    networks: dict[str, dict[str, Any]]
    recipe: dict[str, Any]
    epochs: int
    images: tuple[int, int] | None
    size: int


_SGD = {"learning_rate": 0.1, "weight_decay": 5e-4}

TASKS = {
    "digits": Task(
        {
            "small": {"family": "mgnet", "base_channels": [8, 16], "in_channels": 1},
            "large": {"family": "mgnet", "base_channels": [16, 32], "smoothing_steps": 2, "in_channels": 1},
        },
        # Mirror images are no digits.
        _SGD | {"batch_size": 64, "crop_padding": 1},
        60,
        None,
        8,
    ),
    "cifar10": Task(
        {
            "small": {"family": "mgnet", "base_channels": [16, 32, 64], "smoothing_steps": 1, "sharing": "A"},
            "large": {"family": "mgnet", "base_channels": [48, 48, 48], "smoothing_steps": 1, "sharing": "A"},
        },
        _SGD | {"batch_size": 128, "warmup_epochs": 2.0, "crop_padding": 2, "flip": True},
        30,
        (10_000, 10_000),
        16,
    ),
}


def make_job(data: str, network: str, recipe: str, seed: int, options: argparse.Namespace) -> Job:
    """The training that the options mean.

    Raises:
        UserError: an unknown part of the recipe, or settings that contradict each other.
    """
    task = TASKS[data]
    settings = task.recipe | {"epochs": options.epochs or task.epochs}
    for part in [] if recipe == STANDARD else recipe.split("+"):
        if part not in PARTS:
            raise UserError(f"--recipes: unknown part {part!r} of {recipe!r}; there are {', '.join(PARTS)}")
        settings |= {"cutout": task.size // 4} if part == "cutout" else PARTS[part]
    counts = task.images if options.images is None else tuple(options.images)
    images: dict[str, Any] = {"name": data, "validation_fraction": 0.5}
    if counts is not None:
        images |= {"train_images": sum(counts), "validation_fraction": counts[1] / sum(counts)}
    if data == "cifar10":
        images |= {"path": options.data_cifar10, "image_size": task.size}
    return Job(
        {"data": data, "network": network, "recipe": recipe},
        seed,
        ArchitectureConfig.from_dict(task.networks[network]),
        build(TrainingSettings, settings, recipe),
        build(DataSettings, images, "data"),
    )


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """All trainings, seed after seed, so that all recipes have about as many."""
    for seed in range(options.seeds):
        for data in options.data:
            for network in options.networks:
                for recipe in dict.fromkeys([STANDARD, *options.recipes]):
                    yield make_job(data, network, recipe, seed, options)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row of the table for each data set, network and recipe. Settings that differ are kept apart.

    `difference` is the mean over the seeds of accuracy minus that of the standard recipe, with its standard error.
    """
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        key = json.dumps({name: value for name, value in row["job"].items() if name != "seed"}, sort_keys=True)
        groups.setdefault(key, {})[row["job"]["seed"]] = row
    lines = []
    for group in groups.values():
        job = next(iter(group.values()))["job"]
        finished = {seed: row["accuracy"] for seed, row in group.items() if row["accuracy"] is not None}
        standard = _standard(groups, job)
        pairs = [finished[seed] - standard[seed] for seed in sorted(finished.keys() & standard.keys())]
        accuracies = list(finished.values())
        lines.append(
            {
                "data": job["data"],
                "network": f"{job['network']}, {next(iter(group.values()))['weights']:,} weights",
                "epochs": job["training"]["epochs"],
                "recipe": job["recipe"],
                "n": len(accuracies),
                "mean": f"{100 * statistics.fmean(accuracies):.2f}" if accuracies else "",
                "sd": f"{100 * statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else "",
                "difference": "" if job["recipe"] == STANDARD else _with_error(pairs),
                "diverged": len(group) - len(finished) or "",
                "seconds": f"{statistics.fmean(row['seconds'] for row in group.values()):.1f}",
            }
        )
    order = [*TASKS]
    return sorted(
        lines,
        key=lambda line: (
            order.index(line["data"]),
            int(line["network"].split()[1].replace(",", "")),
            line["epochs"],
            -float(line["mean"] or 0),
        ),
    )


def _standard(groups: dict[str, dict[int, dict[str, Any]]], job: dict[str, Any]) -> dict[int, float]:
    """Seed -> accuracy of the standard recipe with the same network, images and epochs."""

    def alike(other: dict[str, Any]) -> bool:
        same = all(other[name] == job[name] for name in ("data", "network", "architecture", "images"))
        return same and other["recipe"] == STANDARD and other["training"]["epochs"] == job["training"]["epochs"]

    return {
        seed: row["accuracy"]
        for group in groups.values()
        for seed, row in group.items()
        if alike(row["job"]) and row["accuracy"] is not None
    }


def _with_error(pairs: list[float]) -> str:
    """Mean of the differences in points of per cent, with its standard error if there are two or more."""
    if not pairs:
        return ""
    mean = f"{100 * statistics.fmean(pairs):+.2f}"
    return mean if len(pairs) < 2 else f"{mean} +- {100 * statistics.stdev(pairs) / math.sqrt(len(pairs)):.2f}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""), allow_abbrev=False)
    add_options(parser)
    parser.add_argument("--recipes", nargs="+", default=DEFAULT_RECIPES, metavar="A+B", help=", ".join(PARTS))
    parser.add_argument("--data", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--networks", nargs="+", choices=("small", "large"), default=("small", "large"))
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="train from seeds 0 to N - 1")
    parser.add_argument("--epochs", type=int, metavar="N")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> list[str]:
    """Train what is missing, until the minutes end. Returns the lines of the table.

    Raises:
        UserError: options are wrong, images cannot be read, or the file cannot be used.
    """

    def row_of(job: Job, dataset: Dataset) -> dict[str, Any]:
        trainer = Trainer(job.architecture, job.training, dataset.train, None, job.seed, options.device)
        return train(job, trainer, dataset, options.threads)

    return table(summary(train_missing(jobs(options), row_of, options).rows))


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return run_script(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
