"""How many trainings share a GPU, by the memory that they need. Nothing here needs a GPU or Ray."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mgnas.errors import ConfigError

from ...models.config import ArchitectureConfig
from ...models.training_memory import training_bytes
from ...space.candidate import Candidate, TrainingSettings
from ..training.trainer import EVALUATION_BATCH

if TYPE_CHECKING:
    # Workers import this module, and need neither Optuna nor the space.
    from ...space.parameter import Parameter
    from ...space.search_space import SearchSpace
    from ..config import Resources
    from ..data.dataset import Dataset

MOST_TRIALS_PER_GPU = 2
"""The largest number of trainings that `auto` lets share a GPU on which processes take turns.

Recorded steps keep a GPU busy: 4 or 8 trainings of a network of 16 channels trained as many images a second together as
one alone (0.98, NVIDIA H200, benchmarks/gpu.py). With two, one computes while the other starts or writes a checkpoint.
"""

MOST_TRIALS_WITH_MPS = 8
"""The same with NVIDIA's Multi-Process Service (MPS), by which kernels of several processes run at the same time.

There 4 trainings trained 2.8 times as many images a second as one, and 8 trainings 4.8 times. More were not measured.
"""

CONTEXT_BYTES = 700 * 2**20
"""Bytes of a GPU that each process takes beside PyTorch's allocator: the CUDA context. Assumed, not measured yet."""

_SAMPLES, _STARTS, _MOST_LABELS = 1000, 5, 64
_GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name, and its memory in bytes."""

    name: str
    memory: int


@dataclass(frozen=True)
class GpuNode:
    """A machine with GPUs.

    Args:
        host: name of the machine.
        cpus: its CPU cores.
        gpus: the GPUs that PyTorch can use there.
        mps: whether NVIDIA's Multi-Process Service runs there.
    """

    host: str
    cpus: float
    gpus: tuple[Gpu, ...]
    mps: bool = False


@dataclass(frozen=True)
class MemoryNeed:
    """The memory that the largest training takes on a GPU.

    Args:
        network: in words.
        batch_size: images of a step.
        allocated: bytes of PyTorch's allocator.
    """

    network: str
    batch_size: int
    allocated: int

    @property
    def total(self) -> int:
        """Bytes, with those of the process."""
        return self.allocated + CONTEXT_BYTES


def training_need(
    architecture: ArchitectureConfig, training: TrainingSettings, dataset: Dataset, resources: Resources
) -> MemoryNeed:
    """The memory that a training takes on a GPU, with its images."""
    parts = [part for part in (dataset.train, dataset.validation, dataset.test) if part is not None]
    allocated = training_bytes(
        architecture,
        dataset.image_size,
        min(training.batch_size, len(dataset.train)),
        min(EVALUATION_BATCH, max(map(len, parts[1:]))),
        average=training.ema_decay > 0,
        value_bytes=4 if resources.precision == "float32" else 2,
        second_moments=training.optimizer == "adamw",
    )
    images = sum(math.prod(part.shape) for part in parts)
    return MemoryNeed(architecture.describe(), training.batch_size, allocated + images)


def search_need(space: SearchSpace, dataset: Dataset, resources: Resources) -> MemoryNeed:
    """The memory that the training of the space's largest candidate takes on a GPU."""

    def need(candidate: Candidate) -> MemoryNeed:
        return training_need(candidate.architecture, candidate.training, dataset, resources)

    return need(largest_candidate(space, lambda candidate: need(candidate).allocated))


def largest_candidate(space: SearchSpace, size: Callable[[Candidate], int]) -> Candidate:
    """The largest candidate that is found in under a second, in most spaces the largest of all.

    The largest of a random sample are changed in one parameter at a time for as long as that makes them larger.

    Args:
        space: of the candidates.
        size: of a candidate.
    """
    rng = np.random.default_rng(0)
    sampled = list(_valid(space, (space.random_values(rng) for _ in range(_SAMPLES)))) or [space.sample(rng)]
    sampled.sort(key=size, reverse=True)
    return max((_climbed(space, start, size) for start in sampled[:_STARTS]), key=size)


def _climbed(space: SearchSpace, candidate: Candidate, size: Callable[[Candidate], int]) -> Candidate:
    """The candidate, changed in one parameter at a time until no such change makes it larger."""
    while True:
        changes = (
            candidate.params | {parameter.name: label} for parameter in space.parameters for label in _labels(parameter)
        )
        larger = max(_valid(space, changes), key=size)
        if size(larger) <= size(candidate):
            return candidate
        candidate = larger


def _labels(parameter: Parameter) -> Sequence[Any]:
    """All labels of a parameter if they are few, else both ends of its range."""
    grid = parameter.grid
    return parameter.extremes() if grid is None or len(grid) > _MOST_LABELS else grid


def _valid(space: SearchSpace, combinations: Iterable[dict[str, Any]]) -> Iterator[Candidate]:
    for values in combinations:
        try:
            yield space.candidate(values)
        except ConfigError:
            continue


def trials_per_gpu(nodes: Sequence[GpuNode], need: MemoryNeed, resources: Resources, n_trials: int) -> int:
    """How many trainings share a GPU.

    As many as fit into the smallest GPU's memory, but at most MOST_TRIALS_PER_GPU, or MOST_TRIALS_WITH_MPS if MPS runs
    on all machines. A GPU is not shared while another one would be idle: there are no more trainings on a GPU than its
    share of its machine's cores has room for, and than its share of the trainings at the same time.

    Args:
        nodes: all machines with GPUs, at least one.
        need: of the largest training.
        resources: gives the cores of a training, and the number of trainings at the same time.
        n_trials: how many trainings there will be in all.
    """
    by_memory = min(gpu.memory for node in nodes for gpu in node.gpus) // need.total
    by_cores = min(int(node.cpus / resources.cpus_per_trial / len(node.gpus)) for node in nodes)
    at_once = n_trials if resources.workers is None else min(resources.workers, n_trials)
    by_trials = math.ceil(at_once / sum(len(node.gpus) for node in nodes))
    most = MOST_TRIALS_WITH_MPS if all(node.mps for node in nodes) else MOST_TRIALS_PER_GPU
    return max(1, min(most, by_memory, by_cores, by_trials))


def share_of(trials: int) -> float:
    """GPUs of each of `trials` trainings that share one, rounded down to Ray's steps of 1/10,000."""
    return 10_000 // trials / 10_000


def allocator_share(gpus: float, memory: int) -> float:
    """The share of a GPU's memory that PyTorch's allocator may use in a training.

    Args:
        gpus: of the training. From 1 on it has its GPUs for itself.
        memory: of the GPU in bytes.
    """
    return 1.0 if gpus >= 1 else max(gpus - CONTEXT_BYTES / memory, gpus / 2)


def lack_of_memory(gpus: Iterable[Gpu], gpus_per_trial: float, need: MemoryNeed) -> str | None:
    """What does not fit, in words; None: the largest training fits into its share of the smallest GPU."""
    smallest = min(gpus, key=lambda gpu: gpu.memory)
    memory = round(min(gpus_per_trial, 1) * smallest.memory)
    if need.total <= memory:
        return None
    part = "a" if gpus_per_trial >= 1 else f"{gpus_per_trial:g} of a"
    return (
        f"the largest network ({need.network}) needs about {_gib(need.total)} at batch size {need.batch_size}, and "
        f"{part} GPU has {_gib(memory)}; networks that do not fit train more slowly, or fail"
    )


def gpus_in_words(nodes: Sequence[GpuNode]) -> str:
    """`2 GPUs (NVIDIA H100, 80 GiB)`."""
    gpus = [gpu for node in nodes for gpu in node.gpus]
    kinds = dict.fromkeys(f"{gpu.name}, {_gib(gpu.memory)}" for gpu in gpus)
    return f"{len(gpus)} GPU{'s' * (len(gpus) > 1)} ({'; '.join(kinds)})"


def use_in_words(gpus_per_trial: float) -> str:
    """`4 trainings share one`."""
    if gpus_per_trial > 1:
        return f"each training has {gpus_per_trial:g}"
    sharing = math.floor(1 / gpus_per_trial + 1e-9)
    return "each training has one" if sharing == 1 else f"{sharing} trainings share one"


def _gib(memory: int) -> str:
    return f"{memory / _GIB:.1f} GiB" if memory < 10 * _GIB else f"{memory / _GIB:.0f} GiB"
