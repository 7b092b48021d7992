"""Starting Ray on this machine, or connecting to a cluster."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from mgnas.errors import UserError, first_line
from mgnas.machine import check_cores, usable_cores
from mgnas.signals import held_interrupts

from ..config import Resources
from .node import NodeRequirements, difference
from .private_folder import private_folder

# NOTE: ray_compat sets Ray up, so it stands before Ray.
# isort: split
from .ray_compat import (
    TOKEN,
    authentication_kept,
    client_session_folder,
    loopback_only,
    messages_logged,
    read_authentication,
)

# isort: split
import ray
from ray.exceptions import AuthenticationError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

logger = logging.getLogger(__name__)

T = TypeVar("T")

_OBJECT_STORE_BYTES = 150 * 2**20
_PROBE_SECONDS = 120
_LOOK_EVERY = 1.0
_TOKEN_BYTES = 32


def check_address(address: str) -> None:
    """Refuse a text that cannot be a cluster's address.

    Raises:
        UserError: it cannot.
    """
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise UserError(f"--address {address}: expected auto, HOST:PORT or ray://HOST:PORT")


def check_reachable(address: str) -> None:
    """Try to reach a cluster, within seconds. Ray itself would try for minutes and then abort the process.

    Raises:
        UserError: not an address, or nobody answers there.
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
        resources: what a trial takes, and how many trials may run at the same time. `use` replaces them.
        address: of a running cluster; None: one is started on this machine, for this search alone.

    Raises:
        UserError: on entering; this process uses Ray already, or there is no cluster at the address.
    """

    def __init__(self, resources: Resources, address: str | None) -> None:
        self.resources, self.address = resources, address
        self._ray_settings = contextlib.ExitStack()
        self.folder = Path()
        """For scratch files, while the cluster is in use."""
        self._fits, self._looked = 0, -math.inf

    def __enter__(self) -> Cluster:
        if ray.is_initialized():
            # Whatever the user's program does with Ray must go on undisturbed, and Ray has one cluster per process.
            problem = "Ray is in use in this process, by another search or by your own code"
            raise UserError(f"{problem}; wait for that search, call ray.shutdown(), or search in another process")
        try:
            with held_interrupts():
                self.folder = self._ray_settings.enter_context(private_folder())
                self._ray_settings.enter_context(messages_logged())
                self._ray_settings.enter_context(authentication_kept())
                if self.address is None or self.address == "local":
                    self._start()
                else:
                    self._connect(self.address)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        with held_interrupts():
            ray.shutdown()
            self._ray_settings.close()

    @property
    def is_remote(self) -> bool:
        """Whether the cluster was not started for this search."""
        return self.address not in (None, "local")

    def use(self, resources: Resources) -> None:
        """Give each trial these resources from now on.

        Raises:
            UserError: no trial will ever fit.
        """
        self.resources, self._looked = resources, -math.inf
        if self.fits() < 1:
            self._nothing_fits()

    def count(self, resource: str) -> float:
        """How much of a resource the present nodes have in all."""
        return sum(node["Resources"].get(resource, 0.0) for node in _nodes())

    def fits(self) -> int:
        """How many trials the present nodes can run at the same time, whatever `workers` says."""
        if time.monotonic() - self._looked > _LOOK_EVERY:
            self._looked = time.monotonic()
            self._fits = sum(_fits(node["Resources"], self.resources.per_trial) for node in _nodes())
        return self._fits

    def limit(self) -> int:
        """How many trials may run or wait for a node at the same time.

        The number follows the cluster. On a cluster of others it is one more than fits, up to `workers`, because some
        clusters grow when a trial waits.
        """
        workers = self.resources.workers
        if workers is None:
            return max(self.fits(), 1)
        return min(workers, max(self.fits(), 1) + (1 if self.is_remote else 0))

    def check_nodes(self, needs: NodeRequirements, folder: str | None) -> None:
        """Make sure that every node has this process' versions, and sees a folder.

        Args:
            needs: names the versions.
            folder: of the checkpoints; None: nodes need no folder.

        Raises:
            UserError: a node has other versions, or does not see the folder.
        """

        def probe(packages: list[str], folder: str | None) -> tuple[dict[str, str], bool]:
            # A function inside a function travels by value, so a node without mgnas can run it too.
            import importlib.metadata
            import os
            import platform

            versions = {"python": platform.python_version()}
            for package in packages:
                with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                    versions[package] = importlib.metadata.version(package)
            return versions, folder is None or os.path.isdir(folder)  # noqa: PTH112 - pathlib need not be loaded there

        packages = [name for name in needs.versions if name != "python"]
        for node, (versions, sees_folder) in self.ask_nodes(probe, packages, folder):
            trouble = difference(needs.versions, versions)
            if trouble:
                raise UserError(f"--address {self.address}: node {_host(node)} {trouble}")
            if not sees_folder:
                remedy = "name a folder or an address that all nodes reach with --storage"
                raise UserError(f"resources.storage: node {_host(node)} does not see {folder}; {remedy}")

    def ask_nodes(
        self, function: Callable[..., T], *arguments: object, having: str | None = None
    ) -> Iterator[tuple[dict[str, Any], T]]:
        """Call a function on every node at the same time, each in a process that ends afterwards.

        Args:
            function: can be pickled.
            arguments: of the function.
            having: a resource; only nodes that have it are asked. None: all nodes.

        Yields:
            (a node as Ray describes it, the function's result there). A node that does not answer is left out, with a
            warning.
        """
        remote = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(function)
        references = []
        for node in _nodes():
            if having is None or node["Resources"].get(having):
                on_node = remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
                references.append((node, on_node.remote(*arguments)))
        for node, reference in references:
            try:
                yield node, ray.get(reference, timeout=_PROBE_SECONDS)
            except RayError as error:
                name = type(error).__name__
                logger.warning("node %s does not answer (%s); trials may fail there", _host(node), name)

    def _start(self) -> None:
        """Start a cluster that can be reached from this machine alone, and only by processes that know its token."""
        check_cores(self.resources.cpus_per_trial)
        self._ray_settings.enter_context(loopback_only())
        os.environ.setdefault(TOKEN, secrets.token_hex(_TOKEN_BYTES))
        read_authentication()
        try:
            ray.init(
                address="local",  # Without it Ray would look for a cluster that another program has started here.
                num_cpus=max(usable_cores(), (self.resources.workers or 1) * self.resources.cpus_per_trial),
                # Custom resources tell the nodes of a cluster apart; on this machine they must not limit anything.
                resources={name: amount * 1e6 for name, amount in self.resources.custom_per_trial.items()},
                object_store_memory=_OBJECT_STORE_BYTES,
                # Ray lets everybody write there. So it lies below a folder that nobody else may enter.
                _temp_dir=str(self.folder / "r"),
                include_dashboard=False,
                logging_level=logging.CRITICAL,
                log_to_driver=False,
            )
        except Exception as error:
            raise UserError(f"Ray could not be started on this machine ({first_line(error)}); try again") from None

    def _connect(self, address: str) -> None:
        check_reachable(address)
        if address.startswith("ray://"):
            try:
                import grpc  # noqa: F401
            except ImportError:
                raise UserError(f"--address {address}: needs grpcio; pip install 'mgnas[client]'") from None
        read_authentication()
        try:
            ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False)
        except Exception as error:
            if isinstance(error, AuthenticationError) or isinstance(error.__cause__, AuthenticationError):
                reason = "it asks for another token; see RAY_AUTH_TOKEN in docs/clusters.md"
            else:
                reason = first_line(error)
            raise UserError(f"--address {address}: no Ray cluster answers there ({reason})") from None
        if address.startswith("ray://"):
            self._ray_settings.enter_context(client_session_folder())

    def _nothing_fits(self) -> None:
        resources = ray.cluster_resources()
        wanted = ", ".join(f"{amount:g} {name}" for name, amount in self.resources.per_trial.items() if amount)
        available = ", ".join(f"{resources.get(name, 0):g} {name}" for name in self.resources.per_trial)
        if self.is_remote and self.resources.workers is not None:
            logger.warning("no node has room for a trial (%s) yet; waiting for one that joins", wanted)
            return
        hint = "lower resources.*_per_trial"
        if self.resources.gpus and not resources.get("GPU"):
            hint = "train on CPUs with --gpus-per-trial 0"
        if self.is_remote:
            hint += ", or give --workers to wait for nodes that join"
        raise UserError(f"resources: a trial wants {wanted}, but there are {available}; {hint}")


def _host(node: dict[str, Any]) -> str:
    return node["NodeManagerHostname"] or node["NodeManagerAddress"]


def _nodes() -> Iterator[dict[str, Any]]:
    return (node for node in ray.nodes() if node["Alive"])


def _fits(available: dict[str, float], per_trial: dict[str, float]) -> int:
    """How many trials a node can run at the same time."""
    counts = []
    for name, amount in per_trial.items():
        if not amount:
            continue
        have = available.get(name, 0.0)
        # A trial's share of a GPU must lie on one GPU.
        counts.append(have * math.floor(1 / amount + 1e-9) if name == "GPU" and amount < 1 else have / amount + 1e-9)
    return math.floor(min(counts))
