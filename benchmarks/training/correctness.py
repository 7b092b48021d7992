"""Whether training is correct on a device: in every type and execution, against a CPU, and when memory runs out.

Two trainings that should be equal up to rounding are compared by the distance of their weights, as a share of the
distance from the initial weights. What rounding may do is measured: a twin of the training begins with weights that
differ by a rounding error of the type. How much training amplifies such errors depends on the network. Errors are made
in every operation and not only in the initial weights, so 3 times the twin's distance is allowed. At least 1 % is
allowed, because a rounding error that switches a ReLU moves the weights by up to 0.5 %, and not every twin has one.
Trainings that have nothing in common are at a distance of 140 %, so no more than 50 % is allowed.
"""

from __future__ import annotations

import gc
import io
import logging
import math
import os
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import torch
from cases import CASES, random_images
from steps import Context, Jobs
from torch import Tensor

from mgnas.errors import UserError
from mgnas.models import ArchitectureConfig
from mgnas.search.data.dataset import Dataset, DataSettings, load_dataset
from mgnas.search.training.execution import Execution
from mgnas.search.training.precision import Precision
from mgnas.search.training.trainer import Trainer
from mgnas.space.candidate import TrainingSettings

_SMALL: dict[str, Any] = {"base_channels": (8, 16), "in_channels": 1}
_GROUPS: dict[str, Any] = {"group_size": 4, "fully_coupled_channels": 4}
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet": {"family": "resnet", "blocks": 1},
    "mgnet-AB": {"family": "mgnet", "sharing": "AB"},
    "mgnet-A-dense": {"family": "mgnet", "sharing": "A", "resolution_transfer": "dense"},
    "mgnet-none": {"family": "mgnet", "sharing": "none"},
    "mgic": {"family": "mgic", "blocks": 1, "group_size": 4, "fully_coupled_channels": 8},
    "mgiad": {"family": "mgiad", **_GROUPS},
    "mgiad-learned": {"family": "mgiad", "channel_transfer": "learned", **_GROUPS},
}
_RECIPE = TrainingSettings(
    epochs=2, batch_size=128, label_smoothing=0.1, crop_padding=1, flip=True, cutout=2, ema_decay=0.9
)
_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
_HALF_LOSS = 0.005
"""Largest relative difference of an epoch's loss from float32's. On a CPU all differences are below 0.0005."""
_OVERFLOWING_SCALE = 2.0**20
"""A scale of the loss at which gradients in float16 overflow. They do so from about 2^18."""
_OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."


def jobs(context: Context) -> Jobs:
    """Small networks in every type and recorded, then what goes wrong on purpose, then compiled networks."""
    # Before CUDA starts: cuBLAS is deterministic only with a workspace of fixed size.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.allow_tf32 = False
    check = Check(context.device, context.tiny)
    names, precisions = (("mgnet-AB", "mgiad"), _PRECISIONS[:2]) if context.tiny else (tuple(NETWORKS), _PRECISIONS)
    recorded = executions(compiled=False)
    found: dict[str, Callable[[], dict[str, Any]]] = {
        f"{name}, {precision}": partial(check.network, name, precision, recorded)
        for precision in precisions
        for name in names
    }
    eager: Execution = "eager"
    for execution in (eager, *recorded):
        found[f"overflow, {execution}"] = partial(check.overflow, execution)
    other = "cpu" if context.device == "cuda" else context.device
    for source, target in ((context.device, other), (other, context.device)):
        found[f"checkpoint, {source} to {target}"] = partial(check.checkpoint, source, target, "float32", "float32")
    halves = _PRECISIONS[1:]
    for before, after in (halves, halves[::-1]):
        move = partial(check.checkpoint, context.device, context.device, before, after)
        found[f"checkpoint, {before} to {after}"] = move
    for place in PLACES:
        found[f"out of memory, {place}"] = partial(check.out_of_memory, place)
    if context.device == "cuda":
        for execution in recorded:
            for share in (0.4, 0.7, 0.9):
                found[f"{share:.0%} of the memory, {execution}"] = partial(check.too_little_memory, share, execution)
    if not context.tiny:
        for execution in executions(compiled=True):
            for name, precision in zip(("mgnet-AB", "mgiad"), _PRECISIONS, strict=False):
                found[f"{name}, {precision}, {execution}"] = partial(check.network, name, precision, [execution])
    return found


def executions(compiled: bool) -> list[Execution]:
    """The executions that compile, or those that do not, without `eager` and without `auto`, which is one of them."""
    others = (name for name in get_args(Execution) if name not in ("eager", "auto"))
    return [name for name in others if ("compile" in name) == compiled]


@contextmanager
def _no_memory_in_forward(trainer: Trainer):
    handle = trainer.model.register_forward_pre_hook(_Once(2))
    yield
    handle.remove()


@contextmanager
def _no_memory_in_backward(trainer: Trainer):
    handle = next(trainer.model.parameters()).register_hook(_Once(2))
    yield
    handle.remove()


@contextmanager
def _no_memory_in_capture(trainer: Trainer):
    begin, shortage = torch.cuda.graph.__enter__, _Once(1)

    def begin_once_memory_is_there(graph: torch.cuda.graph) -> None:
        shortage()
        begin(graph)

    with patch.object(torch.cuda.graph, "__enter__", begin_once_memory_is_there):
        yield


class _Once:
    """Runs out of memory at one of its calls, counted from 1."""

    def __init__(self, call: int) -> None:
        self.call, self.calls = call, 0

    def __call__(self, *_: object) -> None:
        self.calls += 1
        if self.calls == self.call:
            raise torch.OutOfMemoryError(_OUT_OF_MEMORY)


# Place in a step where memory runs out -> (context of a training, its execution).
PLACES: dict[str, tuple[Callable[[Trainer], Any], Execution]] = {
    "forward": (_no_memory_in_forward, "eager"),
    "backward": (_no_memory_in_backward, "eager"),
    "capture": (_no_memory_in_capture, "cuda-graphs"),
}


@dataclass(frozen=True)
class Check:
    """The checks on a device. Each returns the row of its job, with a `failure` if training is wrong."""

    device: str
    tiny: bool

    @property
    def recipe(self) -> TrainingSettings:
        return replace(_RECIPE, batch_size=16) if self.tiny else _RECIPE

    def network(self, name: str, precision: Precision, executed: list[Execution]) -> dict[str, Any]:
        """Train a network in one type: twice eagerly, as a twin, with these executions, and on the CPU in float32."""
        eager = self.trained(name, precision)
        weights, start = weights_of(eager), self.initial_weights(name)
        twin = distance(weights_of(self.trained(name, precision, perturbed=True)), weights, start)
        allowed = min(max(3 * twin, 0.01), 0.5)
        row: dict[str, Any] = {"twin": f"{twin:.0e}"}
        wrong = [] if all_finite(eager) else ["not finite"]
        if not torch.equal(weights_of(self.trained(name, precision)), weights):
            wrong.append("not deterministic")
        for execution in executed:
            other = weights_of(self.trained(name, precision, execution))
            row[execution] = "equal" if torch.equal(other, weights) else f"{distance(other, weights, start):.0e}"
            if not distance(other, weights, start) <= allowed:
                wrong.append(f"{execution} differs from eager")
        reference = self.reference(name)
        if precision == "float32":
            row["CPU"] = f"{distance(weights, weights_of(reference), start):.0e}"
            if not distance(weights, weights_of(reference), start) <= allowed:
                wrong.append("differs from the CPU")
        else:
            pairs = zip(eager.history, reference.history, strict=True)
            difference = max(abs(half.loss / full.loss - 1) for half, full in pairs)
            row["loss"] = f"{difference:.2%}"
            if not difference <= _HALF_LOSS:
                wrong.append("the loss differs from float32's")
        return row | verdict(wrong)

    def overflow(self, execution: Execution) -> dict[str, Any]:
        """Train in float16 from a scale of the loss at which gradients overflow: such steps must change nothing."""
        trainer = self.trainer("resnet", "float16", execution)
        state = torch.load(io.BytesIO(trainer.checkpoint()), weights_only=True)
        state["scaler"] |= {"scale": _OVERFLOWING_SCALE, "_growth_tracker": 0}
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, Path(folder) / "state.pt")
            trainer.load(Path(folder) / "state.pt")
        start = weights_of(trainer)
        for _ in range(_RECIPE.epochs):
            trainer.run_epoch()
        scale = torch.load(io.BytesIO(trainer.checkpoint()), weights_only=True)["scaler"]["scale"]
        wrong = [] if all_finite(trainer) else ["not finite"]
        if not scale < _OVERFLOWING_SCALE:
            wrong.append("the scale has not fallen, so nothing has overflowed")
        if torch.equal(weights_of(trainer), start):
            wrong.append("no step has changed the weights")
        return {"scale": f"2^{math.log2(_OVERFLOWING_SCALE):.0f} to 2^{math.log2(scale):.0f}"} | verdict(wrong)

    def checkpoint(self, source: str, target: str, before: Precision, after: Precision) -> dict[str, Any]:
        """Train an epoch, and go on from the checkpoint on another device or in another type."""
        first = self.trainer("resnet", before, device=source)
        first.run_epoch()
        with tempfile.TemporaryDirectory() as folder:
            first.save(Path(folder) / "state.pt")
            second = self.trainer("resnet", after, device=target)
            second.load(Path(folder) / "state.pt")
        wrong = [] if torch.equal(weights_of(first), weights_of(second)) else ["other weights"]
        images = data(self.tiny).validation
        accuracies = first.evaluate(images), second.evaluate(images)
        if abs(accuracies[0] - accuracies[1]) > (0.01 if before == after else 0.05):
            wrong.append("another accuracy")
        second.run_epoch()
        if len(second.history) != 2 or not all_finite(second):
            wrong.append("does not go on")
        return {"accuracy": "{:.1%}, {:.1%}".format(*accuracies)} | verdict(wrong)

    def out_of_memory(self, place: str) -> dict[str, Any]:
        """A training that runs out of memory once ends like one that does not."""
        make_context, execution = PLACES[place]
        undisturbed = weights_of(self.trained("mgiad", "float32", execution))
        trainer = self.trainer("mgiad", "float32", execution)
        with make_context(trainer), counted_warnings() as warnings:
            trainer.run_epoch()
        trainer.run_epoch()
        row = compared(trainer, undisturbed, len(warnings.messages))
        if not warnings.messages and (self.device == "cuda" or place != "capture"):
            row |= verdict(["memory did not run out"])
        return row

    def too_little_memory(self, share: float, execution: Execution) -> dict[str, Any]:
        """A training that may use a share of the memory that it needs: it ends as with enough, or refuses in a line."""
        undisturbed, peak = enough_memory(execution)
        total = torch.cuda.mem_get_info()[1]
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(share * peak / total)
        try:
            with counted_warnings() as warnings:
                trainer = large_trainer(execution)
                trainer.run_epoch()
        except UserError as error:
            return {"ended": f"refused: {error}"[:60]}
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return {"needs": f"{peak / 2**20:.0f} MiB"} | compared(trainer, undisturbed, len(warnings.messages))

    def trained(
        self, name: str, precision: Precision, execution: Execution = "eager", perturbed: bool = False
    ) -> Trainer:
        """A training of two epochs. If `perturbed`, the initial weights differ by a rounding error of the type."""
        trainer = self.trainer(name, precision, execution)
        if perturbed:
            generator = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for parameter in trainer.model.parameters():
                    noise = torch.randn(parameter.shape, generator=generator).to(self.device)
                    parameter.mul_(1 + torch.finfo(getattr(torch, precision)).eps * noise)
        for _ in range(_RECIPE.epochs):
            trainer.run_epoch()
        return trainer

    def trainer(
        self, name: str, precision: Precision, execution: Execution = "eager", device: str | None = None
    ) -> Trainer:
        architecture = ArchitectureConfig.from_dict(_SMALL | NETWORKS[name])
        images = data(self.tiny)
        how = (0, device or self.device, precision, execution)
        return Trainer(architecture, self.recipe, images.train, images.validation, *how)

    def initial_weights(self, name: str) -> Tensor:
        return weights_of(self.trainer(name, "float32", device="cpu"))

    def reference(self, name: str) -> Trainer:
        """The training on the CPU in float32."""
        return _reference(name, self.tiny)


def compared(trainer: Trainer, undisturbed: Tensor, shortages: int) -> dict[str, Any]:
    """The row of a training that had too little memory, against the weights of one that had enough."""
    weights = weights_of(trainer)
    far = distance(weights, undisturbed, torch.zeros_like(undisturbed))
    equal = "equal" if torch.equal(weights, undisturbed) else f"differs by {far:.0e} of the weights"
    # The second attempt executes operation by operation, and its sums may be those of other kernels.
    wrong = [] if far <= 1e-3 else ["other weights than with enough memory"]
    return {"ended": f"{equal}, after {shortages} shortages"} | verdict(wrong)


@lru_cache
def _reference(name: str, tiny: bool) -> Trainer:
    return Check("cpu", tiny).trained(name, "float32")


@lru_cache
def data(tiny: bool) -> Dataset:
    return load_dataset(DataSettings(name="digits", train_images=80 if tiny else None))


@lru_cache
def enough_memory(execution: Execution) -> tuple[Tensor, int]:
    """The weights of a training with enough memory, and the bytes that it has allocated at most."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    trainer = large_trainer(execution)
    trainer.run_epoch()
    return weights_of(trainer), torch.cuda.max_memory_allocated()


def large_trainer(execution: Execution) -> Trainer:
    """A training of 3 steps that needs some gigabytes."""
    case = CASES["mgiad-g8"]
    return Trainer(case.architecture, case.settings, random_images(case, 3 * 128), None, 0, "cuda", "auto", execution)


class counted_warnings(logging.Handler):  # noqa: N801 - it is used like a function
    """A context that keeps the warnings of mgnas, which tell of every shortage of memory."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def __enter__(self) -> counted_warnings:
        logging.getLogger("mgnas").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("mgnas").removeHandler(self)


def weights_of(trainer: Trainer) -> Tensor:
    """All parameters in one float64 vector on the CPU."""
    return torch.cat([parameter.detach().cpu().double().flatten() for parameter in trainer.model.parameters()])


def distance(one: Tensor, other: Tensor, start: Tensor) -> float:
    """The distance of two trainings' weights, as a share of the second one's distance from the start."""
    return float((one - other).norm() / (other - start).norm())


def all_finite(trainer: Trainer) -> bool:
    """Whether losses, weights, statistics and averaged weights are finite."""
    tensors = [*trainer.model.state_dict().values(), *trainer.trained_model.state_dict().values()]
    losses = all(math.isfinite(result.loss) for result in trainer.history)
    return losses and all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def verdict(wrong: list[str]) -> dict[str, str]:
    return {"failure": "; ".join(wrong)} if wrong else {"verdict": "ok"}
