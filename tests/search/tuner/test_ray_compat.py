"""What is changed in Ray, and that it is changed back."""

import contextlib
import os
from pathlib import Path

import pytest

from mgnas.search.tuner.ray_compat import (
    add_retry,
    client_session_folder,
    end_worker,
    environment_kept,
    loopback_only,
    set_retries,
)

# isort: split
from ray._private import ray_constants
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


def test_a_client_has_a_scratch_folder_that_goes_with_it():
    before = getattr(train_storage, SESSION_FOLDER)
    with client_session_folder():
        folder = Path(getattr(train_storage, SESSION_FOLDER)())
        assert folder.is_dir()
    assert not folder.exists()
    assert getattr(train_storage, SESSION_FOLDER) is before


def test_retries_are_counted_from_the_failures_so_far():
    trial = Trial("mgnas", stub=True, max_failures=1)
    trial.run_metadata.num_failures = 4
    set_retries(trial, 2)
    assert trial.max_failures == 6
    add_retry(trial)
    assert trial.max_failures == 7
    end_worker(trial)
    assert trial.max_failures == 0
