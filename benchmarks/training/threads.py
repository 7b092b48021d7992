"""Does a training on a CPU become faster by more threads? Networks of several sizes, with one thread and with all.

Both train the same network in one process and take turns. The rule of mgnas/search/training/threads.py follows from it.

    python benchmarks/training/threads.py [--repetitions 5]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import numpy as np
import torch
from cases import Case, available_cores, precision_name, processor, random_images
from tables import table

from mgnas.errors import first_line
from mgnas.models import ArchitectureConfig
from mgnas.search.training.trainer import Trainer
from mgnas.space.candidate import TrainingSettings

_GROUPS = {"group_size": 4, "fully_coupled_channels": 8}


def _case(family: str, channels: tuple[int, ...], size: int, batch: int, **more: int) -> Case:
    architecture = ArchitectureConfig.from_dict({"family": family, "base_channels": channels, **more})
    return Case(architecture, TrainingSettings(epochs=1000, batch_size=batch), size)


CASES = (
    _case("mgnet", (4, 8), 8, 64),
    _case("mgiad", (8, 16), 8, 64, **_GROUPS),
    _case("mgnet", (16, 32), 8, 64),
    _case("mgic", (32, 64), 8, 64, **_GROUPS),
    _case("mgnet", (16, 32, 64), 16, 64),
    _case("mgiad", (32, 64), 16, 64, **_GROUPS),
    _case("mgnet", (8, 16, 32), 32, 128),
    _case("mgnet", (16, 32, 64), 32, 128),
)


def steps_of(case: Case) -> int:
    """Steps of an epoch."""
    return 20 if case.size < 32 else 5


def make_trainer(case: Case) -> Trainer:
    """A training on random images."""
    images = random_images(case, case.settings.batch_size * steps_of(case))
    return Trainer(case.architecture, case.settings, images, None)


def measure(case: Case, repetitions: int, many: int) -> dict[str, str]:
    """The case's row: seconds of an epoch with one thread over those with many; the median, and the quartiles."""
    trainers = {threads: make_trainer(case) for threads in (1, many)}
    seconds: dict[int, list[float]] = {1: [], many: []}
    for repetition in range(repetitions + 1):
        for threads, trainer in trainers.items():
            torch.set_num_threads(threads)
            start = time.perf_counter()
            trainer.run_epoch()
            if repetition:  # The first epoch chooses algorithms.
                seconds[threads].append(time.perf_counter() - start)
    ratios = sorted(one / more for one, more in zip(seconds[1], seconds[many], strict=True))
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    architecture, batch, size = case.architecture, case.settings.batch_size, case.size
    return {
        "network": architecture.describe(),
        "images": f"{batch} of {size} x {size}",
        "values of an activation": f"{batch * architecture.channels[0] * size**2:,}",
        "type": precision_name(trainers[1]),
        "ms of a step, 1 thread": f"{1000 * statistics.median(seconds[1]) / steps_of(case):.1f}",
        f"{many} threads are faster by": f"{middle:.3g} ({low:.3g} to {high:.3g})",
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""), allow_abbrev=False)
    parser.add_argument("--repetitions", type=int, default=5, metavar="N")
    options = parser.parse_args(arguments)
    many = available_cores()
    print(f"{many} cores, {processor()}, torch {torch.__version__}\n")
    print("\n".join(table([measure(case, options.repetitions, many) for case in CASES])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
