"""The GPUs of a cluster: which there are, and what a training gets of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from mgnas.errors import ConfigError

from ..config import Resources
from .cluster import Cluster
from .gpu_share import (
    Gpu,
    GpuNode,
    MemoryNeed,
    gpus_in_words,
    lack_of_memory,
    share_of,
    trials_per_gpu,
    use_in_words,
)

logger = logging.getLogger(__name__)

_UNUSABLE = "Ray sees GPUs here, but PyTorch can use none of them"

GpuLister = Callable[[Cluster], Sequence[GpuNode]]


def list_gpus(cluster: Cluster) -> list[GpuNode]:
    """The machines of a cluster with GPUs that PyTorch can use there."""

    def probe() -> tuple[list[tuple[str, int]], bool]:
        # A function inside a function travels by value, so a node without mgnas can run it too.
        import os
        import subprocess

        import torch

        # Ray may hide all GPUs from a task that asks for none.
        if not os.environ.get("CUDA_VISIBLE_DEVICES", "all"):
            del os.environ["CUDA_VISIBLE_DEVICES"]
        if not torch.cuda.is_available():
            return [], False
        gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        # The control program answers a question only if its daemon runs.
        try:
            question = b"get_default_active_thread_percentage\n"
            control = ["nvidia-cuda-mps-control"]
            mps = subprocess.run(control, input=question, capture_output=True, timeout=10, check=False).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            mps = False
        return [(gpu.name, gpu.total_memory) for gpu in gpus], mps

    return [
        GpuNode(
            node["NodeManagerHostname"],
            node["Resources"].get("CPU", 0),
            tuple(Gpu(name, size) for name, size in gpus),
            mps,
        )
        for node, (gpus, mps) in cluster.ask_nodes(probe, having="GPU")
        if gpus
    ]


def settle_gpus(
    cluster: Cluster,
    need: Callable[[], MemoryNeed],
    n_trials: int,
    trained_on_gpus: bool | None = None,
    lister: GpuLister = list_gpus,
) -> Resources:
    """Decide what each training gets of the cluster's GPUs, say it in one line, and let the cluster use it.

    Args:
        cluster: its `resources` are the user's: a number of GPUs, or `auto`.
        need: gives the memory of the largest training. It is called only if GPUs are used.
        n_trials: how many trainings there are to be in all.
        trained_on_gpus: whether the search's trials so far were trained on GPUs; None: there are none yet.
        lister: lists the machines with GPUs.

    Returns:
        the resources, with a number of GPUs.

    Raises:
        UserError: no machine has room for a training, PyTorch cannot use the GPUs, or a search that was begun on GPUs
            would continue on CPUs.
    """
    need = cache(need)  # The search for the largest candidate takes up to a second.
    resources, n_gpus = cluster.resources, round(cluster.count("GPU"))
    wanted = gpus = resources.gpus_per_trial
    if wanted == "auto" and trained_on_gpus is False:
        wanted = gpus = 0.0
    nodes = lister(cluster) if n_gpus and wanted != 0 else []
    hint = ""
    if gpus == "auto":
        gpus = 0.0
        if nodes:
            gpus = share_of(trials_per_gpu(nodes, need(), resources, n_trials))
            hint = _hint_at_mps(nodes, need(), resources, n_trials)
        if trained_on_gpus and not nodes:
            problem = "this run's trials were trained on GPUs, and there is none here"
            remedy = "resume it where there is one, or force CPUs with --gpus-per-trial 0"
            raise ConfigError("resources.gpus_per_trial", f"{problem}; {remedy}")
    if gpus and n_gpus and not nodes:
        problem = f"{_UNUSABLE}; install PyTorch for them, or train on CPUs with --gpus-per-trial 0"
        raise ConfigError("resources.gpus_per_trial", problem)
    settled = replace(resources, gpus_per_trial=gpus)
    cluster.use(settled)
    _announce(wanted, gpus, n_gpus, nodes, need, hint)
    return settled


def _hint_at_mps(nodes: Sequence[GpuNode], need: MemoryNeed, resources: Resources, n_trials: int) -> str:
    """What NVIDIA's Multi-Process Service would change, in words; nothing if it runs or changes nothing."""
    without = trials_per_gpu(nodes, need, resources, n_trials)
    with_mps = trials_per_gpu([replace(node, mps=True) for node in nodes], need, resources, n_trials)
    return f"; with NVIDIA's MPS (nvidia-cuda-mps-control -d) {with_mps} would" if with_mps > without else ""


def _announce(
    wanted: float | str, gpus: float, n_gpus: int, nodes: Sequence[GpuNode], need: Callable[[], MemoryNeed], hint: str
) -> None:
    """Say which GPUs are used, and which are not."""
    if nodes:
        logger.info("%s: %s%s", gpus_in_words(nodes), use_in_words(gpus), hint)
        if lack := lack_of_memory([gpu for node in nodes for gpu in node.gpus], gpus, need()):
            logger.warning("%s", lack)
    elif n_gpus and wanted == "auto":
        logger.warning("%s: training on CPUs", _UNUSABLE)
    elif n_gpus:
        plural = "s" * (n_gpus > 1)
        logger.info(
            "%d GPU%s not used, because gpus_per_trial is 0; --gpus-per-trial auto changes that", n_gpus, plural
        )
    elif wanted == "auto":
        logger.info("no GPU here: training on CPUs")
