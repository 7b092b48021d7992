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
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import lru_cache, partial
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from cases import Case, case_for, make_parser, make_trainer, measure_all, precision_name, steps_for
from torch.autograd.profiler_util import FunctionEvent

# NOTE: Private modules, because torch has no public way to see every operation with its operands.
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mgnas.models import count_macs, layers
from mgnas.search.training.trainer import Trainer

# Kind of operation -> parts of the names of PyTorch's operators and of GPU kernels, in small letters. A name belongs to
# the first kind that matches. cuDNN's convolutions are matrix products (`gemm`) or named after their pass (`fprop`).
_OPERATIONS = {
    "convolution": ("conv", "fprop", "dgrad", "wgrad", "gemm", "cutlass"),
    "batch norm": ("batch_norm", "batchnorm", "bn_fw", "bn_bw"),
    "ReLU": ("relu", "threshold", "clamp_min"),
    "addition": ("add", "sub"),
    "copy": ("copy", "cat", "fill", "zero", "contiguous", "memcpy", "memset", "tonchw", "tonhwc"),
    "optimizer": ("sgd", "norm", "foreach", "mul", "multi_tensor"),
}


class Traffic(TorchDispatchMode):
    """A context that counts the bytes of all operands and results of both passes. Views count nothing.

    It does not see operations that are replayed from a recorded step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._kernels = ExitStack()

    def __enter__(self):
        if layers.fused_batch_norm() is not None:
            self._kernels.enter_context(patch.object(*self._counting_launch()))
        return super().__enter__()

    def __exit__(self, *error):
        self._kernels.close()
        return super().__exit__(*error)

    def _counting_launch(self) -> tuple[ModuleType, str, Callable[..., None]]:
        from mgnas.models import batch_norm_kernels as kernels

        launch = kernels._launch

        def counting(kernel: Any, grid: tuple[int, ...], *arguments: Any) -> None:
            self.bytes += kernel_bytes(arguments)
            launch(kernel, grid, *arguments)

        return kernels, "_launch", counting

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if not operation.is_view:
            self.bytes += tensor_bytes((args, kwargs, result))
        return result


def tensor_bytes(tree: Any) -> int:
    """Bytes of all tensors in nested containers."""
    tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def kernel_bytes(arguments: Iterable[Any]) -> int:
    """Bytes of the tensors that a kernel of mgnas's reads and writes. One that stands for another counts once."""
    return tensor_bytes(list({id(argument): argument for argument in arguments}.values()))


def measure_limits(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """How close a case comes to the machine's peaks, and how its time is divided."""
    case = case_for(name, options)
    trainer = make_trainer(case, options)
    trainer.run_epoch()
    with Traffic() as traffic:
        make_trainer(case, argparse.Namespace(**vars(options) | {"execution": "eager"})).run_epoch()
    seconds = fastest(trainer.run_epoch, options.device, options.repetitions)
    images = case.settings.batch_size * steps_for(case, options)
    arithmetic = operations_an_image(case) * images / seconds
    flops = product_peak(options.device, trainer.precision or torch.float32, options.repetitions)
    bandwidth = copy_peak(options.device, options.repetitions)
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


def operations_an_image(case: Case) -> int:
    """Additions and multiplications of both passes, by the closed form."""
    return 6 * count_macs(case.architecture, case.size)


def shares(trainer: Trainer, device: str) -> dict[str, float]:
    """Percentages of the time in operations, by kind. Time outside of operations is not counted."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        trainer.run_epoch()
    return shares_of(profile.events() or [], device)


def shares_of(events: Iterable[FunctionEvent], device: str) -> dict[str, float]:
    """Percentages of the time of these events, by kind: of kernels on a GPU, of PyTorch's operators on a CPU."""
    spent = dict.fromkeys([*_OPERATIONS, "others"], 0.0)
    for event in events:
        if device == "cuda":
            # An operator's time on the GPU is that of the kernels it launches, which have events of their own.
            time_spent = event.time_range.elapsed_us() if is_kernel(event) else 0.0
        else:
            time_spent = event.self_cpu_time_total
        spent[kind_of(event.name)] += time_spent
    total = sum(spent.values())
    return {f"{kind} %": round(100 * value / total, 1) for kind, value in spent.items()}


def is_kernel(event: FunctionEvent) -> bool:
    """Whether the event is a kernel or a copy on a GPU, and not a range of the program that spans some of them."""
    return event.device_type.name == "CUDA" and not event.is_user_annotation


def kind_of(name: str) -> str:
    """The kind of an operator of PyTorch or of a kernel."""
    name = name.lower()
    return next((kind for kind, parts in _OPERATIONS.items() if any(part in name for part in parts)), "others")


@lru_cache
def product_peak(
    device: str, dtype: torch.dtype, repetitions: int, size: int | None = None, tf32: bool = True
) -> float:
    """Operations per second of a large matrix product in this type.

    Args:
        device: `cpu` or `cuda`.
        dtype: the type of the factors.
        repetitions: the fastest one counts.
        size: rows of the factors; None: 8192 on a GPU, 2048 on a CPU.
        tf32: whether a GPU may round float32 factors to TF32, as it does in convolutions by default.
    """
    size = size or (8192 if device == "cuda" else 2048)
    a, b = (torch.randn(size, size, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        return 2 * size**3 / fastest(lambda: torch.mm(a, b), device, repetitions)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@lru_cache
def copy_peak(device: str, repetitions: int, size: int = 2**28) -> float:
    """Bytes per second, read and written, of a copy of `size` bytes."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / fastest(lambda: target.copy_(source), device, repetitions)


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


def main() -> int:
    options = make_parser(__doc__).parse_args()
    return measure_all({name: partial(measure_limits, name, options) for name in options.cases}, options)


if __name__ == "__main__":
    sys.exit(main())
