"""How fast networks with each setting train on this machine: images per second beside weights and multiply-accumulates.

The cases differ from each other in one setting: the smoother, the group size and the kernels of grouped levels, the
stride of the stem. They take turns: in a repetition each trains --steps steps on random images.

    python benchmarks/training/settings_speed.py --threads 1 [--cases mgnet mgnet-degree-1] [--repetitions 5]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from cases import CIFAR, Case, make_parser, make_trainer, measure_all, precision_name, with_batch
from throughput import timed

from mgnas.models import ArchitectureConfig
from mgnas.models.cost import total_cost
from mgnas.search.training.trainer import Trainer


def _case(family: str, size: int = 32, **architecture: Any) -> Case:
    mapping = {"family": family, "base_channels": [16, 32, 64], "smoothing_steps": 1, **architecture}
    return Case(ArchitectureConfig.from_dict(mapping), CIFAR, size)


_GROUPED = {"fully_coupled_channels": 16, "channel_levels": 2}

SPEED_CASES = {
    "mgnet": _case("mgnet"),
    **{f"mgnet-degree-{d}": _case("mgnet", smoother="polynomial", polynomial_degree=d) for d in (0, 1, 2)},
    **{
        f"mgiad-g{group}-{kernel}x{kernel}": _case("mgiad", group_size=group, kernel_size=kernel, **_GROUPED)
        for group in (1, 4, 8)
        for kernel in (3, 5, 7)
    },
    **{f"mgnet-stem-{stride}": _case("mgnet", stem_stride=stride) for stride in (2, 4)},
    **{f"mgnet-96-stem-{stride}": _case("mgnet", 96, stem_stride=stride) for stride in (1, 2, 4)},
}


def seconds_in_turns(
    trainers: dict[str, Trainer], repetitions: int, minutes: float = math.inf
) -> dict[str, list[float]]:
    """Seconds of `repetitions` epochs of each trainer, after one that does not count. The order alternates.

    After these minutes there are no more repetitions, but each trainer has one at least.
    """
    deadline = time.monotonic() + 60 * minutes
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for repetition in range(-1, repetitions):
        if repetition > 0 and time.monotonic() >= deadline:
            break
        for name in list(trainers)[:: 1 if repetition % 2 else -1]:
            elapsed = timed(trainers[name])
            if repetition >= 0:
                seconds[name].append(elapsed)
    return seconds


def row(name: str, precision: str, seconds: list[float], options: argparse.Namespace) -> dict[str, Any]:
    """A row of the table. `precision`: the type that it computes in."""
    case = SPEED_CASES[name]
    images = options.steps * (options.batch or case.settings.batch_size)
    cost = total_cost(case.architecture, case.size)
    speeds = images / np.array(seconds)
    low, middle, high = np.quantile(speeds, [0.25, 0.5, 0.75])
    return {
        "case": name,
        "weights": f"{cost.weights:,}",
        "MACs": f"{cost.macs / 1e6:.1f}M",
        "computes in": precision,
        "repetitions": len(seconds),
        "images/s (quartiles)": f"{middle:,.0f} ({low:,.0f} to {high:,.0f})",
        "GMACs/s": f"{middle * cost.macs / 1e9:.1f}",
    }


def main() -> int:
    parser = make_parser(__doc__, SPEED_CASES)
    parser.set_defaults(steps=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after the repetition they end in")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    trainers = {name: make_trainer(with_batch(SPEED_CASES[name], options), options) for name in options.cases}
    seconds = seconds_in_turns(trainers, options.repetitions, options.minutes)
    return measure_all(
        {
            name: partial(row, name, precision_name(trainer), seconds[name], options)
            for name, trainer in trainers.items()
        },
        options,
    )


if __name__ == "__main__":
    sys.exit(main())
