"""What mgnas needs of Ray beside its public interface: environment variables, and attributes that it may change.

Import Ray after this module only, because some of the variables are read when Ray is imported. Everything here was
checked with Ray 2.60; pyproject.toml keeps Ray below 3.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

logger = logging.getLogger(__name__)

_ENVIRONMENT = {
    # Hide no GPU from a worker that asks for none: its TrialTask says what it uses.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # No output on the terminal, which belongs to the display.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Workers stay in the folder in which the search was started, so relative paths mean the same there.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # No copies of every result in three formats.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A result need not hold an accuracy: that of a failed trial has none.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # No snapshots of the experiment: the run directory is the state of a search.
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    # All workers start at once: the controller bounds how many trials there are.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray._private import ray_constants  # noqa: E402
from ray._private import worker as ray_worker  # noqa: E402
from ray._raylet import (  # noqa: E402
    AuthenticationTokenLoader,  # pyright: ignore[reportAttributeAccessIssue] - a compiled module without types
    Config,  # pyright: ignore[reportAttributeAccessIssue]
)
from ray.air.execution._internal.actor_manager import RayActorManager  # noqa: E402
from ray.exceptions import OutOfMemoryError, RayActorError  # noqa: E402
from ray.train._internal import storage as train_storage  # noqa: E402
from ray.tune.experiment import Trial  # noqa: E402

RAYLET_DIED = "Ray's main process on this machine (raylet) has died, perhaps for lack of memory"
TOKEN = "RAY_AUTH_TOKEN"
_AUTH_MODE = "RAY_AUTH_MODE"
_ALLOW_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_SESSION_FOLDER = "_get_ray_train_session_dir"
_PRINT = "print_to_stdstream"
_TASK_FAILED = "_actor_task_failed"
_DEFAULT_RESULT = "_get_default_result_or_future"


@contextmanager
def environment_kept(*names: str) -> Iterator[None]:
    """A context after which these environment variables have the values that they had before."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def loopback_only() -> Iterator[None]:
    """A context in which a cluster that is started here can be reached from this machine alone.

    Ray replaces a loopback address by the machine's address in the network, unless it believes that its system cannot
    form clusters. That switch is meant for Windows and macOS and has no public name.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    with environment_kept(_ALLOW_CLUSTERS):
        os.environ[_ALLOW_CLUSTERS], ray_constants.ENABLE_RAY_CLUSTER = "0", False
        try:
            yield
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = before


def read_authentication() -> None:
    """Let Ray ask for a token, and give one, as the environment says now. Its C++ part has read that once and early."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def authentication_kept() -> Iterator[None]:
    """A context after which Ray asks for a token only if it did before.

    Starting a cluster switches the tokens on for the whole process. If they stayed on, workers of another cluster could
    not report to this process, and all of them would seem to die.
    """
    try:
        with environment_kept(TOKEN, _AUTH_MODE):
            yield
    finally:
        # The token stays until another one is read, because threads that are still ending may need it.
        Config.initialize("")


@contextmanager
def client_session_folder() -> Iterator[None]:
    """A context in which Ray Tune can keep its scratch files on a machine outside the cluster.

    Tune names their folder after the Ray session of its own node; a machine that connects by ray:// has none.
    """
    before, folder = getattr(train_storage, _SESSION_FOLDER), tempfile.mkdtemp(prefix="mgnas-ray-")
    setattr(train_storage, _SESSION_FOLDER, lambda: folder)
    try:
        yield
    finally:
        setattr(train_storage, _SESSION_FOLDER, before)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def messages_logged() -> Iterator[None]:
    """A context in which what Ray's own processes report goes to the log, not to standard output.

    Ray prints such messages whatever its logging level is, fifty lines when a raylet has died. The function that prints
    has no public name.
    """
    before = getattr(ray_worker, _PRINT)

    def log(data: dict[str, Any], *args: Any, **options: Any) -> None:
        logger.debug("%s", "\n".join(map(str, data.get("lines", ()))))

    setattr(ray_worker, _PRINT, log)
    try:
        yield
    finally:
        setattr(ray_worker, _PRINT, before)


def raylet_died() -> bool:
    """Whether the Ray that this process has started has lost the process without which nothing runs."""
    # Ray knows its child processes only here. A process that has connected to a cluster has none.
    node = cast(Any, ray_worker._global_node)
    return node is not None and any(name == "raylet" for name, _ in node.dead_processes())


@contextmanager
def memory_kills_as_lost_workers() -> Iterator[None]:
    """A context in which Ray Tune treats a worker that Ray's memory monitor kills like any other lost worker.

    Tune knows a lost worker by its RayActorError. The monitor's OutOfMemoryError is of another class, and Tune ends the
    whole experiment after an error that it does not know. Two private methods meet with it: one hears that a worker's
    call failed, the other fetches the values that Tune shows of a trial before its first result.
    """
    task_failed, default_result = getattr(RayActorManager, _TASK_FAILED), getattr(Trial, _DEFAULT_RESULT)

    def lost_if_task_failed(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        task_failed(manager, tracked_actor_task, exception)

    def no_default_result_if_lost(trial: Trial) -> dict[str, Any] | None:
        try:
            return default_result(trial)
        except OutOfMemoryError:
            # As Tune does after a RayActorError.
            trial._default_result_or_future = None
            return None

    setattr(RayActorManager, _TASK_FAILED, lost_if_task_failed)
    setattr(Trial, _DEFAULT_RESULT, no_default_result_if_lost)
    try:
        yield
    finally:
        setattr(RayActorManager, _TASK_FAILED, task_failed)
        setattr(Trial, _DEFAULT_RESULT, default_result)


def set_retries(trial: Trial, retries: int) -> None:
    """Let a trial start again after this number of further failures; Tune's own setting counts for all trials."""
    trial.max_failures = trial.num_failures + retries


def add_retry(trial: Trial) -> None:
    """Do not count a trial's last failure."""
    trial.max_failures += 1


def end_worker(trial: Trial) -> None:
    """Kill the process of a trial, which does not start again. Tune itself ends a trial only between two results."""
    trial.max_failures = 0
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)
