"""Starting Ray on this machine, or connecting to a cluster. Import Ray behind this module only: it sets Ray up."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from mgnas.errors import UserError

from ..config import Resources
from .node import NodeRequirements, difference

logger = logging.getLogger(__name__)

# Read by Ray when it is imported or started. No second bookkeeping beside the run directory, no callbacks that log
# every result to three formats, no chatter on the terminal, no call home; all workers start at once, since the driver
# bounds how many trials there are.
_RAY_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
}
for _name, _value in _RAY_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray._private import ray_constants  # noqa: E402
from ray.train._internal import storage as train_storage  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

_OBJECT_STORE_BYTES = 150 * 2**20
_PROBE_SECONDS = 120
_LOOK_EVERY = 1.0
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_TOKEN = "RAY_AUTH_TOKEN"
# One for all clusters that this process starts, because Ray reads it once.
_OWN_TOKEN = secrets.token_hex(32)


def check_address(address: str) -> None:
    """Refuse what can be no cluster's address.

    Raises:
        UserError: it cannot.
    """
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise UserError(f"--address {address}: expected auto, HOST:PORT or ray://HOST:PORT")


def check_reachable(address: str) -> None:
    """Ray itself tries for minutes, and aborts the process, where nobody listens.

    Raises:
        UserError: not an address, or nobody answers.
    """
    check_address(address)
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, UnicodeError) as error:
        raise UserError(f"--address {address}: no Ray cluster answers there ({error})") from None


class Cluster:
    """The Ray cluster that a search runs on; a context manager.

    Args:
        resources: what a trial takes, and how many may run at the same time.
        address: of a running cluster; None: one is started on this machine, for this search alone.

    Raises:
        UserError: on entering, if there is no cluster at the address, or no trial will ever fit.
    """

    def __init__(self, resources: Resources, address: str | None) -> None:
        self.resources, self.address = resources, address
        self._restore: Callable[[], None] = lambda: None
        self._fits, self._looked = 0, -math.inf

    def __enter__(self) -> Cluster:
        if self.address in (None, "local"):
            self._start()
        else:
            self._connect(self.address)
        try:
            if self.fits() < 1:
                self._nothing_fits()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        ray.shutdown()
        self._restore()

    @property
    def is_remote(self) -> bool:
        """Whether the cluster was not started for this search."""
        return self.address not in (None, "local")

    def fits(self) -> int:
        """How many trials the nodes hold at the same time as things are now, `workers` left out."""
        if time.monotonic() - self._looked > _LOOK_EVERY:
            self._looked = time.monotonic()
            self._fits = sum(_fits(node["Resources"], self.resources.per_trial) for node in _nodes())
        return self._fits

    def limit(self) -> int:
        """How many trials may run or wait for a node at the same time.

        It follows the cluster. One that grows when something waits is given something, up to `workers`.
        """
        workers = self.resources.workers
        if workers is None:
            return max(self.fits(), 1)
        return min(workers, max(self.fits(), 1) + (1 if self.is_remote else 0))

    def check_nodes(self, needs: NodeRequirements, folder: str | None) -> None:
        """Make sure that every node has the driver's versions, and sees a folder.

        Args:
            needs: what a node must have.
            folder: one that holds run.json with the run's checkpoints beside it; None: none is needed.

        Raises:
            UserError: a node does not, or does not answer.
        """

        def probe(packages: list[str], place: str | None) -> tuple[dict[str, str], bool]:
            # A function inside a function travels by value, so a node without mgnas can run it too.
            import importlib.metadata
            import os
            import platform

            found = {"python": platform.python_version()}
            for package in packages:
                with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                    found[package] = importlib.metadata.version(package)
            return found, place is None or os.path.isdir(place)  # noqa: PTH112 - a node need not have pathlib loaded

        remote = ray.remote(num_cpus=0, max_retries=0)(probe)
        packages = [name for name in needs.versions if name != "python"]
        asked = {}
        for node in _nodes():
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[node["NodeManagerHostname"] or node["NodeManagerAddress"]] = remote.options(
                scheduling_strategy=here
            ).remote(packages, folder)
        for host, reference in asked.items():
            try:
                versions, sees = ray.get(reference, timeout=_PROBE_SECONDS)
            except ray.exceptions.RayError as error:
                logger.warning("node %s does not answer (%s); trials may fail there", host, type(error).__name__)
                continue
            trouble = difference(needs.versions, versions)
            if trouble:
                raise UserError(f"--address {self.address}: node {host} {trouble}")
            if not sees:
                remedy = "name a folder or an address that all nodes reach with --storage"
                raise UserError(f"resources.storage: node {host} does not see {folder}; {remedy}")

    def _start(self) -> None:
        """A cluster of this machine: reached from this machine alone, and only by who knows its token."""
        before = {name: os.environ.get(name) for name in (_TOKEN, _LOOPBACK, "RAY_AUTH_MODE")}
        clusters = ray_constants.ENABLE_RAY_CLUSTER
        # NOTE: Ray resolves a loopback address to that of the network; this is its own switch (for other systems).
        os.environ[_LOOPBACK], ray_constants.ENABLE_RAY_CLUSTER = "0", False
        os.environ.setdefault(_TOKEN, _OWN_TOKEN)

        def restore() -> None:
            ray_constants.ENABLE_RAY_CLUSTER = clusters
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

        self._restore = restore
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        try:
            ray.init(
                address="local",  # Without it Ray would look for a cluster that somebody else has started here.
                num_cpus=max(cores, (self.resources.workers or 1) * self.resources.cpus_per_trial),
                # What the nodes of a cluster are told apart by is no limit here.
                resources={name: amount * 1e6 for name, amount in self.resources.custom_per_trial.items()},
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                logging_level=logging.CRITICAL,
                log_to_driver=False,
            )
        except Exception as error:
            ray.shutdown()
            restore()
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"Ray could not be started on this machine ({reason}); try again") from None

    def _connect(self, address: str) -> None:
        check_reachable(address)
        if address.startswith("ray://"):
            try:
                import grpc  # noqa: F401
            except ImportError:
                raise UserError(f"--address {address}: needs grpcio; pip install 'mgnas[client]'") from None
        try:
            ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False)
        except Exception as error:
            ray.shutdown()
            cause = error.__cause__ if isinstance(error.__cause__, ray.exceptions.AuthenticationError) else error
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            if isinstance(cause, ray.exceptions.AuthenticationError):
                reason = "it asks for another token; see RAY_AUTH_TOKEN in docs/clusters.md"
            raise UserError(f"--address {address}: no Ray cluster answers there ({reason})") from None
        if address.startswith("ray://"):
            self._restore = _give_client_a_session_folder()

    def _nothing_fits(self) -> None:
        there = ray.cluster_resources()
        wanted = ", ".join(f"{amount:g} {name}" for name, amount in self.resources.per_trial.items() if amount)
        available = ", ".join(f"{there.get(name, 0):g} {name}" for name in self.resources.per_trial)
        if self.is_remote and self.resources.workers is not None:
            logger.warning("no node has room for a trial (%s) yet; waiting for one that joins", wanted)
            return
        hint = "lower resources.*_per_trial"
        if self.is_remote:
            hint += ", or give --workers to wait for nodes that join"
        raise UserError(f"resources: a trial wants {wanted}, but there are {available}; {hint}")


def _give_client_a_session_folder() -> Callable[[], None]:
    """Ray Tune names the driver's scratch folder after its node's session, which a driver outside has not.

    Returns:
        what undoes it.
    """
    before, folder = train_storage._get_ray_train_session_dir, tempfile.mkdtemp(prefix="mgnas-ray-")
    train_storage._get_ray_train_session_dir = lambda: folder

    def restore() -> None:
        train_storage._get_ray_train_session_dir = before
        shutil.rmtree(folder, ignore_errors=True)

    return restore


def _nodes() -> Iterator[dict[str, Any]]:
    return (node for node in ray.nodes() if node["Alive"])


def _fits(there: dict[str, float], per_trial: dict[str, float]) -> int:
    """How many trials a node holds."""
    counts = []
    for name, amount in per_trial.items():
        if not amount:
            continue
        have = there.get(name, 0.0)
        # A share of a GPU does not span two of them.
        counts.append(have * math.floor(1 / amount + 1e-9) if name == "GPU" and amount < 1 else have / amount + 1e-9)
    return math.floor(min(counts))
