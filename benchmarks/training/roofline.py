"""What limits training: time per kind of operation, share of the arithmetic peak, share of the memory's bandwidth.

    python benchmarks/training/roofline.py [--cases mgiad-g8] [--device cuda]

The peaks are measured on the same machine: with a large matrix product, in the type that the network computes in, and
with a large copy. The arithmetic of a network is 6 operations for each multiply-accumulate of its closed form: 2 each
for the forward pass, the gradients of the features and the gradients of the weights. Its traffic is the size of all
operands and results of its operations, as if there were no cache. If tensors stay in a cache, the traffic can therefore
be more than the memory's bandwidth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from cases import case_for, make_parser, make_trainer, measure_all, precision_name, steps_for

# NOTE: Private modules, because torch has no public way to see every operation with its operands.
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mgnas.models import count_macs
from mgnas.search.training.trainer import Trainer

# Kind of operation -> parts of its names in PyTorch's profiler. An operation belongs to the first kind that matches.
_OPERATIONS = {
    "convolution": ("conv",),
    "batch norm": ("batch_norm",),
    "ReLU": ("relu", "threshold", "clamp_min"),
    "addition": ("add", "sub"),
    "copy": ("copy", "_to_copy", "cat", "fill", "zero", "contiguous"),
    "optimizer": ("sgd", "norm", "foreach", "mul"),
}


class Traffic(TorchDispatchMode):
    """A context that counts the bytes of all operands and results of both passes. Views count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if not operation.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def measure_limits(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """How close a case comes to the machine's peaks, and how its time is divided."""
    case = case_for(name, options)
    trainer = make_trainer(case, options)
    trainer.run_epoch()
    with Traffic() as traffic:
        trainer.run_epoch()
    seconds = fastest(trainer.run_epoch, options.device, options.repetitions)
    images = case.settings.batch_size * steps_for(case, options)
    arithmetic = 6 * count_macs(case.architecture, case.size) * images / seconds
    flops, bandwidth = peaks(options.device, trainer.precision or torch.float32, options.repetitions)
    return {
        "case": name,
        "mgnas computes in": precision_name(trainer),
        "images/s": round(images / seconds, 1),
        "GFLOP/s": round(arithmetic / 1e9, 1),
        "% of peak": round(100 * arithmetic / flops, 1),
        "GB/s": round(traffic.bytes / seconds / 1e9, 1),
        "% of copy": round(100 * traffic.bytes / seconds / bandwidth, 1),
        **shares(trainer, options.device),
    }


def shares(trainer: Trainer, device: str) -> dict[str, float]:
    """Percentages of the time in operations, by kind. Time outside of operations is not counted."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        trainer.run_epoch()
    attribute = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    spent = dict.fromkeys([*_OPERATIONS, "others"], 0.0)
    for event in profile.key_averages():
        fitting = (kind for kind, parts in _OPERATIONS.items() if any(part in event.key for part in parts))
        spent[next(fitting, "others")] += getattr(event, attribute)
    total = sum(spent.values())
    return {f"{kind} %": round(100 * value / total, 1) for kind, value in spent.items()}


@lru_cache
def peaks(device: str, dtype: torch.dtype, repetitions: int) -> tuple[float, float]:
    """(operations per second of a large matrix product in this type, bytes per second of a large copy)."""
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    source = torch.ones(2**28 // 4, device=device)
    target = torch.empty_like(source)
    product = fastest(lambda: torch.mm(a, b), device, repetitions)
    copy = fastest(lambda: target.copy_(source), device, repetitions)
    return 2 * size**3 / product, 2 * source.nbytes / copy


def fastest(work: Callable[[], Any], device: str, repetitions: int) -> float:
    """Seconds of the fastest of some repetitions, after a first one that is not counted."""
    seconds = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def main() -> None:
    options = make_parser(__doc__).parse_args()
    measure_all([partial(measure_limits, name, options) for name in options.cases], options)


if __name__ == "__main__":
    main()
