"""Steps of benchmarks/gpu.py that use the other benchmarks of training: peaks, throughput, kernels, packing, a row."""

from __future__ import annotations

import argparse
import gc
import itertools
import math
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, get_args
from unittest.mock import patch

import roofline
import torch
import torchvision
from cases import available_cores, case_for, make_trainer, precision_name, random_images, steps_for
from packed_images import load_cifar10
from plain_recipe import PlainTrainer, plain_network
from steps import Context, Jobs
from throughput import check_equal_loss, timed
from torch.autograd.profiler_util import FunctionEvent
from trials_per_hour import measure_trials

import mgnas
from mgnas.models import layers, shared_weights
from mgnas.search.training import trainer as trainer_module
from mgnas.search.training.execution import Execution
from mgnas.search.training.trainer import Trainer
from mgnas.space.candidate import TrainingSettings
from mgnas.space.published import preset

_CASES = ("resnet18", "mgnet", "digits-mgiad", "mgiad-g8")
_SHARING = ("mgnet", "digits-mgiad", "mgiad-g8")
_EXECUTIONS = tuple(name for name in get_args(Execution) if name != "auto")
_COMPILED = tuple(name for name in _EXECUTIONS if "compile" in name)
_VARIANTS: dict[str, tuple[tuple[str, ...], Callable[[], AbstractContextManager]]] = {
    "PyTorch's batch norm": (_CASES, partial(patch.object, layers, "fused_batch_norm", lambda: None)),
    "gradients of each use alone": (_SHARING, partial(patch.object, shared_weights, "GATHERED_VALUES", 0)),
    "gradients gathered up to 4M values": (_SHARING, partial(patch.object, shared_weights, "GATHERED_VALUES", 2**22)),
    "groups not merged": (
        ("mgnet", "mgiad-g8", "digits-mgiad"),
        partial(patch.multiple, layers, _GPU_CHANNELS=0, _GPU_DEPTHWISE_CHANNELS=0),
    ),
    "depthwise in 32s": (("mgnet",), partial(patch.object, layers, "_GPU_DEPTHWISE_CHANNELS", 32)),
    "depthwise in 128s": (("mgnet",), partial(patch.object, layers, "_GPU_DEPTHWISE_CHANNELS", 128)),
    "all groups in 32s": (("mgiad-g8", "digits-mgiad"), partial(patch.object, layers, "_GPU_MANY_PIXELS", 0)),
    "groups in 64s": (("mgiad-g8",), partial(patch.object, layers, "_GPU_CHANNELS", 64)),
    # The last one, because cuDNN keeps what it has found.
    "search of algorithms": (_CASES, partial(patch.object, trainer_module, "_MANY_STEPS", 0)),
}
"""What may be changed in recorded training, and in which cases."""
_RECIPE = TrainingSettings(epochs=1, weight_decay=5e-4, label_smoothing=0.1, crop_padding=4, flip=True, cutout=8)
_GOAL = 0.956
"""Test accuracy of which the time is taken: the published one of ResNet18."""
_FEW_STEPS = 12
"""Steps of an epoch that is executed operation by operation, which is slow."""
_LONGEST = 20
_MPS = "nvidia-cuda-mps-control"


def options_for(context: Context, execution: str | None = None, precision: str = "auto") -> argparse.Namespace:
    """The options that the other benchmarks expect. By default steps are executed as mgnas does by default."""
    options = argparse.Namespace(device=context.device, execution=execution or "auto", precision=precision)
    options.steps, options.batch, options.epochs = (2, 8, 1) if context.tiny else (None, None, 2)
    if execution == "eager" and not context.tiny:
        options.steps = _FEW_STEPS
    options.threads, options.repetitions = 1 if context.tiny else available_cores(), 1 if context.tiny else 3
    return options


def short_training() -> AbstractContextManager:
    """A context of trainings in which cuDNN does not search for the fastest algorithms, as in those of a search."""
    return patch.object(trainer_module, "_MANY_STEPS", math.inf)


# ---------------------------------------------------------------------------------------------------------- environment


def environment(context: Context) -> Jobs:
    """Versions, and what the device can do at most."""
    sizes = (128, 2**20) if context.tiny else (None, 2**30 if context.device == "cuda" else 2**28)
    types = {"bf16": torch.bfloat16, "tf32": torch.float32, "fp32": torch.float32}
    found: dict[str, Callable[[], dict[str, Any]]] = {"versions": partial(_versions, context.device)}
    found["copy"] = lambda: {"value": f"{roofline.copy_peak(context.device, 3, sizes[1]) / 1e9:.0f} GB/s"}
    for name, dtype in types.items():
        peak = partial(roofline.product_peak, context.device, dtype, 3, sizes[0], name == "tf32")
        found[f"product, {name}"] = lambda peak=peak: {"value": f"{peak() / 1e12:.3g} TFLOP/s"}
    return found


def _versions(device: str) -> dict[str, Any]:
    parts = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    parts += [f"torchvision {torchvision.__version__}", f"mgnas {mgnas.__version__}", f"{available_cores()} CPU cores"]
    if device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        parts += [gpu.name, f"{gpu.total_memory / 2**30:.0f} GiB", f"{gpu.multi_processor_count} multiprocessors"]
        parts += [f"CUDA {torch.version.cuda}", f"cuDNN {torch.backends.cudnn.version()}", f"driver {_driver()}"]
    return {"value": ", ".join(parts)}


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, timeout=5, check=False).stdout.strip() or "unknown"


# ----------------------------------------------------------------------------------------------------------- throughput


def throughput(context: Context) -> Jobs:
    """The plain recipe and every execution of mgnas's in four cases. What compiles comes last, as it takes longest."""
    names = ("digits-mgnet",) if context.tiny else _CASES
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for name in names:
        found[f"{name}, plain"] = partial(_plain, context, name)
        found[f"{name}, cuda-graphs"] = partial(_ours, context, name, "cuda-graphs", "auto")
    for name in names:
        found[f"{name}, eager"] = partial(_ours, context, name, "eager", "auto")
    for variant, (cases, change) in _VARIANTS.items():
        for name in names if context.tiny else cases:
            found[f"{name}, cuda-graphs, {variant}"] = partial(_ours, context, name, "cuda-graphs", "auto", change)
    if context.tiny:
        return found
    for name, precision in itertools.product(names, ("float32", "float16")):
        found[f"{name}, cuda-graphs, {precision}"] = partial(_ours, context, name, "cuda-graphs", precision)
    for name, execution in itertools.product(names, _COMPILED):
        found[f"{name}, {execution}"] = partial(_ours, context, name, execution, "auto")
    return found


def _plain(context: Context, name: str) -> dict[str, Any]:
    options = options_for(context, "eager")
    case = case_for(name, options)
    train = random_images(case, case.settings.batch_size * steps_for(case, options))
    network = make_trainer(case, options).model
    start = plain_network(network)
    try:
        difference = check_equal_loss(network, start, case, context.device)
        equality = {"loss differs by": f"{difference:.0e}"}
    except ValueError as error:
        equality = {"failure": str(error)}
    workers = 0 if context.tiny else 8
    row = _speed(PlainTrainer(start, case.settings, train, context.device, workers), len(train), options)
    return {**row, "computes in": "float32", **equality}


def _ours(
    context: Context,
    name: str,
    execution: str,
    precision: str,
    change: Callable[[], AbstractContextManager] = nullcontext,
) -> dict[str, Any]:
    options = options_for(context, execution, precision)
    case = case_for(name, options)
    with short_training(), change():
        trainer = make_trainer(case, options)
        row = _speed(trainer, case.settings.batch_size * steps_for(case, options), options)
    plain = context.rows.get(f"{name}, plain", {}).get("images/s")
    ratio = {} if plain is None else {"of plain": round(row["images/s"] / plain, 2)}
    arithmetic = roofline.operations_an_image(case) * row["images/s"]
    return {**row, **ratio, "TFLOP/s": float(f"{arithmetic / 1e12:.3g}"), "computes in": precision_name(trainer)}


def _speed(trainer: Trainer | PlainTrainer, images: int, options: argparse.Namespace) -> dict[str, Any]:
    """Images per second of the median epoch after two that are not counted."""
    first = timed(trainer)
    timed(trainer)
    seconds = sorted(timed(trainer) for _ in range(options.repetitions))
    low, high = (round(images / value) for value in (seconds[-1], seconds[0]))
    row = {"images/s": round(images / statistics.median(seconds), 1), "range": f"{low} to {high}"}
    return row | {"first epoch": f"{first:.1f} s"}


# -------------------------------------------------------------------------------------------------------------- profile


def profile(context: Context) -> Jobs:
    """Kernels of a step, eagerly and as mgnas executes it by default."""
    names = ("digits-mgnet",) if context.tiny else ("mgiad-g8", "resnet18", "digits-mgiad")
    default = options_for(context).execution
    pairs = [(name, execution) for execution in dict.fromkeys((default, "eager")) for name in names]
    return {f"{name}, {execution}": partial(_kernels, context, name, execution) for name, execution in pairs}


def _kernels(context: Context, name: str, execution: str) -> dict[str, Any]:
    options = options_for(context, execution)
    options.steps = 2 if context.tiny else 5
    activities = [torch.profiler.ProfilerActivity.CPU]
    if context.device == "cuda":
        activities = [torch.profiler.ProfilerActivity.CUDA]
    with short_training():
        trainer = make_trainer(case_for(name, options), options)
        for _ in range(2):
            trainer.run_epoch()
        with torch.profiler.profile(activities=activities) as profiler:
            trainer.run_epoch()
    return kernel_row(profiler.events() or [], context.device, options.steps)


def kernel_row(events: Iterable[FunctionEvent], device: str, steps: int) -> dict[str, Any]:
    """What ran on the device: kernels on a GPU, on a CPU the operators that call no others.

    Returns:
        Their number in a step, the share of the time between the first and the last in which one ran, and the longest,
        as [name, microseconds a step, number a step]. What is done once an epoch is spread over the steps.
    """
    if device == "cuda":
        kernels = [event for event in events if roofline.is_kernel(event)]
    else:
        kernels = [event for event in events if event.name.startswith("aten::") and not event.cpu_children]
    if not kernels:
        raise RuntimeError("the profiler has recorded no kernel")
    intervals = sorted((float(event.time_range.start), float(event.time_range.end)) for event in kernels)
    by_name: dict[str, list[float]] = defaultdict(list)
    for event in kernels:
        by_name[event.name].append(event.time_range.elapsed_us())
    longest = sorted(by_name.items(), key=lambda pair: -sum(pair[1]))[:_LONGEST]
    total = sum(map(sum, by_name.values()))
    top = [f"{sum(times) / total:.0%} {name.removeprefix('void ')[:48]}" for name, times in longest[:4]]
    return {
        "kernels a step": round(len(kernels) / steps, 1),
        "busy": f"{_covered(intervals) / (max(end for _, end in intervals) - intervals[0][0]):.0%}",
        "us a step": round(total / steps),
        "most time": "; ".join(top),
        "longest": [[name, round(sum(times) / steps, 1), len(times) / steps] for name, times in longest],
    }


def _covered(intervals: list[tuple[float, float]]) -> float:
    """The length of the union of intervals that are sorted by their start."""
    covered, reached = 0.0, float("-inf")
    for start, end in intervals:
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


# -------------------------------------------------------------------------------------------------------------- packing


def packing(context: Context) -> Jobs:
    """1, 2, 4 and 8 trainings at the same time on one device, also with NVIDIA's Multi-Process Service (MPS).

    Without MPS processes take turns on a GPU. With it their kernels run at the same time.
    """
    names, counts = (
        (("digits-mgnet",), (1, 2)) if context.tiny else (("mgiad-g8", "digits-mgiad", "resnet18"), (1, 8, 4, 2))
    )
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for name, count in itertools.product(names, counts):
        found[f"{name}, {count}"] = partial(_packed, context, name, count)
        if count > 1 and context.device == "cuda" and shutil.which(_MPS):
            found[f"{name}, {count}, MPS"] = partial(_packed_with_mps, context, name, count)
    return found


def _packed(context: Context, name: str, count: int) -> dict[str, Any]:
    options = options_for(context)
    options.repetitions = 1
    options.epochs = 10 if name == "digits-mgiad" else options.epochs
    # This process has not used the GPU, so its copies may.
    with short_training():
        row = measure_trials(name, count, options, start="fork")
    images = row["images per epoch"] * row["epochs per trial"] / row["seconds per trial"]
    alone = context.rows.get(f"{name}, 1", {}).get("images/s")
    ratio = {} if alone is None else {"of one alone": round(count * images / alone, 2)}
    return {"images/s": round(count * images, 1), **ratio, "images/s of each": round(images, 1)}


def _packed_with_mps(context: Context, name: str, count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        places = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        with patch.dict(os.environ, places):
            subprocess.run([_MPS, "-d"], check=True, capture_output=True, timeout=10)
            try:
                return _packed(context, name, count)
            finally:
                subprocess.run([_MPS], input="quit\n", text=True, check=False, capture_output=True, timeout=10)


# ------------------------------------------------------------------------------------------------------ a published row


def published_row(context: Context) -> Jobs:
    """Train a published network on CIFAR-10 for as many epochs as there is time for."""
    return {context.published: partial(_trained, context)} if context.data else {}


def _trained(context: Context) -> dict[str, Any]:
    """The row of a training whose schedule fits into the time that is left.

    The time of an epoch is measured first, with the evaluation on the test images. They are looked at after each epoch
    to take the time until the goal; nothing is chosen by them, and the accuracy of the row is that after the last.
    """
    assert context.data is not None
    images = load_cifar10(context.data)
    architecture = preset(context.published).config
    recipe = _RECIPE
    if context.tiny:
        architecture, recipe = replace(architecture, base_channels=(4, 8), blocks=1), replace(recipe, batch_size=8)

    def start(epochs: int) -> Trainer:
        settings = replace(recipe, epochs=epochs, warmup_epochs=min(1.0, epochs / 5))
        return Trainer(architecture, settings, images["train"], images["test"], 0, context.device)

    trial = start(10)
    seconds = min(trial.run_epoch().seconds for _ in range(2))
    del trial
    gc.collect()
    # A few seconds go to the start of the training, and epochs may take somewhat longer than the measured one.
    epochs = 2 if context.tiny else int((context.seconds_left() - 6) / (1.02 * seconds))
    if epochs < 1:
        raise TimeoutError(f"an epoch takes {seconds:.1f} s, and {context.seconds_left():.0f} s are left")
    trainer, begin = start(epochs), time.monotonic()
    row: dict[str, Any] = {"epochs": epochs, "seconds an epoch": round(seconds, 2)}
    while not trainer.finished and context.seconds_left() > (0 if context.tiny else seconds):
        result = trainer.run_epoch()
        assert result.accuracy is not None  # there are test images
        row |= {"trained": len(trainer.history), "test accuracy": f"{result.accuracy:.2%}"}
        if result.accuracy >= _GOAL and "seconds to 95.6 %" not in row:
            row["seconds to 95.6 %"] = round(time.monotonic() - begin, 1)
        context.write(context.published, {"begun": True, **row})
    return row
