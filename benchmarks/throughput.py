"""How fast mgnas trains, measured against the plain recipe (plain_recipe.py): ratios within one run of one machine.

Both sides train the same network from the same weights, with the same batch and the same work per step: fetch images,
augment, normalise, forward, backward, clip, optimizer step. They take turns; a repetition is one epoch of --steps
steps of either. The plain recipe loads with as many processes as are fastest for it.

    python benchmarks/throughput.py [--cases mgiad-g8 digits-mgic] [--device cuda] [--output throughput]
    python benchmarks/throughput.py --accuracy            do both recipes learn as much in as many epochs?
    python benchmarks/throughput.py --threads-per-trial   how many threads per trial give the most trials per hour?
    python benchmarks/throughput.py --profile             which operations does mgnas's time go to?
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from plain_recipe import PlainRun, plain_network
from torch import multiprocessing
from torch.nn import functional as F

from mgnas.models import ArchitectureConfig, count_weights
from mgnas.search.data import DataSettings, load_dataset
from mgnas.search.images import Images
from mgnas.search.training import TrainingRun
from mgnas.space.candidate import TrainingSettings

# The recipes of configs/cifar10.yaml and configs/digits.yaml. The rate has no influence on the speed; a small one
# keeps the loss on random images finite, and so many epochs keep it from reaching 0.
_CIFAR = TrainingSettings(
    epochs=10_000, batch_size=128, learning_rate=0.01, label_smoothing=0.1, crop_padding=4, flip=True
)
_DIGITS = TrainingSettings(epochs=10_000, batch_size=64, learning_rate=0.01, crop_padding=1)
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """A network, its recipe, and the images' pixels per side."""

    architecture: ArchitectureConfig
    settings: TrainingSettings
    size: int


def _cifar(family: str, channels: tuple[int, ...] = (64, 128, 256, 256), **architecture) -> Case:
    return Case(ArchitectureConfig(family=family, base_channels=channels, **architecture), _CIFAR, 32)


def _digits(family: str, channels: tuple[int, ...], **architecture) -> Case:
    config = ArchitectureConfig(family=family, base_channels=channels, in_channels=1, **architecture)
    return Case(config, _DIGITS, 8)


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
    case = CASES[name]
    return replace(case, settings=replace(case.settings, batch_size=options.batch)) if options.batch else case


def steps_for(case: Case, options: argparse.Namespace) -> int:
    """An epoch of digits has 18 steps. On a GPU, where steps are short, both sizes take more of them."""
    return options.steps or (40 if options.device == "cuda" else 2 if case.size == 32 else 18)


def random_images(case: Case, count: int) -> Images:
    generator = np.random.default_rng(0)
    shape = (count, case.architecture.in_channels, case.size, case.size)
    pixels = generator.integers(0, 256, shape, dtype=np.uint8)
    return Images(pixels, generator.integers(0, case.architecture.num_classes, count))


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


def precision_name(run: TrainingRun) -> str:
    return str(run.precision or torch.float32).removeprefix("torch.")


def timed(run: TrainingRun | PlainRun) -> float:
    """Seconds of one epoch; both runs end it by reading the loss, which waits for the device."""
    start = time.perf_counter()
    run.run_epoch()
    return time.perf_counter() - start


def fastest_plain(case: Case, start: torch.nn.Module, train: Images, options: argparse.Namespace) -> PlainRun:
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
    ours = TrainingRun(case.architecture, case.settings, train, None, 0, options.device, options.precision)
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
    case = Case(replace(CASES[name].architecture, in_channels=1), _DIGITS, 8)
    settings = replace(case.settings, epochs=options.epochs, learning_rate=0.1)
    found = {"plain": [], "mgnas": []}
    for seed in range(options.seeds):
        ours = TrainingRun(case.architecture, settings, train, None, seed, options.device, options.precision)
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


# Parts of the names under which PyTorch's profiler lists its operations; the first that fits counts.
_OPERATIONS = {
    "convolution": ("conv",),
    "batch norm": ("batch_norm",),
    "ReLU": ("relu", "threshold", "clamp_min"),
    "addition": ("add", "sub"),
    "copy": ("copy", "_to_copy", "cat", "fill", "zero", "contiguous"),
    "optimizer": ("sgd", "norm", "foreach", "mul"),
}


def measure_profile(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Shares of an epoch's time in the operations themselves: what a faster recipe around them could not save."""
    case = case_for(name, options)
    train = random_images(case, case.settings.batch_size * steps_for(case, options))
    run = TrainingRun(case.architecture, case.settings, train, None, 0, options.device, options.precision)
    timed(run)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if options.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        run.run_epoch()
    attribute = "self_device_time_total" if options.device == "cuda" else "self_cpu_time_total"
    spent = dict.fromkeys([*_OPERATIONS, "others"], 0.0)
    for event in profile.key_averages():
        fitting = (kind for kind, parts in _OPERATIONS.items() if any(part in event.key for part in parts))
        spent[next(fitting, "others")] += getattr(event, attribute)
    total = sum(spent.values())
    shares = {f"{kind} %": round(100 * value / total, 1) for kind, value in spent.items()}
    return {"case": name, "mgnas computes in": precision_name(run), **shares}


def _trial(name: str, options: argparse.Namespace, threads: int, barrier: Any, seconds: Any) -> None:
    """One process of `measure_trials`: build, warm up, wait for the others, train."""
    torch.set_num_threads(threads)
    case = case_for(name, options)
    train = random_images(case, case.settings.batch_size * steps_for(case, options))
    run = TrainingRun(case.architecture, case.settings, train, None, 0, options.device, options.precision)
    run.run_epoch()
    for _ in range(options.repetitions):
        barrier.wait()
        start = time.perf_counter()
        for _ in range(options.epochs):
            run.run_epoch()
        seconds.put(time.perf_counter() - start)


def measure_trials(name: str, trials: int, options: argparse.Namespace) -> dict[str, Any]:
    """Trials per hour if `trials` of them train at the same time and share the threads; start-up is not counted."""
    context = multiprocessing.get_context("spawn")
    barrier, seconds = context.Barrier(trials), context.SimpleQueue()
    threads, case = options.threads // trials, case_for(name, options)
    arguments = (name, options, threads, barrier, seconds)
    processes = [context.Process(target=_trial, args=arguments) for _ in range(trials)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a trial of {name} ended with status {process.exitcode}")
    measured = [seconds.get() for _ in range(trials * options.repetitions)]
    return {
        "case": name,
        "trials at a time": trials,
        "threads per trial": threads,
        "epochs per trial": options.epochs,
        "images per epoch": steps_for(case, options) * case.settings.batch_size,
        "seconds per trial": round(statistics.median(measured), 2),
        "trials per hour": round(3600 * trials / statistics.median(measured), 1),
    }


def hardware(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures hold for."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": available_cores(),
        "threads": options.threads,
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def markdown(rows: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The rows as a table, with the machine and the versions below."""
    titles = list(rows[0])
    lines = [titles, ["---"] * len(titles), *([row[title] for title in titles] for row in rows)]
    table = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
    return f"{table}\n\n" + ", ".join(f"{key}: {value}" for key, value in machine.items()) + "\n"


def measured_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One measurement after the other, each printed when it is there."""
    if options.profile:
        jobs = [(measure_profile, name) for name in options.cases]
    elif options.accuracy:
        jobs = [(measure_accuracy, name) for name in options.cases]
    elif options.threads_per_trial:
        counts = [count for count in range(1, options.threads + 1) if options.threads % count == 0]
        jobs = [(measure_trials, name, count) for name in options.cases for count in counts]
    else:
        jobs = [(measure_throughput, name) for name in options.cases]
    rows = []
    for measure, *arguments in jobs:
        rows.append(measure(*arguments, options))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def parsed_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    precisions = ["auto", "float32", "bfloat16", "float16"]
    parser.add_argument("--precision", choices=precisions, default="auto", help="that mgnas computes in")
    parser.add_argument("--threads", type=int, default=available_cores(), help="default: all cores")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, help="per repetition; default on a CPU 2 at 32x32, 18 at 8x8")
    parser.add_argument("--batch", type=int, help="images per step; default 128 at 32x32, 64 at 8x8")
    parser.add_argument("--loader-workers", type=int, nargs="+", help="default 0 2, on a GPU also 8")
    parser.add_argument("--accuracy", action="store_true", help="accuracies on digits instead of speed")
    parser.add_argument("--threads-per-trial", action="store_true", help="trials per hour instead of speed")
    parser.add_argument("--profile", action="store_true", help="shares of the time per operation instead of speed")
    parser.add_argument("--epochs", type=int, default=20, help="of --accuracy and of a trial")
    parser.add_argument("--seeds", type=int, default=5, help="of --accuracy")
    parser.add_argument("--output", type=Path, help="writes OUTPUT.json and OUTPUT.md; default: print only")
    options = parser.parse_args()
    digits = [name for name in CASES if name.startswith("digits")]
    options.cases = options.cases or (digits if options.threads_per_trial else list(CASES))
    options.loader_workers = options.loader_workers or ([0, 2, 8] if options.device == "cuda" else [0, 2])
    return options


def main() -> None:
    options = parsed_options()
    torch.set_num_threads(options.threads)
    rows, machine = measured_rows(options), hardware(options)
    text = markdown(rows, machine)
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.with_name(options.output.name + ".md").write_text(text)
        result = json.dumps({"machine": machine, "results": rows}, indent=2)
        options.output.with_name(options.output.name + ".json").write_text(result + "\n")


if __name__ == "__main__":
    main()
