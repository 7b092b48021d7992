"""How many operations PyTorch is asked for in a training step of mgnas's, and how often data go to the device.

    python benchmarks/training/operations.py [--cases mgiad-g8] [--device cuda] [--execution cuda-graphs]

Small networks on a GPU wait for these launches. The operations are those below autograd (ATen's) and mgnas's own
kernels, in both passes, the augmentation and the optimizer. Views, allocations and the profiler's marks are not
counted, because they launch nothing. The bytes of a step are those of all operands and results, as if there were no
cache. A step is the difference between an epoch of 3 steps and one of 1, divided by 2. What remains of the epoch of 1
step is done once an epoch.

Small increments are added at once and large ones one by one, and so are the gradients of shared weights. With a smaller
`--batch` the limits between small and large ones are lowered, too. The bytes are those of fewer images then.

On a CPU the networks are computed in the form that they have on a GPU, and a copy to the device is a tensor's `to` with
a device. So `--device cpu` tells what a GPU would be asked for, except that there the images are gathered on the GPU,
by indices that are a further copy.
"""

from __future__ import annotations

import argparse
import ctypes
import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from cases import CASES, Case, case_for, make_parser, measure_all, precision_name, random_images
from roofline import kernel_bytes, tensor_bytes
from torch.overrides import TorchFunctionMode

# NOTE: A private module, because torch has no public way to see every operation below autograd.
from torch.utils._python_dispatch import TorchDispatchMode

from mgnas.models import gathered_gradients, layers, shared_weights, smoothers
from mgnas.search.training.trainer import Trainer

TABLE = ("mgiad-g8", "mgiad-g64", "mgnet", "resnet18", "digits-mgiad")
_STEPS = 3


class Operations(TorchDispatchMode):
    """A context that counts ATen's operations, by name, their bytes, and copies from the host to a device."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        self.copies = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        name = str(operation)
        if not operation.is_view and name.startswith("aten.") and not name.startswith("aten.empty"):
            self.counts[name] += 1
            self.copies += _goes_to_a_device(name, args, result)
            self.bytes += tensor_bytes((args, kwargs, result))
        return result


def _goes_to_a_device(name: str, args: tuple[Any, ...], result: Any) -> bool:
    source = args[1] if name.startswith("aten.copy_") else args[0] if name.startswith("aten._to_copy") else None
    return isinstance(source, torch.Tensor) and source.device.type == "cpu" and result.device.type != "cpu"


class Moves(TorchFunctionMode):
    """A context that counts mgnas's calls of a tensor's `to` with a device, which on a CPU copies nothing.

    PyTorch's own calls are not counted: clipping moves norms to the device that they are on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        devices = [value for value in (*args[1:], *kwargs.values()) if isinstance(value, torch.device)]
        caller = inspect.currentframe()
        caller = caller and caller.f_back
        from_mgnas = caller is not None and caller.f_globals["__name__"].startswith("mgnas.")
        self.count += from_mgnas and function is torch.Tensor.to and bool(devices)
        return function(*args, **kwargs)


@contextmanager
def networks_as_on_a_gpu() -> Iterator[None]:
    """A context in which networks are computed on a CPU in the form that they have on a GPU.

    Raises:
        LookupError: the networks no longer choose their form by a function of this name.
    """
    modules = [module for name, module in sys.modules.items() if name.startswith("mgnas.models.")]
    modules = [module for module in modules if hasattr(module, "trains_on_cpu")]
    if not modules:
        raise LookupError("mgnas.models has no trains_on_cpu any more; name here what chooses the form for CPUs")
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(patch.object(module, "trains_on_cpu", lambda *_: False))
        yield


@contextmanager
def batch_norm_as_on_a_gpu(part: float, operations: Operations) -> Iterator[None]:
    """A context in which batch norms ask for mgnas's own kernels, whose results are 0 here.

    Args:
        part: how many of the usual images a batch has, between 0 and 1.
        operations: counts the kernels, too.
    """
    from mgnas.models import batch_norm_kernels as kernels

    def launch(kernel: Any, _grid: tuple[int, ...], *arguments: Any) -> None:
        operations.counts[f"triton.{kernel.__name__}"] += 1
        operations.bytes += kernel_bytes(arguments)
        for name, argument in zip(kernel.arg_names, arguments, strict=True):
            if name in _RESULTS:
                storage = argument.untyped_storage()
                ctypes.memset(storage.data_ptr(), 0, storage.nbytes())  # torch's zeros would be counted

    with (
        patch.object(kernels, "FEW_ROWS", kernels.FEW_ROWS * part),
        patch.object(kernels, "_launch", launch),
        patch.object(layers, "fused_batch_norm", lambda: kernels.BatchNormReLU.apply),
        patch.object(layers.BatchNorm, "_can_be_fused", lambda layer, _: layer.training),
    ):
        yield


_RESULTS = ("r", "z", "means", "deviations", "parts", "dx", "dweight", "dbias")
"""Arguments of the kernels that hold results; r is an input where nothing is added to it."""


def operations_of_epoch(case: Case, steps: int, part: float, options: argparse.Namespace) -> tuple[Operations, str]:
    """(what is counted, precision) in the second epoch of a training; the first records."""
    train = random_images(case, case.settings.batch_size * steps)
    how = (0, options.device, options.precision, options.execution)
    unused, operations = Operations(), Operations()
    pretends = options.device == "cpu" and not options.pytorch_batch_norm
    with batch_norm_as_on_a_gpu(part, unused) if pretends else nullcontext():
        trainer = Trainer(case.architecture, case.settings, train, None, *how)
        trainer.run_epoch()
    with batch_norm_as_on_a_gpu(part, operations) if pretends else nullcontext(), Moves() as moves, operations:
        trainer.run_epoch()
    if options.device == "cpu":
        operations.copies = moves.count
    return operations, precision_name(trainer)


def count_operations(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Operations and copies to the device of a step, and the most frequent operations."""
    case = case_for(name, options)
    part = case.settings.batch_size / CASES[name].settings.batch_size
    with (
        patch.object(smoothers, "_FEW_VALUES", smoothers._FEW_VALUES * part),
        patch.object(shared_weights, "GATHERED_VALUES", shared_weights.GATHERED_VALUES * part),
        patch.object(gathered_gradients, "LEFT_VALUES", gathered_gradients.LEFT_VALUES * part),
        patch.object(layers, "_GPU_MANY_PIXELS", layers._GPU_MANY_PIXELS * part),
    ):
        few, precision = operations_of_epoch(case, 1, part, options)
        many, _ = operations_of_epoch(case, _STEPS, part, options)
    more = _STEPS - 1
    step = {operation: (count - few.counts[operation]) / more for operation, count in many.counts.items()}
    total = sum(step.values())
    frequent = sorted(step.items(), key=lambda pair: -pair[1])[:5]
    return {
        "case": name,
        "mgnas computes in": precision,
        "operations a step": round(total, 1),
        "of them batch norm and ReLU": round(sum(count for key, count in step.items() if key.startswith("triton.")), 1),
        "GB a step": round((many.bytes - few.bytes) / more / 1e9, 2),
        "copies to the device a step": round((many.copies - few.copies) / more, 1),
        "operations once an epoch": round(few.counts.total() - total, 1),
        "most frequent": ", ".join(f"{count:.0f} {key.split('.')[1]}" for key, count in frequent),
    }


def parser() -> argparse.ArgumentParser:
    """The options of `make_parser`, and of the batch norm."""
    options = make_parser(__doc__)
    options.set_defaults(cases=list(TABLE), precision="bfloat16", batch=2)
    text = "on a CPU, count PyTorch's batch norm and ReLU, as on a GPU without Triton"
    options.add_argument("--pytorch-batch-norm", action="store_true", help=text)
    return options


def main() -> int:
    options = parser().parse_args()
    jobs = {name: partial(count_operations, name, options) for name in options.cases}
    if options.device == "cuda":
        return measure_all(jobs, options)
    with networks_as_on_a_gpu():
        return measure_all(jobs, options)


if __name__ == "__main__":
    sys.exit(main())
