"""How many operations PyTorch is asked for in a training step of mgnas's, and how often data go to the device.

    python benchmarks/training/operations.py [--cases mgiad-g8] [--device cuda] [--execution cuda-graphs]

Small networks on a GPU wait for these launches. The operations are those below autograd (ATen's), in both passes, the
augmentation and the optimizer. Views, allocations and the profiler's marks are not counted, because they launch
nothing. A step is the difference between an epoch of 3 steps and one of 1, divided by 2. What remains of the epoch of 1
step is done once an epoch. Small increments are added at once and large ones one by one, so with a smaller `--batch`
the limit between them is lowered, too.

On a CPU the networks are computed in the form that they have on a GPU, and a copy to the device is a tensor's `to` with
a device. So `--device cpu` tells what a GPU would be asked for, except that there the images are gathered on the GPU,
by indices that are a further copy.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from cases import CASES, Case, case_for, make_parser, measure_all, precision_name, random_images
from torch.overrides import TorchFunctionMode

# NOTE: A private module, because torch has no public way to see every operation below autograd.
from torch.utils._python_dispatch import TorchDispatchMode

from mgnas.models import smoothers
from mgnas.search.training.trainer import Trainer

TABLE = ("mgiad-g8", "mgiad-g64", "mgnet", "resnet18", "digits-mgiad")
_STEPS = 3


class Operations(TorchDispatchMode):
    """A context that counts ATen's operations, by name, and copies from the host to a device."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.copies = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        name = str(operation)
        if not operation.is_view and name.startswith("aten.") and not name.startswith("aten.empty"):
            self.counts[name] += 1
            self.copies += _goes_to_a_device(name, args, result)
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
    patches = [patch.object(module, "trains_on_cpu", lambda *_: False) for module in modules]
    for change in patches:
        change.start()
    try:
        yield
    finally:
        for change in patches:
            change.stop()


def operations_of_epoch(case: Case, steps: int, options: argparse.Namespace) -> tuple[Counter[str], int, str]:
    """(operations by name, copies to the device, precision) of the second epoch of a training; the first records."""
    train = random_images(case, case.settings.batch_size * steps)
    how = (0, options.device, options.precision, options.execution)
    trainer = Trainer(case.architecture, case.settings, train, None, *how)
    trainer.run_epoch()
    with Moves() as moves, Operations() as operations:
        trainer.run_epoch()
    copies = moves.count if options.device == "cpu" else operations.copies
    return operations.counts, copies, precision_name(trainer)


def count_operations(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Operations and copies to the device of a step, and the most frequent operations."""
    case = case_for(name, options)
    limit = smoothers._FEW_VALUES * case.settings.batch_size / CASES[name].settings.batch_size
    with patch.object(smoothers, "_FEW_VALUES", limit):
        few, few_copies, _ = operations_of_epoch(case, 1, options)
        many, copies, precision = operations_of_epoch(case, _STEPS, options)
    step = {operation: (count - few[operation]) / (_STEPS - 1) for operation, count in many.items()}
    total = sum(step.values())
    frequent = sorted(step.items(), key=lambda pair: -pair[1])[:5]
    return {
        "case": name,
        "mgnas computes in": precision,
        "operations a step": round(total, 1),
        "copies to the device a step": round((copies - few_copies) / (_STEPS - 1), 1),
        "operations once an epoch": round(sum(few.values()) - total, 1),
        "most frequent": ", ".join(f"{count:.0f} {key.split('.')[1]}" for key, count in frequent),
    }


def main() -> int:
    options = make_parser(__doc__)
    options.set_defaults(cases=list(TABLE), precision="bfloat16", batch=2)
    options = options.parse_args()
    jobs = {name: partial(count_operations, name, options) for name in options.cases}
    if options.device == "cuda":
        return measure_all(jobs, options)
    with networks_as_on_a_gpu():
        return measure_all(jobs, options)


if __name__ == "__main__":
    sys.exit(main())
