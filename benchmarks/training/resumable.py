"""Trainings whose results are kept as JSON lines, so that the same call goes on with those that are missing."""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from published import environment
from trials_per_hour import wait_for_all

from mgnas.errors import UserError, first_line
from mgnas.models import ArchitectureConfig
from mgnas.models.cost import count_weights
from mgnas.search.data.dataset import Dataset, DataSettings, load_dataset
from mgnas.search.training.trainer import Trainer, TrainingDivergedError
from mgnas.space.candidate import TrainingSettings


@dataclass(frozen=True)
class Job:
    """One training.

    Args:
        labels: what it is called, apart from its seed, such as {"data": "digits", "recipe": "mixup"}.
        seed: of the training.
        architecture: the network.
        training: the recipe.
        images: the data set; it is trained on its training images, and measured on its validation images.
    """

    labels: Mapping[str, Any]
    seed: int
    architecture: ArchitectureConfig
    training: TrainingSettings
    images: DataSettings

    @property
    def name(self) -> str:
        return f"{' '.join(map(str, self.labels.values()))} seed {self.seed}"

    def identity(self) -> dict[str, Any]:
        """All that decides the accuracy, as JSON holds it."""
        identity = {
            **self.labels,
            "seed": self.seed,
            "architecture": self.architecture.to_dict(),
            "training": asdict(self.training),
            "images": {key: value for key, value in asdict(self.images).items() if key != "path"},
        }
        return json.loads(json.dumps(identity))


class Results:
    """The finished trainings, one JSON line each. A line that a killed process has left unfinished does not count.

    Raises:
        UserError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, []
        try:
            lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({first_line(error)}); choose another --out") from None
        self._is_torn = lines[-1] != ""
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and {"job", "accuracy", "seconds", "weights"} <= row.keys():
                self.rows.append(row)

    def __contains__(self, job: Job) -> bool:
        identity = job.identity()
        return any(row["job"] == identity for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """Append a finished training.

        Raises:
            UserError: the file cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._is_torn + json.dumps(row) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); choose another --out") from None
        self._is_torn = False
        self.rows.append(row)


def train(job: Job, trainer: Trainer, dataset: Dataset, threads: int) -> dict[str, Any]:
    """A whole training by a new trainer, as a line of the results. `accuracy` is None if it diverged."""
    accuracy, failure = None, None
    try:
        while not trainer.finished:
            trainer.run_epoch()
        accuracy = trainer.evaluate(dataset.validation)
    except TrainingDivergedError as error:
        failure = str(error)
    return {
        "job": job.identity(),
        "accuracy": accuracy,
        "failure": failure,
        "loss": trainer.history[-1].loss if trainer.history else None,
        "weights": count_weights(job.architecture),
        "seconds": round(sum(epoch.seconds for epoch in trainer.history), 2),
        "training_images": len(dataset.train),
        "measured_images": len(dataset.validation),
        "threads": threads,
        **environment(trainer.device.type),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `train_missing` reads, and those of the trainings that every comparison has."""
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON lines, outside the checkout")
    parser.add_argument("--data-cifar10", metavar="PATH", help="an npz file or folder; default: downloaded")
    parser.add_argument("--images", type=int, nargs=2, metavar="N", help="images to train on, and to measure on")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="trainings at the same time")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of each process")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, metavar="N", help="stop after the trainings they end in"
    )
    parser.add_argument("--show", action="store_true", help="print the table and train nothing")


def train_missing(
    jobs: Iterable[Job], row_of: Callable[[Job, Dataset], dict[str, Any]], options: argparse.Namespace
) -> Results:
    """Train the jobs that are not among the results, until the minutes end.

    Args:
        jobs: in the order in which they are trained; not looked at if the results are only shown.
        row_of: trains a job and returns its line of the results, as `train` does.
        options: those of `add_options`.

    Raises:
        UserError: options are wrong, images cannot be read, or the file cannot be used.
    """
    results = Results(options.out)
    if options.show:
        return results
    deadline = time.monotonic() + 60 * options.minutes
    torch.set_num_threads(options.threads)
    missing = [job for job in jobs if job not in results]
    datasets: dict[DataSettings, Dataset] = {}
    for job in missing:
        if job.images not in datasets:
            datasets[job.images] = load_dataset(job.images)
    # Forked processes share the images. This one has not used a GPU, so its copies may.
    context = multiprocessing.get_context("fork")
    begun = context.Value("i", 0)

    def work() -> None:
        while (number := _next(begun)) <= len(missing):
            job = missing[number - 1]
            row = row_of(job, datasets[job.images])
            results.add(row)
            outcome = row["failure"] or f"{100 * row['accuracy']:.2f} %"
            print(f"{number} of {len(missing)}: {job.name}: {outcome}, {row['seconds']:.1f} s", flush=True)
            if time.monotonic() >= deadline:
                break

    if options.processes == 1:
        work()
    else:
        processes = [context.Process(target=work) for _ in range(options.processes)]
        for process in processes:
            process.start()
        wait_for_all(processes)
        results = Results(options.out)
    left = sum(job not in results for job in missing)
    if left:
        print(f"{left} trainings are left; the same call goes on with them")
    return results


def _next(counter: Any) -> int:
    """Count up a number that processes share."""
    with counter.get_lock():
        counter.value += 1
        return counter.value


def run_script(run: Callable[[], list[str]]) -> int:
    """Print the lines that `run` returns. A wrong option or file is one line of errors, and the exit status 1."""
    try:
        lines = run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0
