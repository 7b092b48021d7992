"""A trial as Ray Tune sees it, without Ray."""

import socket

import pytest

from mgnas.search.tuner.node import NodeRequirements, installed_versions
from mgnas.search.tuner.trainable import RayTrial

GOES_ON = {"curve": [0.5], "loss": 1.0, "seconds": 1.0, "finished": False, "failure": None, "stop": None, "note": ""}


class Echo:
    """A worker whose task is its result."""

    def __init__(self, task: dict) -> None:
        self.task = task

    def step(self) -> dict:
        return self.task


def started(task: dict, needs: NodeRequirements) -> RayTrial:
    """Ray's own constructor needs a running Ray; `setup` is all that it calls here."""
    trial = RayTrial.__new__(RayTrial)
    trial.setup({"task": task}, Echo, needs)
    return trial


@pytest.mark.parametrize(
    ("changes", "done"),
    [({}, False), ({"finished": True}, True), ({"failure": "diverged"}, True), ({"stop": "no disk"}, True)],
)
def test_a_trial_is_done_when_its_worker_has_nothing_more_to_do(changes, done):
    trial = started(GOES_ON | changes, NodeRequirements(installed_versions()))
    assert trial.step() == GOES_ON | changes | {"accuracy": 0.5, "done": done}


def test_a_result_without_a_curve_has_no_accuracy():
    trial = started(GOES_ON | {"curve": []}, NodeRequirements(installed_versions()))
    assert "accuracy" not in trial.step()


def test_the_process_is_used_again_for_the_next_trial():
    trial = started(GOES_ON, NodeRequirements(installed_versions()))
    assert trial.reset_config({"task": GOES_ON | {"curve": [0.5, 0.75]}})
    assert trial.step()["accuracy"] == 0.75


def test_a_process_whose_gpu_has_failed_raises_so_that_ray_replaces_it():
    broken = GOES_ON | {"failure": "RuntimeError: CUDA error: unspecified launch failure", "broken": True}
    trial = started(broken, NodeRequirements(installed_versions()))
    with pytest.raises(RuntimeError, match=r"no longer use its GPU \(RuntimeError: CUDA error: unspecified"):
        trial.step()


def test_a_node_that_cannot_train_stops_the_search_with_its_name():
    trial = started(GOES_ON, NodeRequirements(installed_versions() | {"torch": "1.0"}))
    result = trial.step()
    assert result["done"]
    assert result["failure"] is None
    assert result["stop"].startswith(f"node {socket.gethostname()} has torch ")
