"""Functions run as tasks on a Ray cluster, beside or without a search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from mgnas.errors import first_line

from ..config import Resources

# NOTE: ray_compat sets Ray up, so it stands before Ray.
# isort: split
from . import ray_compat  # noqa: F401

# isort: split
import ray
from ray.exceptions import RayError

from .cluster import Cluster

Result = TypeVar("Result")


def run_tasks(
    function: Callable[..., Result], arguments: Sequence[tuple], resources: Resources, address: str | None
) -> Iterator[tuple[int, Result | None, str]]:
    """Call a function with each of these arguments, as the cluster has room.

    A worker process that dies is started once more, so the function should continue where it was interrupted.

    Args:
        function: can be pickled; should return its failures, because an exception counts as the death of its worker.
        arguments: a tuple for each call.
        resources: what a call takes, named as for a trial, and how many calls may run at the same time.
        address: of a Ray cluster; None: Ray is started on this machine and stopped afterwards.

    Yields:
        (index of the arguments, result, empty text) of each call that ends; (index, None, reason) if its worker died.

    Raises:
        UserError: there is no cluster at the address, or no node is large enough for a call.
    """
    if not arguments:
        return
    together = min(resources.workers or len(arguments), len(arguments))
    with Cluster(replace(resources, workers=together), address) as cluster:
        remote = ray.remote(function).options(
            num_cpus=resources.cpus_per_trial,
            num_gpus=resources.gpus_per_trial,
            resources=resources.custom_per_trial,
            max_retries=1,
        )
        running: dict[ray.ObjectRef, int] = {}
        waiting = list(range(len(arguments)))
        while waiting or running:
            while waiting and len(running) < cluster.limit():
                index = waiting.pop(0)
                running[remote.remote(*arguments[index])] = index
            (reference,), _ = ray.wait(list(running), num_returns=1)
            index = running.pop(reference)
            try:
                result, reason = ray.get(reference), ""
            except RayError as error:
                result, reason = None, first_line(f"the worker died: {first_line(error)}")
            yield index, result, reason
