"""How fast mgnas trains, measured against the plain recipe (plain_recipe.py): ratios within one run of one machine.

Both sides train the same network from the same weights, with the same batch and the same work per step: fetch images,
augment, normalise, forward, backward, clip, optimizer step. They take turns; a repetition is one epoch of --steps
steps of either. The plain recipe loads with as many processes as are fastest for it.

    python benchmarks/training/throughput.py [--cases mgiad-g8 digits-mgic] [--device cuda] [--output throughput]
    python benchmarks/training/throughput.py --accuracy            do both recipes learn as much in as many epochs?
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from cases import CASES, DIGITS, Case, case_for, measure_all, parser, precision_name, random_images, steps_for, training
from plain_recipe import PlainRun, plain_network
from torch.nn import functional as F

from mgnas.models import count_weights
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.data.images import ImageDataset
from mgnas.search.training.trainer import Trainer

_TOLERANCE = 1e-4


def check_equal_loss(ours: torch.nn.Module, plain: torch.nn.Module, case: Case, device: str) -> float:
    """Largest difference between both networks' losses on the same images; nothing of the networks is changed.

    Raises:
        AssertionError: it is above 1e-4.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, case.architecture.in_channels, case.size, case.size, generator=generator)
    labels = torch.randint(0, case.architecture.num_classes, (32,), generator=generator).to(device)
    losses = []
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for model in (ours, plain):
            trained = copy.deepcopy(model).to(device).train()
            losses.append(float(F.cross_entropy(trained(images.to(device)), labels)))
    difference = abs(losses[0] - losses[1])
    assert difference < _TOLERANCE, f"the two networks' losses differ: {losses}"
    return difference


def timed(run: Trainer | PlainRun) -> float:
    """Seconds of one epoch; both runs end it by reading the loss, which waits for the device."""
    start = time.perf_counter()
    run.run_epoch()
    return time.perf_counter() - start


def fastest_plain(case: Case, start: torch.nn.Module, train: ImageDataset, options: argparse.Namespace) -> PlainRun:
    """The plain run, warmed up, with the number of loader processes that trains fastest (best of two epochs)."""
    found = []
    for workers in options.loader_workers:
        run = PlainRun(copy.deepcopy(start), case.settings, train, options.device, workers)
        timed(run)
        found.append((min(timed(run), timed(run)), workers, run))
    return min(found, key=lambda entry: entry[:2])[2]


def measure_throughput(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Images per second of both recipes in one case, and mgnas's speed over the plain one's."""
    case = case_for(name, options)
    train = random_images(case, case.settings.batch_size * steps_for(case, options))
    ours = training(case, options)
    start = plain_network(ours.model, case.architecture)
    difference = check_equal_loss(ours.model, start, case, options.device)
    timed(ours)
    plain = fastest_plain(case, start, train, options)
    seconds = {plain: [], ours: []}
    for repetition in range(options.repetitions):
        for run in (plain, ours) if repetition % 2 == 0 else (ours, plain):
            seconds[run].append(timed(run))
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
    """Accuracy on the digits' test images after equal epochs of both recipes from equal weights, over some seeds.

    The networks of the CIFAR-10 cases learn the digits too, at their full width: the question is the recipe's.
    """
    data = load_dataset(DataSettings(name="digits"))
    train = data.train + data.validation
    case = Case(replace(CASES[name].architecture, in_channels=1), DIGITS, 8)
    settings = replace(case.settings, epochs=options.epochs, learning_rate=0.1)
    found = {"plain": [], "mgnas": []}
    for seed in range(options.seeds):
        how = (seed, options.device, options.precision, options.execution)
        ours = Trainer(case.architecture, settings, train, None, *how)
        start = plain_network(ours.model, case.architecture)
        check_equal_loss(ours.model, start, case, options.device)
        plain = PlainRun(start, settings, train, options.device, 0, seed)
        for recipe, run in (("plain", plain), ("mgnas", ours)):
            for _ in range(settings.epochs):
                run.run_epoch()
            found[recipe].append(100 * run.evaluate(data.test))
    differences = [after - before for before, after in zip(found["plain"], found["mgnas"], strict=True)]
    result = {"case": name, "mgnas computes in": precision_name(ours), "epochs": settings.epochs}
    result |= {"seeds": options.seeds, "test images": len(data.test)}
    for title, values in (*found.items(), ("difference", differences)):
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        result |= {f"{title} %": round(statistics.mean(values), 2), f"{title} sd": round(spread, 2)}
    return result


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--loader-workers", type=int, nargs="+", help="default 0 2, on a GPU also 8")
    options.add_argument("--accuracy", action="store_true", help="accuracies on digits instead of speed")
    options.add_argument("--epochs", type=int, default=20, help="of --accuracy")
    options.add_argument("--seeds", type=int, default=5, help="of --accuracy")
    options = options.parse_args()
    options.loader_workers = options.loader_workers or ([0, 2, 8] if options.device == "cuda" else [0, 2])
    measure = measure_accuracy if options.accuracy else measure_throughput
    measure_all([partial(measure, name, options) for name in options.cases], options)


if __name__ == "__main__":
    main()
