"""Functions run as tasks on a Ray cluster, beside or without a search."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from mgnas.errors import SearchStoppedError, first_line

from ..config import Resources
from .gpu_share import MemoryNeed

# NOTE: ray_compat sets Ray up, so it stands before Ray.
# isort: split
from .ray_compat import RAYLET_DIED, raylet_died

# isort: split
import ray
from ray.exceptions import RayError

from .cluster import Cluster
from .gpus import GpuLister, list_gpus, settle_gpus

Result = TypeVar("Result")

_LOOK_EVERY = 1.0


def run_tasks(
    function: Callable[..., Result],
    arguments: Sequence[tuple],
    resources: Resources,
    address: str | None,
    need: Callable[[], MemoryNeed],
    lister: GpuLister = list_gpus,
    on_look: Callable[[Collection[int]], None] = lambda running: None,
) -> Iterator[tuple[int, Result | None, str]]:
    """Call a function with each of these arguments and the resources of a call, as the cluster has room.

    A worker process that dies is started once more, so the function should continue where it was interrupted. On GPUs
    every call has a process of its own, so that neither memory nor a broken CUDA context is handed on.

    Args:
        function: can be pickled; should return its failures, because an exception counts as the death of its worker.
            Its last argument is `resources` with a number of GPUs.
        arguments: a tuple for each call, without the last one.
        resources: what a call takes, named as for a trial, and how many calls may run at the same time. If the cluster
            has no room for that many GPUs, `auto` decides.
        address: of a Ray cluster; None: Ray is started on this machine and stopped afterwards.
        need: gives the memory of the largest call on a GPU.
        lister: lists the machines with GPUs; tests give others.
        on_look: called about once a second with the indices of the calls that run.

    Yields:
        (index of the arguments, result, empty text) of each call that ends; (index, None, reason) if its worker died.

    Raises:
        UserError: there is no cluster at the address, or no node is large enough for a call.
        SearchStoppedError: Ray has died.
    """
    if not arguments:
        return
    if resources.workers is not None:  # Without a number there are as many as the cluster has room for.
        resources = replace(resources, workers=min(resources.workers, len(arguments)))
    with Cluster(resources, address) as cluster:
        if cluster.fits() < 1:
            cluster.resources = replace(cluster.resources, gpus_per_trial="auto")
        settled = settle_gpus(cluster, need, len(arguments), lister=lister)
        # NOTE: max_calls cannot be an option of a call. Any, because Ray's types have no function of any arguments.
        remote: Any = ray.remote(max_calls=1 if settled.gpus else 0)(function).options(
            num_cpus=settled.cpus_per_trial,
            num_gpus=settled.gpus,
            resources=settled.custom_per_trial,
            max_retries=1,
        )
        running: dict[ray.ObjectRef, int] = {}
        waiting = list(range(len(arguments)))
        while waiting or running:
            while waiting and len(running) < cluster.limit():
                index = waiting.pop(0)
                running[remote.remote(*arguments[index], settled)] = index
            ended, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_EVERY)
            if raylet_died():  # Ray would end this process a few seconds later, without a word.
                raise SearchStoppedError(f"{RAYLET_DIED}; the same command continues")
            on_look(running.values())
            if not ended:
                continue
            (reference,) = ended
            index = running.pop(reference)
            try:
                result, reason = ray.get(reference), ""
            except RayError as error:
                result, reason = None, first_line(f"the worker died: {first_line(error)}")
            yield index, result, reason
