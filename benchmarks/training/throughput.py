"""How fast mgnas trains, compared with the plain recipe (plain_recipe.py) in one process on one machine.

Both recipes train the same network from the same weights, with the same batches and the same work per step: fetch
images, augment, normalise, forward, backward, clip, optimizer step. They take turns: in a repetition each trains an
epoch of --steps steps. The plain recipe uses the number of loader processes that is fastest for it.

    python benchmarks/training/throughput.py [--cases mgiad-g8 digits-mgic] [--device cuda] [--output throughput]
    python benchmarks/training/throughput.py --accuracy            do both recipes learn as much in as many epochs?
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from cases import (
    CASES,
    DIGITS,
    Case,
    case_for,
    make_parser,
    make_trainer,
    measure_all,
    precision_name,
    random_images,
    steps_for,
)
from plain_recipe import PlainTrainer, plain_network
from torch.nn import functional as F

from mgnas.models import count_weights
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.data.images import ImageDataset
from mgnas.search.training.trainer import Trainer

_TOLERANCE = 1e-9
"""Largest difference of two equal networks' losses in float64.

The networks add the same numbers in another order, which changes the losses of all cases by 2e-15 at most. A single
weight that differs by 0.001 changes them by 1e-6 or more. In float32 no such limit holds on every device, because
cuDNN's algorithms (Winograd, FFT) round more than sums in another order do.
"""


def check_equal_loss(ours: torch.nn.Module, plain: torch.nn.Module, case: Case, device: str) -> float:
    """The difference between both networks' losses on the same images, in float64. The networks are not changed.

    Raises:
        ValueError: the difference is more than rounding.
    """
    generator = torch.Generator().manual_seed(0)
    # Few images, because float64 is slow on CPUs.
    images = torch.randn(2, case.architecture.in_channels, case.size, case.size, generator=generator)
    labels = torch.randint(0, case.architecture.num_classes, (2,), generator=generator).to(device)
    losses = []
    with torch.no_grad():
        for model in (ours, plain):
            trained = copy.deepcopy(model).to(device, torch.float64).train()
            losses.append(float(F.cross_entropy(trained(images.to(device, torch.float64)), labels)))
    difference = abs(losses[0] - losses[1])
    if not difference <= _TOLERANCE:
        raise ValueError(f"mgnas's network and the plain one are not the same: losses {losses[0]} and {losses[1]}")
    return difference


def timed(trainer: Trainer | PlainTrainer) -> float:
    """Seconds of one epoch. Both trainers read the loss at its end, which waits for the device."""
    start = time.perf_counter()
    trainer.run_epoch()
    return time.perf_counter() - start


def fastest_plain(case: Case, start: torch.nn.Module, train: ImageDataset, options: argparse.Namespace) -> PlainTrainer:
    """The plain trainer, warmed up, with the fastest number of loader processes (best of two epochs)."""
    candidates = []
    for workers in options.loader_workers:
        trainer = PlainTrainer(copy.deepcopy(start), case.settings, train, options.device, workers)
        timed(trainer)
        candidates.append((min(timed(trainer), timed(trainer)), workers, trainer))
    return min(candidates, key=lambda candidate: candidate[:2])[2]


def measure_throughput(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Images per second of both recipes in one case, and the ratio of mgnas's speed to the plain one's."""
    case = case_for(name, options)
    train = random_images(case, case.settings.batch_size * steps_for(case, options))
    ours = make_trainer(case, options)
    start = plain_network(ours.model)
    difference = check_equal_loss(ours.model, start, case, options.device)
    timed(ours)
    plain = fastest_plain(case, start, train, options)
    seconds: dict[Trainer | PlainTrainer, list[float]] = {plain: [], ours: []}
    for repetition in range(options.repetitions):
        for trainer in (plain, ours) if repetition % 2 == 0 else (ours, plain):
            seconds[trainer].append(timed(trainer))
    ratios = [slow / fast for slow, fast in zip(seconds[plain], seconds[ours], strict=True)]
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return {
        "case": name,
        "weights": count_weights(case.architecture),
        "batch": case.settings.batch_size,
        "steps": len(train) // case.settings.batch_size,
        "repetitions": options.repetitions,
        "mgnas computes in": precision_name(ours),
        "plain images/s": round(len(train) / statistics.median(seconds[plain]), 1),
        "plain loader processes": plain.workers,
        "mgnas images/s": round(len(train) / statistics.median(seconds[ours]), 1),
        "ratio": round(float(middle), 2),
        "ratio quartiles": f"{low:.2f} to {high:.2f}",
        "loss difference": f"{difference:.0e}",
    }


def measure_accuracy(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Test accuracy on digits after the same number of epochs of both recipes from the same weights, for some seeds.

    The networks of the CIFAR-10 cases learn digits too, because the recipes are compared, not the networks.
    """
    data = load_dataset(DataSettings(name="digits"))
    assert data.test is not None  # digits have test images
    train = data.train + data.validation
    case = Case(replace(CASES[name].architecture, in_channels=1), DIGITS, 8)
    settings = replace(case.settings, epochs=options.epochs, learning_rate=0.1)
    accuracies: dict[str, list[float]] = {"plain": [], "mgnas": []}
    precisions = set()
    for seed in range(options.seeds):
        how = (seed, options.device, options.precision, options.execution)
        ours = Trainer(case.architecture, settings, train, None, *how)
        precisions.add(precision_name(ours))
        start = plain_network(ours.model)
        check_equal_loss(ours.model, start, case, options.device)
        plain = PlainTrainer(start, settings, train, options.device, 0, seed)
        for recipe, trainer in (("plain", plain), ("mgnas", ours)):
            for _ in range(settings.epochs):
                trainer.run_epoch()
            accuracies[recipe].append(100 * trainer.evaluate(data.test))
    differences = [after - before for before, after in zip(accuracies["plain"], accuracies["mgnas"], strict=True)]
    result = {"case": name, "mgnas computes in": ", ".join(precisions), "epochs": settings.epochs}
    result |= {"seeds": options.seeds, "test images": len(data.test)}
    for title, values in (*accuracies.items(), ("difference", differences)):
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        result |= {f"{title} %": round(statistics.mean(values), 2), f"{title} sd": round(spread, 2)}
    return result


def main() -> int:
    options = make_parser(__doc__)
    options.add_argument("--loader-workers", type=int, nargs="+", help="processes to try; default 0 2, on a GPU also 8")
    options.add_argument("--accuracy", action="store_true", help="accuracies on digits instead of speed")
    options.add_argument("--epochs", type=int, default=20, help="of --accuracy")
    options.add_argument("--seeds", type=int, default=5, help="of --accuracy")
    options = options.parse_args()
    options.loader_workers = options.loader_workers or ([0, 2, 8] if options.device == "cuda" else [0, 2])
    measure = measure_accuracy if options.accuracy else measure_throughput
    return measure_all({name: partial(measure, name, options) for name in options.cases}, options)


if __name__ == "__main__":
    sys.exit(main())
