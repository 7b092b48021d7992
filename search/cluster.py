"""Starting Ray on this machine, or connecting to a cluster. Import Ray behind this module only: it sets Ray up."""

from __future__ import annotations

import logging
import math
import os
import socket
from typing import Any

from ..models.errors import UserError
from .search_config import Resources

# Read by Ray when it is imported or started. No second bookkeeping beside the run directory, no callbacks that log
# every result to three formats, no chatter on the terminal, no call home.
_RAY_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
}
for _name, _value in _RAY_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402

_OBJECT_STORE_BYTES = 150 * 2**20


def check_reachable(address: str) -> None:
    """Ray itself tries for minutes, and aborts the process, where nobody listens.

    Raises:
        UserError: not an address, or nobody answers.
    """
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"--address {address}: expected auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"--address {address}: no Ray cluster answers there ({error})") from None


def connect(resources: Resources, address: str | None) -> int:
    """Connect or start, and say how many trials fit at the same time."""
    quiet: dict[str, Any] = {}
    if address is None:
        quiet["include_dashboard"] = False
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        quiet["num_cpus"] = max(cores, (resources.workers or 1) * resources.cpus_per_trial)
        quiet["object_store_memory"] = _OBJECT_STORE_BYTES
    else:
        check_reachable(address)
    try:
        ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--address {address}: no Ray cluster answers there ({reason})") from None
    there = ray.cluster_resources()
    fits = math.floor(there.get("CPU", 0) / resources.cpus_per_trial)
    if resources.gpus_per_trial:
        fits = min(fits, math.floor(there.get("GPU", 0) / resources.gpus_per_trial))
    if fits < 1:
        ray.shutdown()
        available = f"{there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs"
        wanted = f"{resources.cpus_per_trial} CPUs and {resources.gpus_per_trial:g} GPUs"
        raise UserError(f"resources: a trial wants {wanted}, but there are {available}; lower resources.*_per_trial")
    return min(fits, resources.workers or fits)
