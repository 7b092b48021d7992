"""What is changed in Ray, and that it is changed back."""

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mgnas.search.tuner.ray_compat import (
    TOKEN,
    add_retry,
    authentication_kept,
    client_session_folder,
    end_worker,
    environment_kept,
    loopback_only,
    memory_kills_as_lost_workers,
    read_authentication,
    set_retries,
)

# isort: split
import ray
from ray._private import ray_constants
from ray._private.authentication.authentication_token_setup import enable_token_auth_by_default
from ray._raylet import AuthenticationMode, AuthenticationTokenLoader, get_authentication_mode
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train._internal import storage as train_storage
from ray.tune.experiment import Trial
from ray.util import get_node_ip_address

SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
SESSION_FOLDER = "_get_ray_train_session_dir"


@pytest.mark.parametrize("before", [None, "1"])
def test_a_cluster_is_reached_from_this_machine_alone_only_inside(monkeypatch, before):
    monkeypatch.delenv(SWITCH, raising=False)
    if before is not None:
        monkeypatch.setenv(SWITCH, before)
    allowed = ray_constants.ENABLE_RAY_CLUSTER
    with contextlib.suppress(KeyError), loopback_only():
        assert os.environ[SWITCH] == "0"
        assert get_node_ip_address() == "127.0.0.1"
        raise KeyError
    assert os.environ.get(SWITCH) == before
    assert allowed == ray_constants.ENABLE_RAY_CLUSTER


def test_variables_have_their_values_again(monkeypatch):
    monkeypatch.setenv("MGNAS_KEPT", "1")
    monkeypatch.delenv("MGNAS_NEW", raising=False)
    with environment_kept("MGNAS_KEPT", "MGNAS_NEW"):
        os.environ["MGNAS_KEPT"] = os.environ["MGNAS_NEW"] = "2"
    assert os.environ["MGNAS_KEPT"] == "1"
    assert "MGNAS_NEW" not in os.environ


@pytest.fixture
def no_tokens(monkeypatch, tmp_path):
    """An environment without tokens, which Ray has read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", TOKEN, "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    read_authentication()
    yield
    monkeypatch.undo()
    read_authentication()


def token() -> str:
    return AuthenticationTokenLoader.instance().get_raw_token(ignore_auth_mode=True)


def test_tokens_are_asked_for_only_while_a_cluster_runs_that_was_started_here(no_tokens):
    assert get_authentication_mode() == AuthenticationMode.DISABLED
    with contextlib.suppress(KeyError), authentication_kept():
        os.environ[TOKEN] = "a" * 64
        read_authentication()
        enable_token_auth_by_default()  # as ray.init does that starts a cluster
        assert get_authentication_mode() == AuthenticationMode.TOKEN
        assert token() == "a" * 64
        raise KeyError
    assert get_authentication_mode() == AuthenticationMode.DISABLED
    assert "RAY_AUTH_MODE" not in os.environ
    assert TOKEN not in os.environ


def test_the_token_is_that_of_the_environment(no_tokens, monkeypatch):
    for value in ("b" * 64, "c" * 64):
        monkeypatch.setenv(TOKEN, value)
        read_authentication()
        assert token() == value


def test_a_client_has_a_scratch_folder_that_goes_with_it():
    before = getattr(train_storage, SESSION_FOLDER)
    with client_session_folder():
        folder = Path(getattr(train_storage, SESSION_FOLDER)())
        assert folder.is_dir()
    assert not folder.exists()
    assert getattr(train_storage, SESSION_FOLDER) is before


def task_failure(error: Exception) -> list[Exception]:
    """What Tune hears, first of the worker and then of its call, when a call of a running worker ends with an error."""
    heard = []
    manager = RayActorManager(SimpleNamespace(free_resources=lambda acquired_resource: None))
    worker = TrackedActor(0, on_error=lambda actor, error: heard.append(error))
    manager._live_actors_to_ray_actors_resources[worker] = (None, None)
    call = TrackedActorTask(worker, on_error=lambda actor, error: heard.append(error))
    manager._actor_task_failed(tracked_actor_task=call, exception=error)
    return heard


def test_a_worker_that_the_memory_monitor_kills_is_lost_for_tune_only_inside():
    error = OutOfMemoryError("1 worker(s) were killed due to the node running low on memory.")
    with contextlib.suppress(KeyError), memory_kills_as_lost_workers():
        assert [(type(heard), str(heard)) for heard in task_failure(error)] == [(RayActorError, str(error))] * 2
        raise KeyError
    with pytest.raises(RuntimeError, match="unexpected exception"):
        task_failure(error)


def test_a_trial_whose_worker_the_memory_monitor_kills_before_its_first_result_has_none_only_inside(monkeypatch):
    def killed(ref: ray.ObjectRef):
        raise OutOfMemoryError("1 worker(s) were killed due to the node running low on memory.")

    monkeypatch.setattr(ray, "get", killed)
    trial = Trial("mgnas", stub=True, trial_id="t")
    ref = trial._default_result_or_future = ray.ObjectRef.from_random()
    with pytest.raises(OutOfMemoryError):
        _ = trial.last_result
    assert trial._default_result_or_future == ref
    with contextlib.suppress(KeyError), memory_kills_as_lost_workers():
        assert trial.last_result == {"trial_id": "t"}
        raise KeyError
    trial._default_result_or_future = ref
    with pytest.raises(OutOfMemoryError):
        _ = trial.last_result


def test_other_losses_of_workers_stay_as_they_are():
    error = RayActorError(error_msg="The actor died.", preempted=True)
    with memory_kills_as_lost_workers():
        assert task_failure(error) == [error, error]


def test_retries_are_counted_from_the_failures_so_far():
    trial = Trial("mgnas", stub=True, max_failures=1)
    trial.run_metadata.num_failures = 4
    set_retries(trial, 2)
    assert trial.max_failures == 6
    add_retry(trial)
    assert trial.max_failures == 7
    end_worker(trial)
    assert trial.max_failures == 0
